"""Raw rows to a dataset: `prep`, `binarize`, and the Python code around the core.

run          the two functions: they resolve all that a run needs and call the core
plan         the plan of a run, for `--dry-run`
recipe       finds a data recipe and applies overrides
recipe_keys  lists the keys of recipes, with type, default and meaning
inputs       resolves input files and the tokenizer, locally or from the Hub
directories  finds the files of rows in a directory
spool        stores stdin, URLs and Python objects in temporary files
encode       dialogues to token ids and labels in memory
canary       tries an unknown chat template in a separate process first
progress     the counters of a run, and progress bars
summary      the short table that a finished run prints
"""
