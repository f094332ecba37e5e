"""Divide the endless stream into training steps, and store the position of a run in a few bytes.

Step k of a run reads the indices from `start(k)` on, as many as all ranks read per step. This does
not depend on the number of ranks or workers or on the device batch size, so all of them give the
same steps. `remainder` decides about the last indices of an epoch if they do not fill a step:

carry  they start the next epoch, and the last step of the run is filled from another
pad    the step is filled with samples without label tokens: row `PADDING`
drop   they are skipped in this epoch (`Stream.dropped` counts them)

Example: five rows, two per step. Indices 0 to 4 are epoch 0, indices 5 to 9 epoch 1.

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

A run that resumes after three steps needs only the next index:

>>> [Stream(order, 2, remainder).start(3) for remainder in ("carry", "pad", "drop")]
[6, 5, 7]
>>> Stream(order, 2, "pad", first=5).rows(steps[:1], offsets).tolist()
[[4, 2]]
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal, Self, get_args

import numpy as np

from zephyr_fast._core import ConfigError, InputError, IntegrityError
from zephyr_fast.load import permutation
from zephyr_fast.load.order import Order
from zephyr_fast.load.permutation import Indices
from zephyr_fast.printed import brief, shown
from zephyr_fast.untrusted.bounded import parse_json

Remainder = Literal["carry", "pad", "drop"]

STATE_VERSION = 2
"""Version of `LoaderState`. Raise it if a field changes its name, type or meaning."""

_INDEX_MAX = 2**62

PADDING = -1
"""The row number of a sample without label tokens."""


@dataclass(frozen=True)
class LoaderState:
    """The data position in a checkpoint: the dataset, the order and the next sample."""

    data_sha256: str
    """`identity` of the rows. For one dataset, the SHA-256 of its manifest."""
    seed: int
    epoch: int
    index_in_epoch: int
    """Index of the next sample in the order of its epoch, from 0."""
    permutation_version: int = permutation.VERSION
    version: int = STATE_VERSION

    def to_json(self) -> str:
        """Return the state as JSON, fewer than 300 bytes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Parse the output of `to_json`.

        Raises:
            InputError: If the state has another version.
            IntegrityError: If it is damaged.
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
    """Build the error for a state in a version that cannot be read."""
    way_out = "resume with the zephyr-fast version that wrote it"
    if version > STATE_VERSION:
        way_out = "update zephyr-fast"
    return InputError(
        f"the checkpoint's loader state has version {shown(version, 40)}, but this "
        f"zephyr-fast reads version {STATE_VERSION}; {way_out}, or start a new run "
        "with the checkpoint as `--model_name_or_path`"
    )


def _check_version(given: Mapping[str, object]) -> None:
    # Version 1 had no version field. It named the index `cursor`.
    version = given.get("version", 1 if "cursor" in given else None)
    if type(version) is int and version != STATE_VERSION:
        raise other_version(version)


@dataclass(frozen=True)
class Stream:
    """The steps of a run from index `first` of the stream, with `batch` samples over all ranks."""

    order: Order
    batch: int
    remainder: Remainder
    first: int = 0

    def __post_init__(self) -> None:
        if self.remainder not in get_args(Remainder):
            raise ConfigError(
                f"`remainder` must be one of {', '.join(get_args(Remainder))}, not "
                f"{brief(self.remainder)}"
            )
        if self.order.size < 1:
            raise ConfigError("there are no samples to train on")
        if self.remainder == "drop" and self.order.size < self.batch:
            raise ConfigError(
                f"`remainder: drop` would skip all {self.order.size} samples, because a "
                f"step needs {self.batch}"
            )

    def start(self, step: int) -> int:
        """Return the first index of step `step` of this run, which follows the steps before it."""
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
        """Return `start` of many steps."""
        if self.remainder == "carry":
            return self.first + steps * self.batch
        return np.array([self.start(int(step)) for step in steps], dtype=np.int64)

    def steps_to(self, end: int) -> int:
        """Return the number of steps until all indices below `end` are read or dropped."""
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
        """Return the number of samples that each full epoch skips."""
        return self.order.size % self.batch if self.remainder == "drop" else 0

    def indices(self, steps: Indices, offsets: Indices) -> Indices:
        """Return the indices at `offsets` (0 to batch - 1) of each step, [steps, offsets] int64.

        Indices after the end of the epoch are `PADDING` if the remainder is padded.
        """
        starts = self.starts(steps)[:, None]
        indices: Indices = starts + offsets[None, :]
        if self.remainder == "pad":
            size = self.order.size
            indices[indices >= (starts // size + 1) * size] = PADDING
        return indices

    def rows(self, steps: Indices, offsets: Indices) -> Indices:
        """Return the rows at these indices, [steps, offsets] int64."""
        indices = self.indices(steps, offsets)
        rows = np.full_like(indices, PADDING)
        real = indices != PADDING
        rows[real] = self.order.rows(indices[real])
        return rows

    def _steps(self, samples: int) -> int:
        return samples // self.batch if self.remainder == "drop" else -(-samples // self.batch)
