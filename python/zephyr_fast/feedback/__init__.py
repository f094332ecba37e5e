"""AI feedback: models answer prompts, judges rate the answers, and a report shows judges' biases.

collect     the run: options, its directory, its rows
principles  the system prompt that a model answers with, by the prompt's source
answers     which models answer a prompt, and what they are asked
judging     what judges are asked, and how their answers are read
rows        answers and verdicts to a raw UltraFeedback row
report      biases of judges, their agreement, and the ranking of models
tally       counts of a run: answers, failures, verdicts
"""
