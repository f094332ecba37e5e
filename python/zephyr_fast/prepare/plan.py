"""The plan of a run, for `--dry-run`: inputs, rows, disk space and the state of the output.

Nothing is written or downloaded. The rows of a text file that is read completely are exact. Other
numbers are estimates from its first megabyte and are marked as such. The rows of Parquet and Arrow
files are not counted, because only the run reads such files with limits on memory.
"""

import fcntl
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
"""Bytes of each file, before decompression, that are read to estimate its rows."""

UNPACKED_BYTES_MAX = 64 << 20
"""Bytes that these may unpack to. The rows of a file that unpacks to more are not estimated."""

CODECS = {".gz": "gzip", ".zst": "zstd"}

FILES_LISTED_MAX = 10
"""Maximum input files that are listed by name."""

BYTES_PER_TEXT_BYTE = {True: 3.5, False: 1.0}
"""Disk space that a run needs per byte of decompressed input, with and without tokens: shards of
8 bytes a token at about 4 characters a token, cleaned text, ledger, and temporary files. On the
bundled rows, finished datasets take 0.8 (pairs) to 3.4 (dialogues).
"""


@dataclass(frozen=True)
class InputFile:
    """An input file: its size on disk, its rows and the size of its text (None if unknown), and
    whether these two are exact.
    """

    path: Path
    bytes: int
    rows: int | None = None
    text_bytes: int | None = None
    is_exact: bool = False


def plan(
    command: str, recipe: str | Path, out: str | Path, options: RunOptions | dict[str, Any]
) -> list[tuple[str, str]]:
    """Return what `prep` or `binarize` would do with these arguments, as (label, value) lines.

    Raises:
        ZephyrError: The run would fail at once: an invalid recipe or option, a missing input,
            tokenizer or evaluation set, or an output directory that it must not touch. A recipe
            whose tokenizer is yet to be downloaded is not checked against it.
    """
    run_options: RunOptions = options  # type: ignore[assignment]
    check_options(command, run_options)
    found = resolve_recipe(recipe, run_options)
    lines = [("command", f"{command}, recipe {found.name}")]
    inputs: list[Path] = []
    try:
        inputs = find_inputs(command, found, named_inputs(run_options))
        files = [_measured(path) for path in inputs]
        lines += _input_lines(files)
        lines.append(("disk", _disk(files, Path(out), found.wants_tokens())))
    except NotDownloadedError as error:
        lines.append(("input", str(error)))
        lines.append(("rows", "unknown until then"))
        lines.append(("disk", "unknown until then"))
    lines.append(("tokenizer", _tokenizer(command, found, run_options, inputs)))
    lines.append(("output", _output(Path(out), bool(run_options.get("overwrite")))))
    return lines


def _tokenizer(command: str, recipe: Recipe, options: RunOptions, inputs: Sequence[Path]) -> str:
    try:
        path = find_tokenizer(recipe, options.get("tokenizer"), inputs, download=False)
    except NotDownloadedError:
        name = options.get("tokenizer") or recipe.get("tokenize", "tokenizer")
        return f"{name}, to be downloaded from the Hub"
    check_template(recipe, path)
    # Builds the whole pipeline, so that a recipe that does not fit the command fails here.
    _core.explain(command, recipe.arguments, path, b"{}")
    return "none (only text is written)" if path is None else str(path)


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
    rows = _count(sum(file.rows or 0 for file in files), "row")
    return rows if all(file.is_exact for file in files) else f"about {rows} (estimate)"


def _disk(files: Sequence[InputFile], out: Path, has_tokens: bool) -> str:
    text = sum(file.bytes if file.text_bytes is None else file.text_bytes for file in files)
    needed = int(text * BYTES_PER_TEXT_BYTE[has_tokens])
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    warning = "" if needed <= free else "; this may not be enough"
    return f"about {_bytes(needed)} needed (estimate), {_bytes(free)} free{warning}"


def _output(out: Path, overwrite: bool) -> str:
    """Describe what the run would do to the output directory. Raises what the run would raise."""
    existing = next(path for path in (out, *out.absolute().parents) if os.path.lexists(path))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise _core.StorageError(
            f"cannot use `{out}` as the output directory: `{existing}` is not a writable directory"
        )
    if existing != out:
        return f"{out}/ (would be created)"
    entries = set(os.listdir(out))
    _check_unlocked(out)
    if "manifest.json" in entries:
        return _existing(out, overwrite)
    if (out / "_work" / "run.json").is_file():
        return f"{out}/ (holds an unfinished run, which would be removed)"
    if foreign := entries - {"_work"}:
        raise _core.OutputExistsError(
            f"`{out}` contains `{min(foreign)}`, which zephyr-fast did not write; choose an empty "
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
    """Count or estimate the rows of an input file. The run reports a file that cannot be read."""
    size = path.stat().st_size
    codec = CODECS.get(path.suffix.lower())
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
        text = head if codec is None else _unpacked(head, codec)
    except (OSError, ValueError):
        return InputFile(path, size)
    if text is None or head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        return InputFile(path, size)
    rows = sum(1 for line in text.splitlines() if line.strip())
    if len(head) == size:
        return InputFile(path, size, rows, len(text), is_exact=True)
    scale = size / len(head)
    return InputFile(path, size, max(1, round(rows * scale)), int(len(text) * scale))


def _unpacked(head: bytes, codec: str) -> bytes | None:
    """Unpack the first bytes of a compressed file, which may end within a block. None if they
    unpack to more than `UNPACKED_BYTES_MAX`.
    """
    import pyarrow as pa

    text = bytearray()
    with pa.CompressedInputStream(pa.BufferReader(head), codec) as stream:
        while len(text) <= UNPACKED_BYTES_MAX:
            try:
                piece = stream.read(1 << 16)
            except OSError:  # the end of what was read
                return bytes(text)
            if not piece:
                return bytes(text)
            text += piece
    return None


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def _bytes(count: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
