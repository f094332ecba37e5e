"""Shared by commands that send many calls and write the answers as rows in a directory.

run          sends the open calls, then writes the rows from the log only
directory    the files of such a directory, and the settings that it was created with
prompt_file  messages of a prompt in a text file, with placeholders
prompts      prompts and seeds from JSONL, Parquet or text files
parquet      columns of Parquet files, read in a child process
drawn        choices by hash, independent of the order and number of rows
"""
