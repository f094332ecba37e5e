"""The plainest collator: all columns of a batch as one int32 tensor, copied once, from the mapped file to its place."""

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
    The columns share one storage, so a worker process hands over one piece of memory.
    """

    padding: tuple[tuple[str, int], ...] = (("input_ids", 0), ("labels", -100))

    def __call__(self, samples: Sequence[Sample]) -> dict[str, "torch.Tensor"]:
        import torch

        columns = [[sample[name] for sample in samples] for name, _ in self.padding]
        width = max(len(row) for rows in columns for row in rows)
        table = np.empty((len(columns), len(samples), width), np.int32)
        for place, (rows, (_, value)) in enumerate(zip(columns, self.padding, strict=True)):
            _fill(table[place], rows, value)
        return {name: tensor for (name, _), tensor in zip(self.padding, torch.from_numpy(table).unbind(), strict=True)}


def _fill(table: Any, rows: list[Any], value: int) -> None:
    width = table.shape[1]
    if all(len(row) == width for row in rows):
        np.concatenate(rows, out=table.reshape(-1))
        return
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
        table[place, len(row) :] = value
