"""Documents with which `isolation` measures a model, cut from the run's own tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zephyr_fast.load.collators import Layout, WindowCollator

if TYPE_CHECKING:
    import torch

Ids = npt.NDArray[np.int64]

LENGTHS = (13, 5, 21, 2, 9)
"""Lengths of the short documents, in tokens. Some are shorter and some are longer than the
convolutions of state-space layers, and the shortest has one token to predict.
"""

SHARES = (0.5, 0.3)
"""Lengths of all long documents but the last, as shares of a row."""

DISTINCT_MIN = 8
"""With fewer distinct tokens, documents that see each other might look isolated."""


@dataclass(frozen=True)
class Documents:
    """Documents, and the batches in which they are packed: lists of rows of document numbers."""

    ids: list[Ids]
    batches: list[list[list[int]]]
    kinds: int
    """Document `n` is of kind `n % kinds`. Documents of one kind are changed together."""

    def changed(self, kept: int) -> "Documents":
        """Return the same documents with other tokens, except those of kind `kept`."""
        distinct = np.unique(np.concatenate(self.ids))
        others = np.roll(distinct, len(distinct) // 2)
        ids = [
            one if number % self.kinds == kept else others[np.searchsorted(distinct, one)]
            for number, one in enumerate(self.ids)
        ]
        return replace(self, ids=ids)

    def batch(self, rows: list[list[int]], layout: Layout, *, is_joined: bool) -> dict[str, Any]:
        """Return a packed batch; if joined, each row is declared to be one document."""
        samples = []
        for row in rows:
            ids = np.concatenate([self.ids[number] for number in row])
            lengths = np.array([len(self.ids[number]) for number in row])
            lengths = lengths.sum(keepdims=True) if is_joined else lengths
            samples.append({"input_ids": ids, "labels": ids, "seq_lengths": lengths})
        batch = WindowCollator(layout, pad_token_id=0)(samples)
        del batch["labels"]
        return batch

    def split(
        self, values: "torch.Tensor", rows: list[list[int]], layout: Layout
    ) -> "Iterator[tuple[int, torch.Tensor]]":
        """Yield the number and the log-probs of each document in the log-probs of a batch."""
        line, start = 0, 0
        for row in rows:
            for number in row:
                length = len(self.ids[number])
                assert start + length <= values.shape[1] + 1
                yield number, values[line, start : start + length - 1]
                start += length
            if layout == "rows":
                line, start = line + 1, 0


def short_documents(tokens: "torch.Tensor | Ids", vocabulary: int) -> Documents:
    """Return documents of `LENGTHS` in rows in which each has each position.

    Every second row lacks its last document, so that it ends with padding.
    """
    rows = [row if index % 2 == 0 else row[:-1] for index, row in enumerate(_rotations(LENGTHS))]
    return Documents(cut(tokens, vocabulary, LENGTHS), [rows], len(LENGTHS))


def long_documents(
    tokens: "torch.Tensor | Ids", vocabulary: int, width: int, windows: int
) -> Documents:
    """Return documents that fill `windows` rows of `width` tokens, one batch per rotation.

    Their borders are at odd indices and in both halves of a row. So a model that works in blocks
    of tokens, counted from the start of a row, has blocks with two documents.
    """
    first, second = (max(2, int(width * share)) for share in SHARES)
    first, second = first | 1, second & ~1
    lengths = (first, second, max(2, width - first - second))
    batches = [
        [[number + len(row) * window for number in row] for window in range(windows)]
        for row in _rotations(lengths)
    ]
    return Documents(cut(tokens, vocabulary, lengths * windows), batches, len(lengths))


def _rotations(lengths: Sequence[int]) -> list[list[int]]:
    numbers = list(range(len(lengths)))
    return [numbers[shift:] + numbers[:shift] for shift in numbers]


def cut(tokens: "torch.Tensor | Ids", vocabulary: int, lengths: Sequence[int]) -> list[Ids]:
    """Cut documents from these tokens, which are repeated if there are too few.

    If they are monotonous, other tokens are used.
    """
    flat: Any = tokens.reshape(-1)
    total, needed = sum(lengths), sum(LENGTHS)
    stream = np.asarray(flat.cpu() if hasattr(flat, "cpu") else flat, dtype=np.int64)[:total]
    distinct = len(np.unique(stream[:needed]))
    if len(stream) < min(needed, total) or distinct < min(DISTINCT_MIN, vocabulary):
        stream = (np.arange(total) * 7 + 3) % vocabulary
    return np.split(np.resize(stream, total), np.cumsum(lengths)[:-1])
