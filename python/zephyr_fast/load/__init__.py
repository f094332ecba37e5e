"""Turn a dataset into batches: memory-mapped rows in an order that a run can resume.

index         `open_shards`: a split as the `datasets.Dataset` that trainers expect
documents     `open_documents`: a split with one document per row, for other trainers
shards        `Shards`: the rows of a split by number, verified before their first use
columns       the columns of the shards, per product
samples       access to many rows at once, and the type of one sample
mixture       several datasets as one, with weights
order         the row at each index of the endless training stream
permutation   the shuffle of an epoch, computed on the fly and never stored
stream        training steps of the stream, and the position of a run
loader        one rank's part of each step
rank_check    a check that all ranks read the same stream
collators     batches of tensors in which packed documents are isolated
gather        `PlainCollator`: all columns in one int32 tensor

The modules need numpy, and some need torch and `datasets`. `zephyr_fast` imports them lazily.
"""
