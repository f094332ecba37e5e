"""Generates dialogues by self-instruct: a teacher answers, and a model writes the user's messages.

dialogues  the run: options, its directory, its rows
sectors    the materials of each sector: topics, seeds, prompts, texts
"""
