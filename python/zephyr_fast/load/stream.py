"""Cuts the endless stream into training steps, and records in a few bytes how far a run has come.

Step k of a run takes the indices from `start(k)` on, as many as a step takes over all ranks. This
does not depend on the numbers of ranks and workers or on the batch of a device, so any of them
gives the same steps. The tail decides what becomes of the indices that an epoch leaves over:

carry  they open the next epoch; the run's last step is filled up from the epoch after its last one
pad    the epoch's last step is filled up with samples of no weight: row `PADDING`
drop   they are not read in this epoch (`Stream.dropped` counts them)

An example: five rows, two to a step. Indices 0 to 4 are epoch 0, indices 5 to 9 epoch 1.

>>> from zephyr_fast.load.order import Shuffled
>>> order = Shuffled(size=5, seed=1)
>>> order.rows(np.arange(10)).tolist()
[2, 1, 0, 3, 4, 4, 2, 1, 3, 0]
>>> steps, offsets = np.arange(4), np.arange(2)
>>> Stream(order, 2, "carry").rows(steps, offsets).tolist()
[[2, 1], [0, 3], [4, 4], [2, 1]]
>>> Stream(order, 2, "pad").rows(steps, offsets).tolist()
[[2, 1], [0, 3], [4, -1], [4, 2]]
>>> Stream(order, 2, "drop").rows(steps, offsets).tolist()
[[2, 1], [0, 3], [4, 2], [1, 3]]

A run that resumes after its first three steps needs one number, the index that they reached:

>>> [Stream(order, 2, remainder).start(3) for remainder in ("carry", "pad", "drop")]
[6, 5, 7]
>>> Stream(order, 2, "pad", first=5).rows(steps[:1], offsets).tolist()
[[4, 2]]
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, Self

import numpy as np

from zephyr_fast._core import ConfigError, InputError, IntegrityError
from zephyr_fast.load import permutation
from zephyr_fast.load.order import Order
from zephyr_fast.load.permutation import Indices
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import parse_json

Remainder = Literal["carry", "pad", "drop"]

STATE_VERSION = 2
"""The version of `LoaderState`. Raise it when a field gets another name, type or meaning."""

_INDEX_MAX = 2**62

PADDING = -1
"""The row of a sample without weight."""


@dataclass(frozen=True)
class LoaderState:
    """What a checkpoint holds about its data: which samples, in which order, and the next one."""

    data_sha256: str
    """`identity` of the rows: of one dataset the SHA-256 of its manifest."""
    seed: int
    epoch: int
    index_in_epoch: int
    """Index of the next sample in the order of its epoch, from 0."""
    permutation_version: int = permutation.VERSION
    version: int = STATE_VERSION

    def to_json(self) -> str:
        """Less than 300 bytes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote.

        Raises InputError for a state of another version, IntegrityError for anything else.
        """
        try:
            given = parse_json(text) if isinstance(text, str) else None
            if not isinstance(given, dict):
                raise ValueError("not a JSON object")
            _check_version(given)
            types = {field.name: field.type for field in fields(cls)}
            if given.keys() != types.keys():
                raise ValueError("unexpected fields")
            if any(type(given[name]) is not type_ for name, type_ in types.items()):
                raise ValueError("a field has the wrong type")
            if not all(0 <= given[name] <= _INDEX_MAX for name in ("epoch", "index_in_epoch")):
                raise ValueError("`epoch` or `index_in_epoch` is out of range")
        except ValueError as error:
            raise IntegrityError(
                f"the checkpoint's loader state is damaged: {shown(error, 200)}; resume from an "
                "earlier checkpoint"
            ) from error
        return cls(**given)


def other_version(version: int) -> InputError:
    """The refusal of a state that this version of the package cannot read."""
    way_out = "resume with the zephyr-fast version that wrote it"
    if version > STATE_VERSION:
        way_out = "update zephyr-fast"
    return InputError(
        f"the checkpoint's loader state has version {shown(version, 40)}, but this "
        f"zephyr-fast reads version {STATE_VERSION}; {way_out}, or start a new run "
        "with the checkpoint as `--model_name_or_path`"
    )


def _check_version(given: Mapping[str, object]) -> None:
    # The first version did not say its number. It called the index `cursor`.
    version = given.get("version", 1 if "cursor" in given else None)
    if type(version) is int and version != STATE_VERSION:
        raise other_version(version)


@dataclass(frozen=True)
class Stream:
    """The steps of a run from index `first` of the stream on, `batch` samples each, over all
    ranks.
    """

    order: Order
    batch: int
    remainder: Remainder
    first: int = 0

    def __post_init__(self) -> None:
        if self.order.size < 1:
            raise ConfigError("there are no samples to train on")
        if self.remainder == "drop" and self.order.size < self.batch:
            raise ConfigError(
                f"`remainder: drop` would skip all {self.order.size} samples, because a "
                f"step needs {self.batch}"
            )

    def start(self, step: int) -> int:
        """The index at which step `step` of this run starts: the next one, once so many steps
        are done.
        """
        if self.remainder == "carry":
            return self.first + step * self.batch
        size = self.order.size
        epoch, index = divmod(self.first, size)
        opening = self._steps(size - index)
        if step < opening:
            return self.first + step * self.batch
        epochs, within = divmod(step - opening, self._steps(size))
        return (epoch + 1 + epochs) * size + within * self.batch

    def starts(self, steps: Indices) -> Indices:
        """`start` of many steps."""
        if self.remainder == "carry":
            return self.first + steps * self.batch
        return np.array([self.start(int(step)) for step in steps], dtype=np.int64)

    def steps_to(self, end: int) -> int:
        """How many steps it takes until every index below `end`, or as many of them as the tail
        allows, has been read.
        """
        if end <= self.first:
            return 0
        if self.remainder == "carry":
            return -(-(end - self.first) // self.batch)
        size = self.order.size
        (epoch, index), (last, within) = divmod(self.first, size), divmod(end, size)
        if epoch == last:
            return self._steps(within - index)
        return (
            self._steps(size - index) + (last - epoch - 1) * self._steps(size) + self._steps(within)
        )

    def dropped(self) -> int:
        """Samples that each whole epoch leaves unread."""
        return self.order.size % self.batch if self.remainder == "drop" else 0

    def indices(self, steps: Indices, offsets: Indices) -> Indices:
        """The indices at `offsets` (0 to batch - 1) of each step, [steps, offsets]; `PADDING`
        where its epoch has ended.
        """
        starts = self.starts(steps)[:, None]
        indices: Indices = starts + offsets[None, :]
        if self.remainder == "pad":
            size = self.order.size
            indices[indices >= (starts // size + 1) * size] = PADDING
        return indices

    def rows(self, steps: Indices, offsets: Indices) -> Indices:
        """The rows at these indices."""
        indices = self.indices(steps, offsets)
        rows = np.full_like(indices, PADDING)
        real = indices != PADDING
        rows[real] = self.order.rows(indices[real])
        return rows

    def _steps(self, samples: int) -> int:
        return samples // self.batch if self.remainder == "drop" else -(-samples // self.batch)
