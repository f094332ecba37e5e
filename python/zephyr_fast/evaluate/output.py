"""The output directory of an evaluation: its settings, its log of calls, its files.

`evaluation.json` has the settings. A rerun with the same settings continues, and one with other
settings is an error, because the log would mix two evaluations.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from zephyr_fast._core import InputError, OutputExistsError, StorageError
from zephyr_fast.dataset.folder import Folder
from zephyr_fast.evaluate.records import read_json
from zephyr_fast.printed import brief, shown

SETTINGS = "evaluation.json"
LOG = "calls.jsonl"

Settings = Mapping[str, str | int | bool | list[str] | None]


@dataclass(frozen=True, slots=True)
class Output:
    """A claimed output directory. `created` is when its evaluation began, in UTC."""

    path: Path
    created: str

    @property
    def timestamp(self) -> float:
        """The time at which the evaluation began, in seconds."""
        return datetime.fromisoformat(self.created).timestamp()

    def write(self, name: str, chunks: Iterable[bytes]) -> Path:
        """Write a file atomically. `name` may be in a subdirectory. Raises StorageError."""
        path = self.path / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with Folder.open(path.parent) as folder:
                folder.write(path.name, chunks)
        except OSError as error:
            raise StorageError(f"cannot write `{shown(path)}`: {error.strerror}") from error
        return path


def claim(path: Path, settings: Settings) -> Output:
    """Create or continue an output directory.

    Raises:
        OutputExistsError: it holds something else, or an evaluation with other settings
        StorageError: it cannot be written
    """
    file = path / SETTINGS
    if file.exists():
        return _continued(path, read_json(file), settings)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise OutputExistsError(
            f"`{shown(path)}` exists and is not an evaluation; choose another directory"
        )
    created = datetime.now(UTC).isoformat(timespec="seconds")
    output = Output(path, created)
    text = json.dumps({"created": created, "settings": settings}, indent=1)
    output.write(SETTINGS, [text.encode(), b"\n"])
    return output


def _continued(path: Path, known: object, settings: Settings) -> Output:
    earlier = known.get("settings") if isinstance(known, dict) else None
    if not isinstance(known, dict) or not isinstance(earlier, dict):
        raise InputError(f"`{shown(path / SETTINGS)}` is not the file of an evaluation")
    other = [
        f"{name} ({brief(earlier.get(name))}, now {brief(settings.get(name))})"
        for name in sorted(earlier.keys() | settings.keys())
        if earlier.get(name) != settings.get(name)
    ]
    if other:
        raise OutputExistsError(
            f"`{shown(path)}` holds an evaluation with other settings: {', '.join(other)}; "
            "choose another directory"
        )
    try:
        created = str(known["created"])
        datetime.fromisoformat(created)
    except (KeyError, ValueError):
        raise InputError(f"`{shown(path / SETTINGS)}` has no valid `created`") from None
    return Output(path, created)


def file_name(name: str) -> str:
    """Return a name as a file name: without slashes and leading dots, at most 100 characters."""
    safe = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)
    return safe.lstrip(".")[:100] or "_"
