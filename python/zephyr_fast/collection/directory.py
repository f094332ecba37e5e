"""The files of a directory of collected rows, and the settings that it belongs to.

rows.jsonl            the rows, written last, once every call has an outcome
_log/calls.jsonl      every call and its outcome, append-only
_log/settings.json    the settings of the rows: runs with other settings cannot continue here
_log/summary.json     counts, and the SHA-256 of the rows
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError, IntegrityError, OutputExistsError, StorageError
from zephyr_fast.dataset.folder import Folder
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import open_regular, parse_json

ROWS, LOG = "rows.jsonl", "_log"
SETTINGS_BYTES_MAX = 16 << 20
ROW_BYTES_MAX = 64 << 20

NOT_COMPARED = frozenset({"families"})
"""Settings that only reports use, so they may change."""

Settings = Mapping[str, Any]


class Directory:
    """An output directory, created if missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = path / ROWS
        self._log = path / LOG

    def claim(self, settings: Settings, *, replays: bool = False) -> None:
        """Store the settings, or check that they equal those that are stored.

        Raises:
            InputError: The run `replays`, and there is no log to replay.
            OutputExistsError: The directory belongs to a run with other settings, or holds files
                that are not from such a run.
        """
        if replays and not self.has_log():
            raise InputError(f"`{shown(self.path)}` has no log to replay")
        text = written(settings)
        if (self._log / "settings.json").exists():
            differing = _differing(self.settings(), json.loads(text))
            if differing:
                raise OutputExistsError(
                    f"`{shown(self.path)}` belongs to a run with another "
                    f"{', '.join(map(shown, differing))}; use another directory"
                )
            if self._stored() != text:  # a family was added, which answers do not depend on
                self.write_file(f"{LOG}/settings.json", [text])
            return
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"`{shown(self.path)}` is not a directory")
        if self.has_log() or _has_other_files(self.path):
            raise OutputExistsError(
                f"`{shown(self.path)}` holds other files; use another directory"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot create `{shown(self.path)}`: {error.strerror}") from error
        self.write_file(f"{LOG}/settings.json", [text])

    def settings(self) -> dict[str, Any]:
        """Return the stored settings. InputError if there are no settings, IntegrityError if
        damaged.
        """
        path = self._log / "settings.json"
        try:
            found = parse_json(self._stored())
        except OSError as error:
            raise InputError(
                f"`{shown(self.path)}` is not a directory of collected rows: cannot read "
                f"`{shown(path)}` ({error.strerror or error})"
            ) from error
        except ValueError as error:
            raise IntegrityError(f"`{shown(path)}` is damaged: {shown(error)}") from None
        if not isinstance(found, dict):
            raise IntegrityError(f"`{shown(path)}` is damaged: it is not a JSON object")
        return found

    def _stored(self) -> bytes:
        with Folder.open(self.path) as folder, folder.child(LOG) as logs:
            return logs.read("settings.json", SETTINGS_BYTES_MAX)

    def open_log(self, name: str = "calls.jsonl", *, read_only: bool = False) -> CallLog:
        """Open the log of calls, or another one in `_log`. InputError if that is a link."""
        try:
            with Folder.open(self.path) as folder, folder.child(LOG) as logs:
                return CallLog(self._log / name, read_only=read_only, directory=logs.handle)
        except OSError as error:
            raise InputError(f"cannot open `{shown(self._log)}`: {error.strerror}") from error

    def has_log(self) -> bool:
        """Whether there is a log of calls."""
        return os.path.lexists(self._log / "calls.jsonl")

    def write(self, rows: Iterable[Mapping[str, Any]], counts: Settings) -> dict[str, Any]:
        """Write the rows, then the summary with their number, digest and `counts`, which is read
        after the last row. Returns the summary.
        """
        digest, number = hashlib.sha256(), 0

        def chunks() -> Iterator[bytes]:
            nonlocal number
            for row in rows:
                line = written(row)
                digest.update(line)
                number += 1
                yield line

        self.write_file(ROWS, chunks())
        summary = {"rows": number, "sha256": digest.hexdigest(), **counts}
        text = json.dumps(summary, indent=1, ensure_ascii=False).encode() + b"\n"
        self.write_file(f"{LOG}/summary.json", [text])
        return summary

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the rows. InputError if there are no rows, IntegrityError for an invalid line.

        A row is not checked beyond being an object: it may have been edited.
        """
        try:
            with open_regular(self.rows, follows=False) as file:
                number = 0
                while line := file.readline(ROW_BYTES_MAX):
                    number += 1
                    yield _row(line, f"`{shown(self.rows)}`:{number}")
        except OSError as error:
            raise InputError(
                f"cannot read `{shown(self.rows)}`: {error.strerror}; a run writes it when every "
                "call has an answer"
            ) from error

    def write_file(self, name: str, chunks: Iterable[bytes]) -> Path:
        """Write a file atomically, also in a subdirectory, which is created if missing and must
        not be a link. Returns its path. Raises StorageError.
        """
        above, _, last = name.rpartition("/")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            folder = Folder.open(self.path)
        except OSError as error:
            raise StorageError(f"cannot open `{shown(self.path)}`: {error.strerror}") from error
        with folder, folder.made_child(above) if above else nullcontext(folder) as place:
            place.sweep(last)
            place.write(last, chunks)
        return self.path / name


def written(fields: Mapping[str, Any]) -> bytes:
    """Return a row as a line of JSON. Fields keep their order. InputError for a text that is not
    Unicode, such as the bytes of an option in another encoding.
    """
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 40) : error.end]
        raise InputError(f"a text is not Unicode: {shown(around)}") from None


def described(endpoint: Endpoint) -> dict[str, Any]:
    """Return the part of an endpoint that answers depend on: the model and the fields sent with
    each call, without address and key.
    """
    return {
        "model": endpoint.model,
        "body": dict(endpoint.body),
        "max_tokens_field": endpoint.max_tokens_field,
    }


def _has_other_files(path: Path) -> bool:
    """Whether there are files other than the log directory, which a killed run may leave empty."""
    return path.exists() and any(entry.name != LOG for entry in path.iterdir())


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise IntegrityError(f"{where} is not JSON: {shown(error)}") from None
    if not isinstance(row, dict):
        raise IntegrityError(f"{where} is not a JSON object")
    return row


def _differing(stored: Settings, given: Settings) -> list[str]:
    return sorted(
        name
        for name in (stored.keys() | given.keys()) - NOT_COMPARED
        if stored.get(name) != given.get(name)
    )
