"""Which row comes at each index of the endless stream that training reads: one folder shuffled,
or several mixed by weight.

The stream is all epochs, one after the other. The row is a pure function of the index, so one
number says how far a run is.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Protocol

import numpy as np

from zephyr_fast._core import ConfigError
from zephyr_fast.load.permutation import Indices, permute

BLOCK = 1 << 16
"""Indices after which the pattern of a mixture repeats; weights are held to one part in this."""

# An epoch this short (128 KiB) is kept: a call of `permute` costs as much as copying 600 rows.
_SMALL = 1 << 14


class Order(Protocol):
    """What both orders can do."""

    @property
    def size(self) -> int:
        """Rows in an epoch."""
        ...

    def rows(self, indices: Indices) -> Indices:
        """The row at each index; rows of several folders are numbered through, in the folders'
        order.
        """
        ...


class Shuffled:
    """Each epoch holds every row once, in an order of its own."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed

    def rows(self, indices: Indices) -> Indices:
        return _shuffled(indices, self.size, str(self.seed))


class Mixed:
    """Folders interleaved by weight, as evenly as whole rows allow; each goes through all its
    rows before it repeats one.

    An epoch has as many indices as the folders have rows together, so a folder with more than
    its share of weight is read more than once in it, another less. Weights need not add up to
    one. ConfigError where they do not fit the folders.
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
        # How often the folder came before.
        turns = blocks * self._shares[folders] + self._turns[slots]
        rows = np.empty_like(indices)
        for number in np.unique(folders):
            mine = folders == number
            rows[mine] = self._starts[number] + _shuffled(
                turns[mine], self.sizes[number], f"{self.seed}, folder {number}"
            )
        return rows


def shares(weights: Sequence[float], folders: int) -> list[int]:
    """How many of `BLOCK` indices each folder gets: in proportion to its weight, the largest
    remainders rounded up.
    """
    if len(weights) != folders or not all(0 < weight < float("inf") for weight in weights):
        raise ConfigError(
            f"mixing {folders} datasets needs {folders} weights above 0, not: "
            f"{' '.join(map(str, weights))}"
        )
    exact = [Fraction(weight) * BLOCK / sum(map(Fraction, weights)) for weight in weights]
    whole = [int(share) for share in exact]
    by_remainder = sorted(
        range(folders), key=lambda number: (whole[number] - exact[number], number)
    )
    for number in by_remainder[: BLOCK - sum(whole)]:
        whole[number] += 1
    if not all(whole):
        raise ConfigError(
            f"a weight is below 1/{BLOCK} of the sum of {' '.join(map(str, weights))}; "
            "remove that dataset"
        )
    return whole


def _pattern(parts: Indices) -> tuple[Indices, Indices]:
    """For each slot of a block, whose it is, and how many of the owner's came before it in the
    block.
    """
    folders = np.repeat(np.arange(len(parts)), parts)
    turns = np.concatenate([np.arange(part) for part in parts])
    # Turn t of n goes to (t + 1/2) / n of the block, which spreads every folder evenly.
    order = np.lexsort((folders, (2 * turns + 1) / (2 * parts[folders])))
    return folders[order], turns[order]


def _shuffled(indices: Indices, size: int, key: str) -> Indices:
    """The rows at these indices of an endless stream of shuffled epochs."""
    epochs, within = np.divmod(indices, size)
    rows = np.empty_like(indices)
    for epoch in np.unique(epochs):
        mine = epochs == epoch
        name = f"{key}, epoch {epoch}"
        rows[mine] = (
            _whole(size, name)[within[mine]]
            if size <= _SMALL
            else permute(within[mine], size, name)
        )
    return rows


@lru_cache(maxsize=4)
def _whole(size: int, key: str) -> Indices:
    return permute(np.arange(size), size, key)
