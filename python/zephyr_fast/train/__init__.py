"""Training on token shards with TRL: `python -m zephyr_fast.train sft|dpo`.

sft, dpo       the two training methods: parse arguments, train, save the model
distill        the loss of an SFT run with a teacher
trainers       TRL trainers that several methods build on
run            the steps common to all methods: settings, splits, training, evaluation, saving
ordered        a trainer mixin that reads shards in order and resumes at the exact row
packing        the decision to pack documents, and unpacking if the model does not isolate them
isolation      the measurement behind it; `isolation_documents` has the documents it uses
causality      a check that the model is causal, and has the log-probs of its logits
dropout        DPO without dropout
padding_free   packing of completions inside the model's forward pass
evaluation     exact means over the rows of an evaluation
divergence     stops a run whose loss, gradient or weights are not finite
errors         errors with an exit code of their own
token_counts   the number of trained tokens, without padding
precision      adapters in float32, and a check that the first steps move weights
saving         models that are ready to generate, in checkpoints and at the end
metrics        the share of pairs whose chosen completion has the higher log-prob
configs        arguments from YAML and the command line, and replacements of old keys
unsupported_keys  keys that are rejected, with their replacements
intervals      intervals of 0 steps, or without effect
ranges         numbers that are out of range
effects        options that would have no effect on a run
adapter_targets  names of an adapter that match nothing in the model
config_file    a YAML parser for untrusted files
model          the model a run starts from, and checks against the shards
tokenizer_ids  a warning where transformers tokenizes otherwise than the shards were
architecture   models that are not language models, or lack weights
trust          protection against model directories that are malicious or malformed
checkpoint     checks of a checkpoint before a run resumes from it
complete       checkpoints from which a run resumes as if it had never stopped
resumed        checkpoints of another model, adapter, reference or optimizer
optimizers     errors that name the option of an optimizer or schedule
merge          an adapter and its base model as one model
chat           a dialogue with a saved model or adapter
ref_logprobs/  stored log-probs of a reference model
"""
