"""Feed one rank its part of each step, and count delivered (not prefetched) batches.

`Loader` is not a `torch.utils.data.DataLoader`, so `accelerator.prepare` leaves it unchanged. If it
sharded a loader that already reads one rank's part, most rows would be lost silently (747 of 1,003
on 4 ranks, measured). The batch sampler raises if it is sharded again.
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
    """The source of a loader: samples by row number, many at a time."""

    def samples(self, rows: Sequence[int] | Indices) -> Sequence[Sample]:
        """Return the samples of these rows. Row `PADDING` gives one without label tokens."""
        ...


@dataclass(frozen=True)
class Part:
    """One rank's part of each step: `micro_batches` of `device_batch` samples.

    Each of `world_size` ranks has a part of the same size.
    """

    rank: int
    world_size: int
    device_batch: int
    micro_batches: int = 1

    @property
    def batch(self) -> int:
        """Samples per step over all ranks."""
        return self.world_size * self.device_batch * self.micro_batches

    def offsets(self) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """Return this rank's offsets within a step, [device_batch * micro_batches] int64.

        Micro batches alternate between ranks, so 2 ranks read the same rows as 1 rank with 2 micro
        batches.
        """
        return (
            np.arange(self.batch)
            .reshape(self.micro_batches, self.world_size, self.device_batch)[:, self.rank]
            .ravel()
        )


@dataclass(frozen=True)
class Batches:
    """Batch sampler of one rank: the rows of each micro batch of steps `done` to `steps`."""

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
        """Yield the same rows as arrays.

        Converting to lists and back would take a tenth of the time of a batch of 8.
        """
        offsets = self.part.offsets()
        chunk = max(1, _CHUNK // len(offsets))
        for start in range(self.done, self.steps, chunk):
            rows = self.stream.rows(np.arange(start, min(start + chunk, self.steps)), offsets)
            yield from rows.reshape(-1, self.part.device_batch)

    @property
    def drop_last(self) -> bool:
        """Raise ConfigError.

        Only wrappers that shard a batch sampler over ranks, such as accelerate's
        `BatchSamplerShard`, read this attribute.
        """
        raise ConfigError(
            "this loader already reads only one rank's part, so sharding it again "
            "would lose rows; do not pass it to `accelerator.prepare`"
        )


@dataclass(frozen=True)
class Workers:
    """How rows are fetched: in this process (`count` 0), or ahead of time in worker processes."""

    count: int = 0
    context: Literal["fork", "spawn", "forkserver"] | None = None
    prefetch: int | None = None
    pin_memory: bool = False
    start: "Callable[[int], None] | None" = None


@dataclass
class Loader:
    """The micro batches of one rank.

    There is one stream: a second iteration continues after the last one. A step counts as done
    after its last micro batch, so an interrupted step is read again from its start.
    """

    rows: Rows
    batches: Batches
    collate: Callable[[Sequence[Sample]], Any]
    data_sha256: str
    """Identity of the rows, as in `LoaderState`."""
    seed: int
    workers: Workers = field(default_factory=Workers)
    to_device: Callable[[Any], Any] | None = None
    """Moves a batch to its device, in this process. If None, batches stay on the CPU."""
    delivered: int = 0
    """Number of micro batches delivered so far."""

    def __len__(self) -> int:
        """Return the number of micro batches of the run."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        done, part = self.done, self.batches.part
        self.delivered = (done - self.batches.done) * part.micro_batches
        remaining = Batches(self.batches.stream, part, done, self.batches.steps)
        # Without workers, torch's loader only adds a third of the time of a batch of 8.
        is_plain = self.workers.count == 0 and not self.workers.pin_memory
        for batch in self._plain_loader(remaining) if is_plain else self._torch_loader(remaining):
            moved = batch if self.to_device is None else self.to_device(batch)
            self.delivered += 1
            yield moved

    @property
    def done(self) -> int:
        """The next step of the stream."""
        return self.batches.done + self.delivered // self.batches.part.micro_batches

    def state(self) -> LoaderState:
        """Return the position by delivered batches.

        For a loop that trains on each batch before it requests the next one.
        """
        return self.state_after(self.done)

    def state_after(self, step: int) -> LoaderState:
        """Return the position once all steps before `step` of the stream are done."""
        epoch, index = divmod(self.batches.stream.start(step), self.batches.stream.order.size)
        return LoaderState(self.data_sha256, self.seed, epoch, index)

    def _plain_loader(self, batches: Batches) -> Iterator[Any]:
        return (self.collate(self.rows.samples(rows)) for rows in batches.arrays())

    def _torch_loader(self, batches: Batches) -> "torch.utils.data.DataLoader[Any]":
        import torch

        # torch draws the seeds of the workers from it. The global generator would change the
        # model's random numbers.
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
    """The map-style dataset that torch's loader reads, a batch at a time."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __getitem__(self, row: int) -> Sample:
        return self.rows.samples([row])[0]

    def __getitems__(self, rows: list[int]) -> Sequence[Sample]:
        return self.rows.samples(rows)
