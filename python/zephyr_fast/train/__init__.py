"""Training on token shards with TRL: `python -m zephyr_fast.train sft|dpo`, one file per act.

sft, dpo       the two acts: arguments in, a trained model in the output folder
distill        the loss of a run with a teacher
trainers       the trainers of TRL that more than one act builds on
run            what every act does: settle arguments, open splits, train, measure, save
ordered        lets a trainer read shards in our order, and resume at the very next row
padding_free   lets a model compute pairs without padding
metrics        how often a model prefers the chosen answer
configs        arguments from YAML and the command line, and what replaced old keys
config_file    reads a YAML file that others may have written
model          which model a run starts from, and whether the shards fit it
trust          what a folder of weights may not do to this process
checkpoint     looks through a checkpoint before a run resumes from it
ref_logprobs/  the stored log-probs of a reference model
"""
