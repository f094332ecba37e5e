"""Measures trained models: MT-Bench, AlpacaEval and leaderboard tasks, and compares the results.

result            one result: the figures of one model by one judge, as a JSON file
errors            errors with an exit code of their own
intervals         means, standard errors and bootstrap intervals
records           rows of JSON and JSONL files from others, read with limits
output            the output directory of an evaluation, and its settings
win_rate          preferences to a win rate
"""
