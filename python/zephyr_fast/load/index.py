"""Shards as a `datasets.Dataset`, the only map-style type that TRL takes: an index whose
transform fetches rows.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset

from zephyr_fast._core import ConfigError
from zephyr_fast.load.mixture import Mixture
from zephyr_fast.load.order import Order
from zephyr_fast.load.permutation import Indices
from zephyr_fast.load.samples import Sample
from zephyr_fast.load.shards import Shards

_OWN = ("row", "length")


class Fetch:
    """The transform of an index data set: row numbers in, samples with their trained columns
    out.
    """

    def __init__(self, shards: Shards | Mixture) -> None:
        self.shards = shards

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        samples = self.shards.samples(batch["row"])
        return {
            name: [sample[name] for sample in samples] for name in self.shards.kind.trained_columns
        }


def open_shards(folder: str | Path, split: str = "train") -> Dataset:
    """The split as an index data set.

    Columns of a sample: `input_ids`, `labels`, `seq_lengths` (sft), or `prompt_ids`,
    `chosen_ids`, `rejected_ids` (preference), as numpy views. Use it with a collator of
    `zephyr_fast.load.collators` and `remove_unused_columns=False`; `with_lengths` adds what
    `train_sampling_strategy: group_by_length` needs. Errors: see `Shards`.
    """
    return index(Shards(folder, split))


def index(shards: Shards | Mixture) -> Dataset:
    """The index data set of `shards`; it holds row numbers and nothing else."""
    return _with_fetch(Dataset.from_dict({"row": np.arange(len(shards))}), shards)


def with_lengths(dataset: Dataset) -> Dataset:
    """The same index with `length`, the tokens of each sample. Reads (and checks) every batch of
    the shards.
    """
    rows = IndexRows(dataset)
    return _with_fetch(
        Dataset.from_dict({"row": np.arange(len(dataset)), "length": rows.shards.lengths()}),
        rows.shards,
    )


def with_columns(dataset: Dataset, columns: Mapping[str, npt.NDArray[Any]]) -> Dataset:
    """The same index with these columns, one value a row, which `IndexRows` puts into the
    samples.
    """
    shards = IndexRows(dataset).shards
    for name, values in columns.items():
        dataset = dataset.add_column(name, values)  # resets the format, and with it the transform
    return _with_fetch(dataset, shards)


class IndexRows:
    """The rows of an index data set, many at a time, past the machinery of `datasets`, which
    costs more than the rows.

    Columns that were added to the index, as stored reference log-probs, are in the samples too.
    ConfigError for a data set that is not the whole of an index.
    """

    def __init__(self, dataset: Dataset) -> None:
        transform = dataset.format["format_kwargs"].get("transform")
        if not isinstance(transform, Fetch) or len(dataset) != len(transform.shards):
            raise ConfigError(
                "the training data must be a complete split as returned by `open_shards`"
            )
        self.shards = transform.shards
        added = [name for name in dataset.column_names if name not in _OWN]
        self._added: dict[str, npt.NDArray[Any]] = (
            dict(dataset.with_format("numpy", columns=added)[:]) if added else {}
        )

    def __len__(self) -> int:
        return len(self.shards)

    def order(self, seed: int) -> Order:
        """The order in which training reads the rows."""
        return self.shards.order(seed)

    def samples(self, rows: Sequence[int] | Indices) -> Sequence[Sample]:
        """The samples of these rows; of row `PADDING`, one without weight."""
        samples = self.shards.samples(rows)
        if not self._added:
            return samples
        return [
            sample | {name: column[row] for name, column in self._added.items()}
            for sample, row in zip(samples, rows, strict=True)
        ]


def _with_fetch(rows: Dataset, shards: Shards | Mixture) -> Dataset:
    return rows.with_transform(Fetch(shards), columns=["row"], output_all_columns=True)
