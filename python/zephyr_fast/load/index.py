"""Expose shards as a `datasets.Dataset`, the only map-style type that TRL accepts.

The dataset is an index of row numbers, with a transform that fetches the rows.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from zephyr_fast._core import ConfigError
from zephyr_fast.load.mixture import Mixture
from zephyr_fast.load.order import Order, Shuffled
from zephyr_fast.load.permutation import Indices
from zephyr_fast.load.samples import Sample
from zephyr_fast.load.shards import Shards
from zephyr_fast.load.stream import PADDING

_OWN = ("row", "length")


class Fetch:
    """Transform of an index dataset: maps row numbers to samples with their trained columns.

    Columns that `Dataset.map` has added are kept.
    """

    def __init__(self, shards: Shards | Mixture) -> None:
        self.shards = shards

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        samples = self.shards.samples(batch["row"])
        fetched = {
            name: [sample[name] for sample in samples] for name in self.shards.kind.trained_columns
        }
        return fetched | {name: batch[name] for name in batch if name not in _OWN}


def open_shards(folder: str | Path, split: str = "train") -> Dataset:
    """Open a split as an index dataset.

    Samples are numpy views with the columns `input_ids`, `labels` and `seq_lengths` (sft), or
    `prompt_ids`, `chosen_ids` and `rejected_ids` (preference), all int32. Use it with a collator of
    `zephyr_fast.load.collators` and `remove_unused_columns=False`. `with_lengths` adds the column
    that `train_sampling_strategy: group_by_length` needs.

    Args:
        folder: Directory or URL of a dataset.
        split: Name of the split, e.g. `train`.

    Raises:
        InputError: If there is no such dataset or split.
        IntegrityError: If a shard does not match the manifest; see `Shards`.
    """
    return index(Shards(folder, split))


def index(shards: Shards | Mixture) -> Dataset:
    """Return the index dataset of `shards`, which holds only row numbers."""
    return _with_fetch(Dataset.from_dict({"row": np.arange(len(shards))}), shards)


def is_index(dataset: object) -> bool:
    """Return whether this is the index dataset of shards, or a selection of its rows."""
    kwargs = dataset.format["format_kwargs"] if isinstance(dataset, Dataset) else {}
    return isinstance(kwargs.get("transform"), Fetch)


def with_lengths(dataset: Dataset) -> Dataset:
    """Return the index with a column `length`, the tokens of each sample.

    Reads and verifies every batch of the shards.
    """
    lengths = IndexRows(dataset).shards.lengths()
    numbers = dataset.with_format("numpy", columns=["row"])["row"][:]
    return _with_fetch(Dataset.from_dict({"row": numbers, "length": lengths}), _fetched(dataset))


def with_columns(dataset: Dataset, columns: Mapping[str, npt.NDArray[Any]]) -> Dataset:
    """Return the index with extra columns, one value per row, which end up in the samples."""
    shards = _fetched(dataset)
    for name, values in columns.items():
        dataset = dataset.add_column(name, values)  # resets the format, and with it the transform
    return _with_fetch(dataset, shards)


class Selection:
    """Some rows of a split, as `Dataset.select` returns them, in a new order for each epoch."""

    def __init__(self, shards: Shards | Mixture, rows: Indices) -> None:
        if isinstance(shards, Mixture) and shards.weights is not None:
            raise ConfigError("rows of a weighted mixture cannot be selected")
        self._shards, self._rows = shards, rows
        self.kind, self.manifests = shards.kind, shards.manifests
        self.folder = shards.folder
        digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
        self.identity = hashlib.sha256(f"{shards.identity} {digest}".encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._rows)

    def order(self, seed: int) -> Order:
        """Return the order in which training reads the rows."""
        return Shuffled(len(self), seed)

    def samples(self, rows: Sequence[int] | Indices) -> Sequence[Sample]:
        """Return the samples of these rows, counted within the selection."""
        numbers = [PADDING if row == PADDING else int(self._rows[row]) for row in rows]
        return self._shards.samples(numbers)

    def lengths(self) -> npt.NDArray[np.int64]:
        """Return the tokens per sample."""
        return self._shards.lengths()[self._rows]


class IndexRows:
    """The rows of an index dataset, many at a time.

    It bypasses `datasets`, whose overhead exceeds the cost of reading the rows. Columns added to
    the index, such as stored reference log-probs, are part of the samples.

    Raises:
        ConfigError: If the dataset is not an index of shards, or a selection of a weighted mixture.
    """

    def __init__(self, dataset: Dataset) -> None:
        if not is_index(dataset):
            raise ConfigError(
                "the training data must be a split as returned by `open_shards`, or a selection "
                "of its rows"
            )
        transform: Fetch = dataset.format["format_kwargs"]["transform"]
        numbers = dataset.with_format("numpy", columns=["row"])["row"][:]
        self.shards: Shards | Mixture | Selection = transform.shards
        if not np.array_equal(numbers, np.arange(len(transform.shards))):
            self.shards = Selection(transform.shards, np.asarray(numbers, dtype=np.int64))
        added = [name for name in dataset.column_names if name not in _OWN]
        self._added: dict[str, npt.NDArray[Any]] = (
            dict(dataset.with_format("numpy", columns=added)[:]) if added else {}
        )

    def __len__(self) -> int:
        return len(self.shards)

    def order(self, seed: int) -> Order:
        """Return the order in which training reads the rows."""
        return self.shards.order(seed)

    def samples(self, rows: Sequence[int] | Indices) -> Sequence[Sample]:
        """Return the samples of these rows; row `PADDING` gives one without label tokens."""
        samples = self.shards.samples(rows)
        if not self._added:
            return samples
        return [
            sample | {name: column[row] for name, column in self._added.items()}
            for sample, row in zip(samples, rows, strict=True)
        ]


def _fetched(dataset: Dataset) -> Shards | Mixture:
    IndexRows(dataset)  # raises if it is not an index
    shards: Shards | Mixture = dataset.format["format_kwargs"]["transform"].shards
    return shards


def _with_fetch(rows: Dataset, shards: Shards | Mixture) -> Dataset:
    return rows.with_transform(Fetch(shards), columns=["row"], output_all_columns=True)
