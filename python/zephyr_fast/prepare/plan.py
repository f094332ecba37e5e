"""The plan of a run, for `--dry-run`: inputs, rows, disk space and the state of the output.

Nothing is written or downloaded. Numbers of rows and bytes that are not known before the run are
estimates from the first rows of each file, and are marked as such.
"""

import bz2
import fcntl
import gzip
import lzma
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from zephyr_fast import _core
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.prepare.inputs import NotDownloadedError, find_inputs, find_tokenizer
from zephyr_fast.prepare.recipe import Recipe
from zephyr_fast.prepare.run import (
    RunOptions,
    check_options,
    check_template,
    named_inputs,
    resolve_recipe,
)

HEAD_BYTES = 1 << 20
"""Bytes of each file's decompressed text that are read to estimate its rows."""

FILES_LISTED_MAX = 10
"""Maximum input files that are listed by name."""

BYTES_PER_TEXT_BYTE = {True: 3.5, False: 1.0}
"""Disk space that a run needs per byte of decompressed input, with and without tokens: shards of
8 bytes a token at about 4 characters a token, cleaned text, ledger, and temporary files. On the
bundled rows, finished datasets take 0.8 (pairs) to 3.4 (dialogues).
"""


@dataclass(frozen=True)
class InputFile:
    """An input file: its size on disk, and estimates (None if unknown) of its rows and of the
    size of its text.
    """

    path: Path
    bytes: int
    rows: int | None
    text_bytes: int | None


def plan(
    command: str, recipe: str, out: str | Path, options: RunOptions | dict[str, Any]
) -> list[tuple[str, str]]:
    """Return what `prep` or `binarize` would do with these arguments, as (label, value) lines.

    Raises:
        ZephyrError: The error with which the run would fail at once: an invalid recipe or option,
            a missing input or tokenizer, or an output directory that it must not touch.
    """
    run_options: RunOptions = options  # type: ignore[assignment]
    check_options(command, run_options)
    found = resolve_recipe(recipe, run_options)
    lines = [("command", f"{command}, recipe {found.name}")]
    inputs: list[Path] = []
    try:
        inputs = find_inputs(command, found, named_inputs(run_options), download=False)
        files = [_measured(path) for path in inputs]
        lines += _input_lines(files)
        lines.append(("disk", _disk(files, Path(out), found.wants_tokens())))
    except NotDownloadedError:
        lines.append(("input", f"{found.get('source', 'hub')}, to be downloaded from the Hub"))
        lines.append(("rows", "unknown until the download"))
        lines.append(("disk", "unknown until the download"))
    lines.append(("tokenizer", _tokenizer(command, found, run_options, inputs)))
    lines.append(("output", _output(Path(out), bool(run_options.get("overwrite")))))
    return lines


def _tokenizer(command: str, recipe: Recipe, options: RunOptions, inputs: Sequence[Path]) -> str:
    try:
        path = find_tokenizer(recipe, options.get("tokenizer"), inputs, download=False)
    except NotDownloadedError:
        name = options.get("tokenizer") or recipe.get("tokenize", "tokenizer")
        return f"{name}, to be downloaded from the Hub"
    if path is None:
        return "none (only text is written)"
    check_template(recipe, path)
    # Builds the whole pipeline, so that a recipe that does not fit the command fails here.
    _core.explain(command, recipe.arguments, path, b"{}")
    return str(path)


def _input_lines(files: list[InputFile]) -> list[tuple[str, str]]:
    lines = [
        ("input", f"{file.path} ({_bytes(file.bytes)}, {_rows([file])})")
        for file in files[:FILES_LISTED_MAX]
    ]
    if len(files) > FILES_LISTED_MAX:
        lines.append(("input", f"… and {len(files) - FILES_LISTED_MAX:,} more files"))
    total = sum(file.bytes for file in files)
    lines.append(("rows", f"{_rows(files)}; {_bytes(total)} in {_count(len(files), 'file')}"))
    return lines


def _rows(files: Sequence[InputFile]) -> str:
    if any(file.rows is None for file in files):
        return "number of rows unknown"
    return f"about {_count(sum(file.rows or 0 for file in files), 'row')} (estimate)"


