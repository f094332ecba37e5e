"""Reads small untrusted files: only regular files, with limits on their size, and on the depth and
width of JSON.
"""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

CONTAINERS_MAX = 1_000_000
"""Maximum objects and lists in one JSON text. Each uses up to 200 bytes of memory. A manifest has
one per batch, at most some 500,000.
"""

VALUES_MAX = 3_000_000
"""Maximum commas in one JSON text, which bounds its values. Each value uses some 100 bytes of
memory. A manifest of 64 MiB has some 2,000,000.
"""


def read_bytes(path: str | Path, bytes_max: int) -> bytes:
    """Return the bytes of a regular file. Links are followed. OSError for any other kind of file,
    and for more than `bytes_max` bytes.

    A FIFO never blocks, and devices are not read.
    """
    return read_handle(_opened(path), path, bytes_max)


def open_regular(path: str | Path, *, follows: bool = True) -> BinaryIO:
    """Open a regular file for reading. OSError for any other kind of file, and with `follows`
    False for a link.
    """
    file = os.fdopen(_opened(path, 0 if follows else os.O_NOFOLLOW), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(0, "it is not a regular file", str(path))
    return file


def _opened(path: str | Path, flags: int = 0) -> int:
    # Without O_NONBLOCK, opening a FIFO waits for its writer. It has no effect on a regular file.
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)


def read_handle(handle: int, path: str | Path, bytes_max: int) -> bytes:
    """Read and close an open file, like `read_bytes`. `path` is its name in errors."""
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is not a regular file", str(path))
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise OSError(0, f"it has more than {bytes_max:,} bytes", str(path))
    return content


def parse_json(text: str | bytes, parse_constant: Callable[[str], object] | None = None) -> Any:
    """Parse JSON. Raises ValueError if it is invalid, nested too deep, or has too many values.
    `parse_constant` gets `NaN`, `Infinity` and `-Infinity`, as in `json.loads`.
    """
    openings, commas = (sum(_count(text, mark) for mark in marks) for marks in ("{[", ","))
    if openings > CONTAINERS_MAX:
        raise ValueError(f"it has more than {CONTAINERS_MAX:,} objects and lists")
    if commas > VALUES_MAX:
        raise ValueError(f"it has more than {VALUES_MAX:,} values")
    try:
        return json.loads(text, parse_constant=parse_constant)
    except RecursionError:
        raise ValueError("its values are nested too deep") from None


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8. JSON can escape half a surrogate pair, which cannot.

    >>> is_unicode("é"), is_unicode(json.loads('"\\ud800"'))
    (True, False)
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _count(text: str | bytes, mark: str) -> int:
    return text.count(mark) if isinstance(text, str) else text.count(mark.encode())
