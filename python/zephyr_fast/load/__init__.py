"""A data set to batches: rows straight from the mapped files, in an order that a run can resume.

index         `open_shards`: a split as the `datasets.Dataset` that trainers take
shards        `Shards`: the rows of a split by number, checked as they are first read
columns       the columns of shards, product by product
samples       many rows at a time, and what one sample is
mixture       several data sets as one, by weight
order         which row comes at which index of the endless stream
permutation   the shuffle of an epoch, computed and never stored
stream        cuts the stream into training steps, and says where a run is
loader        gives each rank its part of each step
agreement     checks that all ranks read the same stream
collators     samples to tensors that keep packed documents apart
gather        the plainest collator: one int32 tensor

These need numpy, some of them torch and `datasets`: `zephyr_fast` imports them on first use.
"""
