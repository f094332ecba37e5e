"""Stored log-probs of a reference model, which replace the model in memory.

compute   `ref_logprobs`: one forward pass over the pairs, in parts that a later run can resume
store     the on-disk format: key, files and checks
attach    the log-probs for a training run, after a check that they match its initial weights
weights   a digest of a model's weight files
"""
