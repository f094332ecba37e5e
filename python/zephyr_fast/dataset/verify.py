"""Verifies a data set: every byte of every file against what was written, and that nothing else
lies there.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from zephyr_fast import _core


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was written; in a batch of a shard, with its number and where
    it starts.
    """

    file: str
    batch: int | None
    offset: int | None
    what: str


@dataclass(frozen=True)
class Verified:
    """What was looked at: files that the manifests name, their bytes, batches of shards; and
    what was wrong.
    """

    files: int
    bytes: int
    batches: int
    damage: tuple[Damage, ...] = ()


def verify(folder: str | Path) -> Verified:
    """Reads all of a data set: SHA-256 of each file, XXH3 of each batch, the manifest's own
    sums, stored reference log-probs too.

    Raises IntegrityError, naming file, batch and offset, at anything that is not as it was
    written, files that no manifest names included; InputError where the folder holds no data
    set.
    """
    found = report(folder)
    if found.damage:
        raise _core.IntegrityError(complaint(folder, found))
    return found


def report(folder: str | Path) -> Verified:
    """The same, with what is wrong in `damage` instead of an error; a manifest that cannot be
    read still is one.
    """
    found = json.loads(_core.verify(folder))
    return Verified(**found | {"damage": tuple(Damage(**one) for one in found["damage"])})


def complaint(folder: str | Path, found: Verified) -> str:
    """One line about damage: the first of it, and how much more there is."""
    first = found.damage[0]
    place = "" if first.batch is None else f", batch {first.batch} at offset {first.offset}"
    more = f"; and {len(found.damage) - 1} more" if len(found.damage) > 1 else ""
    return f"`{Path(folder) / first.file}`{place}: {first.what}{more}; copy the data set again, or make it again"
