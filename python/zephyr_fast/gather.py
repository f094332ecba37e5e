"""The plainest collator: each column of a batch as one int32 tensor, copied once, from the mapped file to its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

Sample = dict[str, Any]


@dataclass(frozen=True)
class Gather:
    """Samples to a tensor [B, L] per column, padded on the right with its value; for loops without a trainer of TRL.

    Ids stay int32, which `torch.nn.Embedding` takes: int64 would be twice the bytes, for the host and on the way to a GPU.
    """

    padding: tuple[tuple[str, int], ...] = (("input_ids", 0), ("labels", -100))

    def __call__(self, samples: Sequence[Sample]) -> dict[str, "torch.Tensor"]:
        return {name: _gathered([sample[name] for sample in samples], value) for name, value in self.padding}


def _gathered(rows: list[Any], value: int) -> "torch.Tensor":
    import torch

    lengths = {len(row) for row in rows}
    width = max(lengths)
    tensor = torch.empty((len(rows), width), dtype=torch.int32)
    table = tensor.numpy()
    if len(lengths) == 1:
        np.concatenate(rows, out=table.reshape(-1))
        return tensor
    table.fill(value)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return tensor
