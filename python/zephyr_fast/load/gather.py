"""`PlainCollator`: all columns of a batch in one int32 tensor, copied once from the mapped file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zephyr_fast.load.samples import Int32s, Sample, Samples

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PlainCollator:
    """Collate samples to one tensor [B, L] per column, for training loops without TRL.

    Each column is padded on the right with its value in `padding`. Ids stay int32, which
    `torch.nn.Embedding` accepts: int64 would double the memory and the transfer to a GPU. The
    columns share one storage, so a worker process passes on a single block of memory.
    """

    padding: tuple[tuple[str, int], ...] = (("input_ids", 0), ("labels", -100))

    def __call__(self, samples: Sequence[Sample]) -> dict[str, "torch.Tensor"]:
        import torch

        table = (
            samples.gather(self.padding)
            if isinstance(samples, Samples)
            else _gathered(samples, self.padding)
        )
        return {
            name: tensor
            for (name, _), tensor in zip(
                self.padding, torch.from_numpy(table).unbind(), strict=True
            )
        }


def _gathered(samples: Sequence[Sample], padding: Sequence[tuple[str, int]]) -> Int32s:
    """Do the work of `Samples.gather` for samples from other sources."""
    longest = max(len(sample[name]) for name, _ in padding for sample in samples)
    table = np.empty((len(padding), len(samples), longest), np.int32)
    for column, (name, value) in zip(table, padding, strict=True):
        for row, sample in zip(column, samples, strict=True):
            row[: len(sample[name])], row[len(sample[name]) :] = sample[name], value
    return table
