"""Writes rows that are not in files to temporary ones: stdin, URLs, and Python objects.

A run reads its inputs twice, first for their digests and then for their rows, so a stream must be
stored. The files are in the directory for temporary files (`TMPDIR`), and are removed when the run
ends. Their names do not depend on the run, so equal rows give equal datasets.
"""

import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from zephyr_fast._core import InputError, StorageError
from zephyr_fast.dataset.address import Address
from zephyr_fast.prepare.directories import is_supported

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 1_024
"""Rows per batch of an Arrow file, few enough that a batch has some megabytes."""

CHUNK = 1 << 20

_MAGIC = {
    b"\x1f\x8b": ".jsonl.gz",
    b"\x28\xb5\x2f\xfd": ".jsonl.zst",
    b"\xfd7zXZ\x00": ".jsonl.xz",
    b"BZh": ".jsonl.bz2",
    b"PAR1": ".parquet",
    b"ARROW1": ".arrow",
    b"\xff\xff\xff\xff": ".arrow",
}
"""First bytes of the formats that stdin may contain other than JSON, with their file endings."""


class Spool:
    """A temporary directory, created on first use and removed on exit."""

    def __init__(self) -> None:
        self._directory: TemporaryDirectory[str] | None = None

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._directory is not None:
            self._directory.cleanup()

    def stdin(self, name: str) -> Path:
        """Store the contents of stdin (`-`) or of another open file (`/dev/fd/3`)."""
        if name == "-":
            if sys.stdin is None or sys.stdin.isatty():
                raise InputError("`--input -` reads rows from stdin, and nothing is piped into it")
            return self._stream(sys.stdin.buffer)
        try:
            with open(name, "rb") as stream:
                return self._stream(stream)
        except OSError as error:
            raise InputError(f"cannot read `{name}`: {error.strerror}") from error

    def url(self, address: Address) -> Path:
        """Download a file. Raises InputError, without the secrets of its URL."""
        from zephyr_fast.dataset import download  # imports an HTTP client, which few runs need

        name = address.path.rpartition("/")[2]
        if not is_supported(name):
            raise InputError(
                f"cannot read `{address}`: its name does not say its format; expected a name that "
                "ends with e.g. .jsonl, .jsonl.gz or .parquet"
            )
        path = self._path(name)
        free = os.statvfs(path.parent)
        bytes_max = free.f_bavail * free.f_frsize
        size = 0
        with _stored(path), open(path, "xb") as file:
            for chunk in download.read(address, bytes_max):
                size += len(chunk)
                if size > bytes_max:
                    raise OSError(0, "not enough space for the download")
                file.write(chunk)
        return path

    def table(self, data: Any) -> Path:
        """Store a data frame or table, with the types of its columns. `data` is a
        `datasets.Dataset`, or has the Arrow C stream interface.
        """
        import pyarrow as pa

        path = self._path("input.arrow")
        try:
            schema, batches = _batches(data)
            with (
                _stored(path),
                pa.OSFile(str(path), "wb") as sink,
                pa.ipc.new_stream(sink, schema) as writer,
            ):
                for batch in batches:
                    for start in range(0, batch.num_rows, BATCH_ROWS):
                        writer.write_batch(batch.slice(start, BATCH_ROWS))
        except (pa.ArrowException, TypeError) as error:
            raise InputError(
                f"cannot read the input ({type(data).__name__}): {' '.join(str(error).split())}"
            ) from error
        return path

    def rows(self, rows: Iterable[Any]) -> Path:
        """Store rows, each a mapping of names to values that JSON has a form for."""
        path = self._path("input.jsonl")
        with _stored(path), open(path, "xb") as file:
            for number, row in enumerate(rows):
                file.write(json_line(row, f"row {number}"))
        return path

    def _stream(self, stream: IO[bytes]) -> Path:
        head = b""
        while len(head) < CHUNK and (piece := stream.read(CHUNK - len(head))):
            head += piece
        path = self._path(f"stdin{_ending(head)}")
        with _stored(path), open(path, "xb") as file:
            while head:
                file.write(head)
                head = stream.read(CHUNK)
        return path

    def _path(self, name: str) -> Path:
        """Return the path of a new file, in a separate directory."""
        if self._directory is None:
            try:
                self._directory = TemporaryDirectory(prefix="zephyr-fast-")
            except OSError as error:
                raise StorageError(f"cannot create a temporary directory: {error}") from error
        top = Path(self._directory.name)
        directory = top / str(len(os.listdir(top)))
        directory.mkdir()
        return directory / name


