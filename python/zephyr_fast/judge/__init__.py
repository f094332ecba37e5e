"""Reads the verdict of a judge from its answer: one number, or a failure with its reason.

Two readings, which are never mixed. The first reads the text, strictly: nothing is guessed,
rounded, clamped or replaced by a default. The second reads log-probs of one token.

scale      the numbers that a verdict may be, and what a reading returns
verdict    the verdict of a text: after a label, or in double brackets
sections   the part of a judge's answer about each text that it was shown
expected   the expected number over the log-probs of the first token
"""
