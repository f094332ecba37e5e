"""The plainest collator: all columns of a batch as one int32 tensor, copied once, from the
mapped file into the tensor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zephyr_fast.load.samples import Int32s, Sample, Samples

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Gather:
    """Samples to a tensor [B, L] per column, padded on the right with its value; for loops
    without a trainer of TRL.

    Ids stay int32, which `torch.nn.Embedding` takes: int64 would be twice the bytes, for the
    host and on the way to a GPU. The columns share one storage, so a worker process hands over
    one piece of memory.
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
    """As `Samples.gather`, of samples from anywhere."""
    longest = max(len(sample[name]) for name, _ in padding for sample in samples)
    table = np.empty((len(padding), len(samples), longest), np.int32)
    for column, (name, value) in zip(table, padding, strict=True):
        for row, sample in zip(column, samples, strict=True):
            row[: len(sample[name])], row[len(sample[name]) :] = sample[name], value
    return table