class _stored:
    """Turn an error of the disk into a StorageError with the path of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: object
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, InputError):
            raise StorageError(
                f"cannot store the input in `{self._path.parent}`: {error.strerror or error}; set "
                "TMPDIR to a directory on a larger disk"
            ) from error


def rows_or_paths(given: Iterable[Any]) -> tuple[bool, Iterable[Any]]:
    """Return whether an iterable has rows, judging by its first item, and all its items.

    InputError if it is empty, or an open file, whose items are lines.
    """
    if hasattr(given, "readline"):
        raise InputError(
            "`input` is an open file, which is not accepted; pass its path, or `-` for stdin"
        )
    items = iter(_unformatted(given))
    first = list(itertools.islice(items, 1))
    if not first:
        raise InputError("`input` is empty: there are no rows and no files to read")
    return not isinstance(first[0], str | Path), itertools.chain(first, items)


def json_line(row: Any, where: str) -> bytes:
    """Return a row as a line of JSON. InputError, with the row's name, if it has no such form."""
    if not isinstance(row, Mapping):
        raise InputError(f"{where} of `input` is {type(row).__name__}, not a mapping like a dict")
    try:
        return _encoder.encode(row if isinstance(row, dict) else dict(row)).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{where} of `input` cannot be written as JSON: {error}; use None for missing values"
        ) from error


def _plain(value: Any) -> Any:
    """Return the JSON form of a value of numpy, of a time, or of another mapping."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} has no form in JSON")


# Writes ASCII, which takes half the time of UTF-8, and can hold what is not valid text.
_encoder = json.JSONEncoder(allow_nan=False, default=_plain)


def is_table(data: Any) -> bool:
    """Whether this is a data frame, a table or a dataset in memory. A dataset with a transform is
    not a table: its rows exist only when it is iterated.
    """
    return hasattr(data, "__arrow_c_stream__") or (
        _is_dataset(data) and data.format["type"] != "custom"
    )


def _is_dataset(data: Any) -> bool:
    """Whether this is a `datasets.Dataset`. An `IterableDataset` is an iterable of rows."""
    return type(data).__module__ == "datasets.arrow_dataset" and hasattr(data, "with_format")


def _unformatted(data: Iterable[Any]) -> Iterable[Any]:
    """Return an `IterableDataset` without its format, in which rows may be tables or tensors of
    lower precision. Anything else is returned unchanged.
    """
    is_lazy = type(data).__module__ == "datasets.iterable_dataset" and hasattr(data, "with_format")
    return data.with_format(None) if is_lazy else data  # type: ignore[attr-defined]


def _batches(data: Any) -> "tuple[pa.Schema, Iterator[pa.RecordBatch]]":
    import pyarrow as pa

    if _is_dataset(data):
        if not data.format["output_all_columns"]:
            data = data.select_columns(data.format["columns"])  # those of `set_format`
        # Not its table, which lacks `select`, `filter` and `shuffle`.
        tables = data.with_format("arrow").iter(BATCH_ROWS)
        schema = data.features.arrow_schema
        return schema, (batch for table in tables for batch in table.cast(schema).to_batches())
    reader = pa.RecordBatchReader.from_stream(data)
    return reader.schema, iter(reader)


def _ending(head: bytes) -> str:
    """Return the ending for the content of a stream, from its first bytes."""
    for magic, ending in _MAGIC.items():
        if head.startswith(magic):
            return ending
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text:
        raise InputError("the rows from stdin are empty")
    if text[:1] not in (b"{", b"["):
        raise InputError(
            "the rows from stdin must be JSON, Parquet or Arrow; pass other formats, such as CSV, "
            "as a file"
        )
    return ".jsonl"
