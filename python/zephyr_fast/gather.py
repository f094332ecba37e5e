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
        lengths = {length for rows in columns for length in map(len, rows)}
        table = np.empty((len(columns), len(samples), max(lengths)), np.int32)
        for place, (rows, (_, value)) in enumerate(zip(columns, self.padding, strict=True)):
            if len(lengths) == 1:
                np.concatenate(rows, out=table[place].reshape(-1))
            else:
                _fill(table[place], rows, value)
        return {name: tensor for (name, _), tensor in zip(self.padding, torch.from_numpy(table).unbind(), strict=True)}


def _fill(table: Any, rows: list[Any], value: int) -> None:
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
        table[place, len(row) :] = value
