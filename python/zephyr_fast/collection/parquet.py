"""Reads columns of Parquet files in a child process with little memory and no other files.

pyarrow believes what a file says about itself, so a kilobyte can take gigabytes, and a malformed
footer can end the process. The rows come back as lines of JSON, the last of which says how the
reading ended.
"""

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import open_regular, parse_json
from zephyr_fast.untrusted.child import command, confine

ROW_BYTES_MAX = 16 << 20
RATIO_MAX, ROOM_BYTES, ROW_BYTES_MIN = 200, 64 << 20, 32
"""A file may unpack to 64 MiB and 200 times its size, and a row counts as at least 32 bytes: the
limits of the inputs of `prep`.
"""

MEMORY_BYTES = 1 << 30
CPU_SECONDS = 3_600  # A last resort: 10 GB take some minutes.
COMMAND = command(__name__)

_BATCH_ROWS = 16  # Few, because a dictionary can repeat a large text in every row.


def read(path: Path, columns: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file, with those of the columns that it has.

    Raises:
        InputError: The file cannot be read, or it is larger than it may be.
    """
    try:
        source = open_regular(path)
    except OSError as error:
        raise InputError(f"cannot read `{shown(path)}`: {error.strerror}") from error
    with source:
        bytes_max = ROOM_BYTES + RATIO_MAX * os.fstat(source.fileno()).st_size
        pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
        words = [*COMMAND, *columns]
        with subprocess.Popen(words, stdin=source, stdout=pipe, stderr=nowhere) as child:
            lines = child.stdout
            assert lines is not None
            try:
                while line := lines.readline(ROW_BYTES_MAX + 1):
                    bytes_max -= max(len(line), ROW_BYTES_MIN)
                    row = _row(path, line, bytes_max)
                    if row is None:
                        return
                    yield row
            finally:
                child.kill()
    raise InputError(
        f"cannot read `{shown(path)}`: its reader failed within {MEMORY_BYTES >> 20} MiB of memory"
    )


def _row(path: Path, line: bytes, bytes_left: int) -> dict[str, Any] | None:
    """Return the row of a line, or None at the end."""
    if len(line) > ROW_BYTES_MAX:
        raise InputError(f"cannot read `{shown(path)}`: a row exceeds {ROW_BYTES_MAX:,} bytes")
    if bytes_left < 0:
        raise InputError(
            f"cannot read `{shown(path)}`: it unpacks to more than {RATIO_MAX} times its size, as "
            "bombs do; if it is none, convert it to JSONL first"
        )
    try:
        found = parse_json(line)
    except ValueError as error:
        raise InputError(f"cannot read `{shown(path)}`: {shown(error)}") from None
    if isinstance(found, str):
        raise InputError(f"cannot read `{shown(path)}`: {shown(found)}")
    return found if found is None else dict(found)


def main() -> None:
    """Write the rows of stdin to stdout. Runs in the child."""
    # Arrow's other allocators reserve a gigabyte at once.
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    import pyarrow.parquet as pq

    confine(MEMORY_BYTES, CPU_SECONDS)
    try:
        # Without `pre_buffer`, which starts threads.
        with pq.ParquetFile(sys.stdin.buffer, pre_buffer=False) as file:
            columns = [name for name in file.schema_arrow.names if name in sys.argv[1:]]
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    _write(row)
        end = None
    except MemoryError:
        end = f"its reader needs more than {MEMORY_BYTES >> 20} MiB of memory"
    except Exception as error:
        end = " ".join(str(error).split())[:1_000]
    _write(end)
    sys.stdout.flush()


def _write(row: object) -> None:
    # A value that JSON has no form for becomes an object, which no column of prompts may hold.
    text = json.dumps(row, ensure_ascii=False, default=lambda value: {"type": type(value).__name__})
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")
