"""Reads small files that others may have made: regular files only, no more bytes than expected,
no JSON that is too deep or too wide.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any

CONTAINERS_MAX = 1_000_000
"""Objects and lists in one JSON text. Each takes up to 200 bytes of memory; a manifest has one
per batch, at most some 500,000.
"""

VALUES_MAX = 3_000_000
"""Commas in one JSON text, so values in it. Each takes some 100 bytes of memory; a manifest of
64 MiB has some 2,000,000.
"""


def read_bytes(path: str | Path, bytes_max: int) -> bytes:
    """The bytes of a regular file; links are followed. OSError for any other kind of file and
    for one that has more than `bytes_max`.

    A FIFO is never waited for, and of a device nothing is read.
    """
    # O_NONBLOCK: without it, opening a FIFO waits for its writer. For a regular file it changes
    # nothing.
    return read_handle(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), path, bytes_max)


def read_handle(handle: int, path: str | Path, bytes_max: int) -> bytes:
    """As `read_bytes`, of an open file, which is closed; `path` names it in errors."""
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is not a regular file", str(path))
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise OSError(0, f"it has more than {bytes_max:,} bytes", str(path))
    return content


def parse_json(text: str | bytes) -> Any:
    """Like `json.loads`, but raises ValueError for values that are nested too deep or too many."""
    openings, commas = (sum(_count(text, mark) for mark in marks) for marks in ("{[", ","))
    if openings > CONTAINERS_MAX:
        raise ValueError(f"it holds more than {CONTAINERS_MAX:,} objects and lists")
    if commas > VALUES_MAX:
        raise ValueError(f"it holds more than {VALUES_MAX:,} values")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values are nested too deep") from None


def _count(text: str | bytes, mark: str) -> int:
    return text.count(mark) if isinstance(text, str) else text.count(mark.encode())
