"""Reads small files that others may have made: regular files only, no more bytes than expected, no JSON that is too deep."""

import json
import os
import stat
from pathlib import Path
from typing import Any


def read_bytes(path: str | Path, bytes_max: int) -> bytes:
    """The bytes of a regular file; links are followed. OSError for any other kind of file and for one that has more than `bytes_max`.

    A FIFO is never waited for, and of a device nothing is read.
    """
    # O_NONBLOCK: without it, opening a FIFO waits for its writer. For a regular file it changes nothing.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is not a regular file", str(path))
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise OSError(0, f"it has more than {bytes_max:,} bytes", str(path))
    return content


def parse_json(text: str | bytes) -> Any:
    """What `json.loads` gives; ValueError also where it is nested too deep to be read, of which json makes a RecursionError."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its values are nested too deep") from error
