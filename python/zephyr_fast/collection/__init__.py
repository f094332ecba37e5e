"""What commands share that ask many questions and write the answers as rows of a directory.

run          asks what is open, then writes the rows from the log alone
directory    the files of such a directory, and the settings that it belongs to
prompt_file  messages of a prompt in a text file, with names to fill in
prompts      prompts and seeds from JSONL, Parquet or text files
drawn        choices by hash, so that order and number of rows do not matter
"""
