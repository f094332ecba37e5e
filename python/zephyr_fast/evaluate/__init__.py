"""Measures trained models: MT-Bench, AlpacaEval and leaderboard tasks, and compares the results.

mt_bench           a model answers questions of two turns, and judges rate them
mt_bench_scores    judgements to figures by turn and category
alpaca_eval        a judge prefers the model's output or a baseline's
length_controlled  AlpacaEval's length-controlled rate, by the package `alpaca_eval`
leaderboard        tasks of lm-eval in a child process
win_rate           preferences to a win rate
scored             results of annotations and judgements that exist
local_model        answers of a model in a local directory
asking             asks the evaluated model and its judges, and returns their replies
prompts            the judge's prompts
result             one result: the figures of one model by one judge, as a JSON file
comparison         a table of results and published figures
radar              a radar or bars of MT-Bench's categories
intervals          means and bootstrap intervals
rows               rows of JSON and JSONL files from others, read with limits
errors             errors with an exit code of their own
"""