def _disk(files: Sequence[InputFile], out: Path, has_tokens: bool) -> str:
    text = sum(file.bytes if file.text_bytes is None else file.text_bytes for file in files)
    needed = int(text * BYTES_PER_TEXT_BYTE[has_tokens])
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    warning = "" if needed <= free else "; this may not be enough"
    return f"about {_bytes(needed)} needed (estimate), {_bytes(free)} free{warning}"


def _output(out: Path, overwrite: bool) -> str:
    """Describe what the run would do to the output directory. Raises what the run would raise."""
    if not os.path.lexists(out):
        return f"{out}/ (would be created)"
    if not out.is_dir():
        raise _core.StorageError(f"cannot use `{out}` as the output directory: it is not one")
    entries = set(os.listdir(out))
    _check_unlocked(out)
    if "manifest.json" in entries:
        return _existing(out, overwrite)
    if "_work" in entries:
        return f"{out}/ (holds an unfinished run; the same run starts over, another one fails)"
    if entries:
        raise _core.OutputExistsError(
            f"`{out}` contains `{min(entries)}`, which zephyr-fast did not write; choose an empty "
            "or a new directory"
        )
    return f"{out}/ (exists and is empty)"


def _check_unlocked(out: Path) -> None:
    """LockedError if another process is writing to the output directory."""
    try:
        handle = os.open(out / "_work" / "lock", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _core.LockedError(f"another process is writing to `{out}`; wait for it") from error
    finally:
        os.close(handle)


def _existing(out: Path, overwrite: bool) -> str:
    try:
        manifest = Manifest.read(out)
    except _core.ZephyrError:
        if not overwrite:
            raise
        return f"{out}/ (holds a damaged dataset, which would be replaced)"
    sizes = [file.bytes for file in manifest.files]
    for split in manifest.splits.values():
        sizes += [shard.bytes for shard in split.shards] + [text.bytes for text in split.text]
    held = f"holds a dataset of {_count(len(sizes), 'file')}, {_bytes(sum(sizes))}"
    if overwrite:
        return f"{out}/ ({held}; would be replaced unless it is from the same run)"
    return f"{out}/ ({held}; would be kept if it is from the same run, else the run fails)"


def _measured(path: Path) -> InputFile:
    size = path.stat().st_size
    name = path.name.lower()
    try:
        with open(path, "rb") as file:
            magic = file.read(6)
        if magic.startswith(b"PAR1"):
            return _parquet(path, size)
        if magic.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
            return InputFile(path, size, None, None)
        head, consumed = _head(path, name, size)
    except Exception:  # each reader has its own errors, and the run reports the file itself
        return InputFile(path, size, None, None)
    lines = head.count(b"\n")
    if not head or not consumed:
        return InputFile(path, size, 0 if size == 0 else None, None)
    scale = size / consumed
    text = int(len(head) * scale)
    return InputFile(path, size, max(1, round(max(lines, 1) * scale)), text)


def _parquet(path: Path, size: int) -> InputFile:
    """Read the rows of a Parquet file, and the size of its decoded columns, from its footer."""
    import pyarrow.parquet as pq

    metadata = pq.ParquetFile(path).metadata
    groups = range(metadata.num_row_groups)
    text = sum(metadata.row_group(group).total_byte_size for group in groups)
    return InputFile(path, size, metadata.num_rows, text)


def _head(path: Path, name: str, size: int) -> tuple[bytes, int]:
    """Return the first decompressed bytes of a file, and the compressed bytes that they take."""
    with open(path, "rb") as raw:
        stream = _decompressed(raw, name)
        head = stream.read(HEAD_BYTES)
        is_all = not stream.read(1)
        return head, size if is_all else min(raw.tell(), size)


def _decompressed(raw: IO[bytes], name: str) -> Any:
    if name.endswith(".gz"):
        return gzip.GzipFile(fileobj=raw)
    if name.endswith(".bz2"):
        return bz2.BZ2File(raw)
    if name.endswith(".xz"):
        return lzma.LZMAFile(raw)
    if name.endswith(".zst"):
        import pyarrow as pa

        return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    return raw


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _bytes(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
