"""Training on token shards: `python -m zephyr_fast.train sft|dpo`, each act one file, TRL does the work."""
