"""The log-probs of a reference model, stored beside the pairs, instead of the model in memory.

compute   `ref_logprobs`: one forward pass over the pairs, in parts that a later run can go on from
store     their files: what they depend on, how they are written, how they are checked
attach    gives a run the log-probs of its own first weights, or refuses it
weights   a digest of the weights that a model name would load
"""
