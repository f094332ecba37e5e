"""Expose shards as a plain `datasets.Dataset` with one document per row, for other trainers.

Trainers that do not know `seq_lengths` let the documents of a packed row see each other. A row with
one document is safe with every collator. The columns point into the mapped files, so this copies
nothing but the document boundaries.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset

from zephyr_fast._core import ConfigError
from zephyr_fast.dataset.product import Product
from zephyr_fast.load.columns import Batch
from zephyr_fast.load.shards import Shards
from zephyr_fast.untrusted.message import Ints, Lists


def open_documents(folder: str | Path, split: str = "train") -> Dataset:
    """Open a split of packed sequences with one document per row.

    A document is one dialogue as `prep` tokenized it. With `compat = "trl-0.7"`, which cuts
    sequences from one long text, it is a sequence. Documents are in the order of the shards. All
    batches are verified before this returns.

    Args:
        folder: Directory or URL of a dataset of `zephyr-fast prep`.
        split: Name of the split, e.g. `train`.

    Returns:
        A dataset with the columns `input_ids` and `labels` (lists of int32; the label is -100 where
        a token does not contribute to the loss) and `attention_mask` (lists of int8, all 1). It
        supports `select`, `map`, `to_parquet` and `save_to_disk`.

    Raises:
        ConfigError: If the dataset has pairs, which are not packed.
        InputError: If there is no such dataset or split.
        IntegrityError: If a shard does not match the manifest.

    Example:
        >>> open_documents(out).column_names
        ['input_ids', 'labels', 'attention_mask']
    """
    rows = Shards(folder, split)
    if rows.kind is not Product.WINDOWS:
        raise ConfigError(
            f"`{folder}` has pairs, which are one per row already; read them with `open_shards`"
        )
    tables = [_table(batch) for batch in rows.batches()]
    return Dataset(pa.concat_tables(tables), fingerprint=f"{rows.identity[:48]}-{split}")


def _table(batch: Batch) -> pa.Table:
    """Return the documents of one batch."""
    ids, labels, lengths = (batch[name] for name in ("input_ids", "labels", "seq_lengths"))
    assert isinstance(ids, Lists) and isinstance(labels, Lists) and isinstance(lengths, Lists)
    ends = np.append(np.int32(0), np.cumsum(_used(lengths), dtype=np.int32))
    return pa.table(
        {
            "input_ids": _lists(ends, _used(ids)),
            "labels": _lists(ends, _used(labels)),
            "attention_mask": _lists(ends, np.ones(ends[-1], np.int8)),
        }
    )


def _used(lists: Lists) -> Ints:
    """Return the values of all lists, one after the other."""
    return lists.values[lists.offsets[0] : lists.offsets[-1]]


def _lists(ends: Ints, values: Ints) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(values))
