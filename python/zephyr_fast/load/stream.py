"""Cuts the endless stream into training steps, and records in a few bytes how far a run has come.

Step k of a run takes the places from `start(k)` on, as many as a step takes over all ranks. This
does not depend on the numbers of ranks and workers or on the batch of a device, so any of them
gives the same steps. The tail decides what becomes of the places that an epoch leaves over:

carry  they open the next epoch; the run's last step is filled up from the epoch after its last one
pad    the epoch's last step is filled up with samples of no weight: row `PADDING`
drop   they are not read in this epoch (`Stream.dropped` counts them)

An example: five rows, two to a step. Places 0 to 4 are epoch 0, places 5 to 9 epoch 1.

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

A run that resumes after its first three steps needs one number, the place that they reached:

>>> [Stream(order, 2, tail).start(3) for tail in ("carry", "pad", "drop")]
[6, 5, 7]
>>> Stream(order, 2, "pad", first=5).rows(steps[:1], offsets).tolist()
[[4, 2]]
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Literal, Self

import numpy as np

from zephyr_fast._core import IntegrityError, RecipeError
from zephyr_fast.load.order import Order
from zephyr_fast.load.permutation import VERSION, Places
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import parse_json

Tail = Literal["carry", "pad", "drop"]

_PLACES_MAX = 2**62

PADDING = -1
"""The row of a sample without weight."""


@dataclass(frozen=True)
class State:
    """Where a run stands: the data (SHA-256 of the manifest), the order, and the next place as epoch and row in it."""

    manifest: str
    seed: int
    epoch: int
    cursor: int
    order: int = VERSION

    def to_json(self) -> str:
        """Less than 300 bytes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote; IntegrityError for anything else."""
        try:
            given = parse_json(text) if isinstance(text, str) else None
            kinds = {field.name: field.type for field in fields(cls)}
            if given.keys() != kinds.keys() or any(type(given[name]) is not kind for name, kind in kinds.items()):
                raise ValueError("not the fields of an order's state")
            if not all(0 <= given[name] <= _PLACES_MAX for name in ("epoch", "cursor")):
                raise ValueError("no run stands at such a place")
        except (ValueError, AttributeError) as error:
            raise IntegrityError(f"the checkpoint's order is damaged: {shown(error, 200)}; resume from an earlier checkpoint") from error
        return cls(**given)


@dataclass(frozen=True)
class Stream:
    """The steps of a run from place `first` on, `batch` places each, over all ranks."""

    order: Order
    batch: int
    tail: Tail
    first: int = 0

    def __post_init__(self) -> None:
        if self.order.size < 1:
            raise RecipeError("there is not one sample to train on")
        if self.tail == "drop" and self.order.size < self.batch:
            raise RecipeError(f"`tail: drop` would leave out all {self.order.size} samples: a step takes {self.batch}")

    def start(self, step: int) -> int:
        """The place at which step `step` of this run starts; where it stands once so many steps are done."""
        if self.tail == "carry":
            return self.first + step * self.batch
        size = self.order.size
        epoch, cursor = divmod(self.first, size)
        opening = self._steps(size - cursor)
        if step < opening:
            return self.first + step * self.batch
        epochs, within = divmod(step - opening, self._steps(size))
        return (epoch + 1 + epochs) * size + within * self.batch

    def starts(self, steps: Places) -> Places:
        """`start` of many steps."""
        if self.tail == "carry":
            return self.first + steps * self.batch
        return np.array([self.start(int(step)) for step in steps], dtype=np.int64)

    def steps_to(self, end: int) -> int:
        """How many steps it takes until every place below `end`, or as many of them as the tail allows, has been read."""
        if end <= self.first:
            return 0
        if self.tail == "carry":
            return -(-(end - self.first) // self.batch)
        size = self.order.size
        (epoch, cursor), (last, within) = divmod(self.first, size), divmod(end, size)
        if epoch == last:
            return self._steps(within - cursor)
        return self._steps(size - cursor) + (last - epoch - 1) * self._steps(size) + self._steps(within)

    def dropped(self) -> int:
        """Samples that each whole epoch leaves unread."""
        return self.order.size % self.batch if self.tail == "drop" else 0

    def places(self, steps: Places, offsets: Places) -> Places:
        """The places at `offsets` (0 to batch - 1) of each step, [steps, offsets]; `PADDING` where its epoch has ended."""
        starts = self.starts(steps)[:, None]
        places: Places = starts + offsets[None, :]
        if self.tail == "pad":
            size = self.order.size
            places[places >= (starts // size + 1) * size] = PADDING
        return places

    def rows(self, steps: Places, offsets: Places) -> Places:
        """The rows at these places."""
        places = self.places(steps, offsets)
        rows = np.full_like(places, PADDING)
        real = places != PADDING
        rows[real] = self.order.rows(places[real])
        return rows

    def _steps(self, places: int) -> int:
        return places // self.batch if self.tail == "drop" else -(-places // self.batch)
