"""The row at each index of the endless training stream: one dataset, or several by weight.

The stream is the sequence of all epochs. The row is a pure function of the index, so one number is
enough to store the position of a run.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Protocol

import numpy as np

from zephyr_fast._core import ConfigError
from zephyr_fast.load.permutation import Indices, permute

BLOCK = 1 << 16
"""Indices after which the pattern of a mixture repeats. Weights are rounded to 1/BLOCK."""

# Epochs up to this size (128 KiB) are cached: one `permute` call costs as much as copying 600 rows.
_SMALL = 1 << 14


class Order(Protocol):
    """The interface of both orders."""

    @property
    def size(self) -> int:
        """Rows per epoch."""
        ...

    def rows(self, indices: Indices) -> Indices:
        """Return the row at each index. Rows of several datasets are numbered consecutively."""
        ...


class Shuffled:
    """Each epoch has every row once, in a different shuffled order."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed

    def rows(self, indices: Indices) -> Indices:
        return _shuffled(indices, self.size, str(self.seed))


class Mixed:
    """Datasets interleaved by weight. Each repeats a row only after all its rows were read.

    An epoch has as many indices as the datasets have rows in total. A dataset with a large weight
    is therefore read more than once per epoch, and one with a small weight less than once. Weights
    need not add up to 1.

    Raises:
        ConfigError: If the number of weights is wrong, or a weight is too small.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        self.sizes, self.seed = tuple(sizes), seed
        self.size = sum(sizes)
        self._shares = np.array(shares(weights, len(sizes)))
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        self._folders, self._turns = _pattern(self._shares)

    def rows(self, indices: Indices) -> Indices:
        blocks, slots = np.divmod(indices, BLOCK)
        folders = self._folders[slots]
        # The number of earlier slots of the dataset.
        turns = blocks * self._shares[folders] + self._turns[slots]
        rows = np.empty_like(indices)
        for number in np.unique(folders):
            mine = folders == number
            rows[mine] = self._starts[number] + _shuffled(
                turns[mine], self.sizes[number], f"{self.seed}, folder {number}"
            )
        return rows


def shares(weights: Sequence[float], folders: int) -> list[int]:
    """Return how many of `BLOCK` indices each dataset gets, proportional to its weight.

    Rounding favors the largest remainders.
    """
    if len(weights) != folders or not all(0 < weight < float("inf") for weight in weights):
        raise ConfigError(
            f"mixing {folders} datasets needs {folders} weights above 0, not: "
            f"{' '.join(map(str, weights))}"
        )
    exact = [Fraction(weight) * BLOCK / sum(map(Fraction, weights)) for weight in weights]
    counts = [int(share) for share in exact]
    by_remainder = sorted(
        range(folders), key=lambda number: (counts[number] - exact[number], number)
    )
    for number in by_remainder[: BLOCK - sum(counts)]:
        counts[number] += 1
    if not all(counts):
        raise ConfigError(
            f"a weight is below 1/{BLOCK} of the sum of {' '.join(map(str, weights))}; "
            "remove that dataset"
        )
    return counts


def _pattern(parts: Indices) -> tuple[Indices, Indices]:
    """Return the dataset of each slot of a block, and its number of earlier slots in the block."""
    folders = np.repeat(np.arange(len(parts)), parts)
    turns = np.concatenate([np.arange(part) for part in parts])
    # Slot t of n gets position (t + 1/2) / n in the block, which spreads every dataset evenly.
    order = np.lexsort((folders, (2 * turns + 1) / (2 * parts[folders])))
    return folders[order], turns[order]


def _shuffled(indices: Indices, size: int, key: str) -> Indices:
    """Return the rows at these indices of an endless stream of shuffled epochs."""
    epochs, within = np.divmod(indices, size)
    rows = np.empty_like(indices)
    for epoch in np.unique(epochs):
        mine = epochs == epoch
        name = f"{key}, epoch {epoch}"
        rows[mine] = (
            _epoch(size, name)[within[mine]]
            if size <= _SMALL
            else permute(within[mine], size, name)
        )
    return rows


@lru_cache(maxsize=4)
def _epoch(size: int, key: str) -> Indices:
    return permute(np.arange(size), size, key)
