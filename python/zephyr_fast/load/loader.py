"""Feeds one rank its part of each step: a torch loader over our own order, which counts what was
handed over, not what was prefetched.

It is not a `torch.utils.data.DataLoader`, so `accelerator.prepare` leaves it as it is: a loader
that is already one rank's part and is prepared all the same loses most rows without a word (747
of 1,003 on 4 ranks, measured). The batch sampler inside raises if anything cuts it up once more.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from zephyr_fast._core import ConfigError
from zephyr_fast.load.permutation import Indices
from zephyr_fast.load.samples import Sample
from zephyr_fast.load.stream import LoaderState, Stream

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 13  # rows computed at once: enough to spread numpy's cost per call, at most 64 KiB


class Rows(Protocol):
    """What a loader reads: samples by row number, many at a time."""

    def samples(self, rows: Sequence[int] | Indices) -> Sequence[Sample]:
        """The samples of these rows, in their order; of row `PADDING`, one without weight."""
        ...


@dataclass(frozen=True)
class Part:
    """The part of each step that is one rank's: `micro_batches` of `device_batch` samples, as on
    each of `world_size` ranks.
    """

    rank: int
    world_size: int
    device_batch: int
    micro_batches: int = 1

    @property
    def batch(self) -> int:
        """Samples of a step, over all ranks."""
        return self.world_size * self.device_batch * self.micro_batches

    def offsets(self) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """This rank's offsets within a step. Micro batches go round the ranks, so that 2 ranks
        read as 1 with 2 micro batches.
        """
        return (
            np.arange(self.batch)
            .reshape(self.micro_batches, self.world_size, self.device_batch)[:, self.rank]
            .ravel()
        )


@dataclass(frozen=True)
class Batches:
    """The batch sampler of one rank: rows of each micro batch, from step `done` of the stream to
    step `steps`.
    """

    stream: Stream
    part: Part
    done: int
    steps: int

    def __post_init__(self) -> None:
        if self.part.batch != self.stream.batch:
            raise ConfigError(
                f"{self.part} needs {self.part.batch} samples per step, but the stream "
                f"provides {self.stream.batch}"
            )

    def __len__(self) -> int:
        return max(0, self.steps - self.done) * self.part.micro_batches

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self.arrays())

    def arrays(self) -> Iterator[Indices]:
        """The same, each as an array: what it costs to list and read back would be a tenth of a
        batch of 8.
        """
        offsets = self.part.offsets()
        chunk = max(1, _CHUNK // len(offsets))
        for start in range(self.done, self.steps, chunk):
            rows = self.stream.rows(np.arange(start, min(start + chunk, self.steps)), offsets)
            yield from rows.reshape(-1, self.part.device_batch)

    @property
    def drop_last(self) -> bool:
        """Asked for by what shards a batch sampler over ranks, as accelerate's
        `BatchSamplerShard`, and by nothing else.
        """
        raise ConfigError(
            "this loader already reads only one rank's part, so sharding it again "
            "would lose rows; do not pass it to `accelerator.prepare`"
        )


@dataclass(frozen=True)
class Workers:
    """How rows are fetched: in this process (`count` 0), or ahead of time in others."""

    count: int = 0
    context: Literal["fork", "spawn", "forkserver"] | None = None
    prefetch: int | None = None
    pin_memory: bool = False
    start: "Callable[[int], None] | None" = None


@dataclass
class Loader:
    """One rank's micro batches. Iterating again goes on where the last iteration stopped: there
    is one stream.

    Steps are counted when their last micro batch is handed over, so a step that was broken off
    is read again whole.
    """

    rows: Rows
    batches: Batches
    collate: Callable[[Sequence[Sample]], Any]
    data_sha256: str
    """Identity of the rows, as in `LoaderState`."""
    seed: int
    workers: Workers = field(default_factory=Workers)
    to_device: Callable[[Any], Any] | None = None
    """Moves a batch to where it is computed on, in this process; without it, it stays on the
    CPU.
    """
    delivered: int = 0
    """Micro batches handed over so far."""

    def __len__(self) -> int:
        """Micro batches of the whole run of this loader."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        done, part = self.done, self.batches.part
        self.delivered = (done - self.batches.done) * part.micro_batches
        left = Batches(self.batches.stream, part, done, self.batches.steps)
        # Without workers torch's loader has nothing to add, and takes as long as a third of a batch
        # of 8.
        is_plain = self.workers.count == 0 and not self.workers.pin_memory
        for batch in self._plain_loader(left) if is_plain else self._torch_loader(left):
            moved = batch if self.to_device is None else self.to_device(batch)
            self.delivered += 1
            yield moved

    @property
    def done(self) -> int:
        """The step of the stream that comes next."""
        return self.batches.done + self.delivered // self.batches.part.micro_batches

    def state(self) -> LoaderState:
        """How far the run is, by what was handed over; for a loop that trains on each batch
        before it asks for the next.
        """
        return self.state_after(self.done)

    def state_after(self, step: int) -> LoaderState:
        """How far the run is once the steps before `step` of the stream are done."""
        epoch, index = divmod(self.batches.stream.start(step), self.batches.stream.order.size)
        return LoaderState(self.data_sha256, self.seed, epoch, index)

    def _plain_loader(self, batches: Batches) -> Iterator[Any]:
        return (self.collate(self.rows.samples(rows)) for rows in batches.arrays())

    def _torch_loader(self, batches: Batches) -> "torch.utils.data.DataLoader[Any]":
        import torch

        # Its own generator: torch draws a seed for the workers from it, and the model's random
        # numbers stay as they are.
        generator = torch.Generator().manual_seed(batches.stream.start(batches.done))
        return torch.utils.data.DataLoader(
            _Fetched(self.rows),
            batch_sampler=batches,
            collate_fn=self.collate,
            num_workers=self.workers.count,
            multiprocessing_context=self.workers.context if self.workers.count else None,
            prefetch_factor=self.workers.prefetch if self.workers.count else None,
            pin_memory=self.workers.pin_memory,
            worker_init_fn=self.workers.start,
            generator=generator,
        )


class _Fetched:
    """The data set that torch's loader asks for rows, a batch at a time."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __getitem__(self, row: int) -> Sample:
        return self.rows.samples([row])[0]

    def __getitems__(self, rows: list[int]) -> Sequence[Sample]:
        return self.rows.samples(rows)
