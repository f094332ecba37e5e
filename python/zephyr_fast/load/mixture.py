"""Combine several datasets, optionally with weights.

On the command line: `train sft --shards A B --shard_weights 0.7 0.3`.
"""

import hashlib
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zephyr_fast._core import ConfigError
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.dataset.product import Product
from zephyr_fast.load.order import Mixed, Shuffled, shares
from zephyr_fast.load.permutation import Indices
from zephyr_fast.load.samples import Sample
from zephyr_fast.load.shards import Shards
from zephyr_fast.load.stream import PADDING
from zephyr_fast.printed import shown


class Mixture:
    """The rows of one split of several datasets, numbered consecutively.

    Without weights, an epoch has all rows of all datasets, shuffled together. For weights, see
    `zephyr_fast.load.order.Mixed`.

    Raises:
        ConfigError: If the datasets differ in kind, tokenizer or template, or weights are invalid.
    """

    def __init__(
        self, folders: Sequence[str | Path], split: str, weights: Sequence[float] | None = None
    ) -> None:
        self.parts = [Shards(folder, split) for folder in folders]
        self.weights = None if weights is None else tuple(weights)
        self._ends = np.array(list(accumulate(len(part) for part in self.parts)))
        for part in self.parts:
            _check_match(self.parts[0], part)
        if weights is not None:
            shares(weights, len(self.parts))

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def folder(self) -> Path:
        """The directory of the first dataset. All have the same tokenizer and template."""
        return self.parts[0].folder

    @property
    def kind(self) -> Product:
        """The product that the datasets contain."""
        return self.parts[0].kind

    @property
    def manifest(self) -> Manifest:
        """The manifest of the first dataset; all have the same tokenizer and template."""
        return self.parts[0].manifest

    @property
    def manifests(self) -> list[Manifest]:
        """The manifests of all datasets."""
        return [part.manifest for part in self.parts]

    @property
    def identity(self) -> str:
        """SHA-256, in hex, of the datasets and their weights."""
        parts = [part.identity for part in self.parts]
        weights = [] if self.weights is None else shares(self.weights, len(parts))
        return hashlib.sha256(f"{parts} {weights}".encode()).hexdigest()

    def order(self, seed: int) -> Mixed | Shuffled:
        """Return the order in which training reads the rows."""
        if self.weights is None:
            return Shuffled(len(self), seed)
        return Mixed([len(part) for part in self.parts], self.weights, seed)

    def place(self, row: int) -> tuple[Shards, int]:
        """Return the dataset of a row, and its row number there."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        return self.parts[number], row - (int(self._ends[number - 1]) if number else 0)

    def samples(self, rows: Sequence[int] | Indices) -> Sequence[Sample]:
        """Return the samples of these rows (see `Shards.samples`)."""
        numbers = np.searchsorted(self._ends, rows, side="right").tolist()
        samples: list[Sample] = []
        for row, number in zip(rows, numbers, strict=True):
            start = 0 if row == PADDING or number == 0 else int(self._ends[number - 1])
            samples += self.parts[number].samples([row - start])
        return samples

    def lengths(self) -> npt.NDArray[np.int64]:
        """Return the tokens per sample (see `Shards.lengths`)."""
        return np.concatenate([part.lengths() for part in self.parts])


def _check_match(first: Shards, other: Shards) -> None:
    (tokenizer, template), (other_tokenizer, other_template) = (
        first.manifest.require_tokens(),
        other.manifest.require_tokens(),
    )
    pairs = {
        "kind": (first.kind, other.kind),
        "tokenizer": (tokenizer.sha256, other_tokenizer.sha256),
        "template": (template.sha256, other_template.sha256),
    }
    for name, (expected, found) in pairs.items():
        if expected != found:
            difference = f"{shown(found, 80)} and {shown(expected, 80)}"
            raise ConfigError(
                f"`{other.folder}` and `{first.folder}` cannot be mixed: they have a "
                f"different {name} ({difference})"
            )
