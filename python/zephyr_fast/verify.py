"""Verifies a data set: every byte of every file against what was written, and that nothing else lies there."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_fast import _core


@dataclass(frozen=True)
class Verified:
    """What was found to be just as it was written: files that the manifests name, their bytes, batches of shards."""

    files: int
    bytes: int
    batches: int


def verify(folder: str | Path) -> Verified:
    """Reads all of a data set: SHA-256 of each file, XXH3 of each batch, the manifest's own sums, stored reference log-probs too.

    Raises IntegrityError, naming file, batch and offset, at anything that is not as it was written, files that no manifest
    names included; InputError where the folder holds no data set.
    """
    found = report(folder)
    if found["damage"]:
        raise _core.IntegrityError(complaint(folder, found["damage"]))
    return Verified(found["files"], found["bytes"], found["batches"])


def report(folder: str | Path) -> dict[str, Any]:
    """The same as a report: files, bytes, batches, and `damage`, a list of {file, batch, offset, what}."""
    found: dict[str, Any] = json.loads(_core.verify(folder))
    return found


def complaint(folder: str | Path, damage: list[dict[str, Any]]) -> str:
    """One line about damage: the first of it, and how much more there is."""
    first = damage[0]
    place = "" if first["batch"] is None else f", batch {first['batch']} at offset {first['offset']}"
    more = f"; and {len(damage) - 1} more" if len(damage) > 1 else ""
    return f"`{Path(folder) / first['file']}`{place}: {first['what']}{more}; copy the data set again, or make it again"
