"""Finds the files of rows in a directory, at any depth.

Metadata, hidden files, and directories that start with `_` are skipped. Such directories contain
ledgers, or the output of unfinished jobs of other tools. So are datasets that this package wrote
below the directory: their rows are those of other files, and `--out` may be inside `--input`.

Directories written by `datasets` (`save_to_disk`) list their files in `state.json`. Other files in
them, such as the caches of `map`, are not part of the dataset.
"""

import glob
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from zephyr_fast._core import InputError, names
from zephyr_fast.printed import shown, warn
from zephyr_fast.untrusted.bounded import open_regular, read_bytes

ENDINGS = tuple(names("endings"))

SPLITS = "dataset_dict.json"
STATE = "state.json"
METADATA = frozenset(
    {SPLITS, STATE, "dataset_info.json", "dataset_infos.json", "metadata.json", "manifest.json"}
)
"""Names of files that describe a dataset. They are read only if they are passed themselves."""

METADATA_BYTES_MAX = 16 << 20

HEAD_BYTES = 4_096
"""Bytes of a manifest that are searched for the name of the engine, which is its third field."""

_ENGINE = re.compile(rb'"engine"\s*:\s*"zephyr-fast ')

_SPLIT = re.compile(r"(?:^|[/_.-])(train|test|validation|valid|val|dev)(?=[/_.-])")


def is_supported(name: str) -> bool:
    """Whether the core reads files with the ending of this name. Case does not matter."""
    return name.lower().endswith(ENDINGS)


def files_of(directory: str) -> list[str]:
    """Return the paths of a directory's files of rows, sorted. Links to files are followed, links
    to directories are not. A warning names the datasets of zephyr-fast below it, which are skipped.

    Raises InputError for a `DatasetDict` with several splits, because rows of a test split must
    not be mixed into the others unnoticed.
    """
    found: list[str] = []
    written: list[str] = []
    waiting = [directory]
    while waiting:
        current = waiting.pop()
        with os.scandir(current) as scanned:
            entries = list(scanned)
        present = {entry.name for entry in entries}
        if current != directory and _is_written(current, present):
            written.append(current)
            continue
        waiting += _within(current, entries, present)
        if STATE in present and "dataset_info.json" in present:
            found += _saved(current)
            continue
        found += [
            os.path.join(current, entry.name)
            for entry in entries
            if is_supported(entry.name)
            and entry.name not in METADATA
            and not entry.name.startswith(".")
            and not entry.is_dir(follow_symlinks=False)
        ]
    _warn_of_skipped(directory, written)
    return sorted(found)


def without_written(pattern: str, paths: Sequence[str]) -> list[str]:
    """Return the matches of a pattern without those in datasets of zephyr-fast, except for a
    dataset whose directory the pattern names. A warning names the datasets that are skipped.
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    fixed = "/".join(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    fixed = f"/{fixed}" if pattern.startswith("/") else fixed
    known: dict[str, bool] = {}
    kept: list[str] = []
    for path in paths:
        above = path
        while (above := os.path.dirname(above)) and len(above) > len(fixed):
            if above not in known:
                known[above] = _is_written(above, {"_work", "manifest.json"})
            if known[above]:
                break
        else:
            kept.append(path)
    _warn_of_skipped(pattern, [directory for directory, is_written in known.items() if is_written])
    return kept


def _warn_of_skipped(given: str, written: Sequence[str]) -> None:
    if written:
        listed = ", ".join(f"`{path}`" for path in sorted(written))
        warn(
            f"warning: skipped in `{shown(given)}`: {shown(listed)} (written by zephyr-fast); "
            "to read such a directory, pass it as an input"
        )


def refuse_several_splits(dataset: str, files: Sequence[str]) -> None:
    """InputError if the names of files, relative to the dataset, belong to several splits."""
    splits = {match[1] for name in files if (match := _SPLIT.search(name.lower()))}
    if len(splits) > 1:
        raise InputError(
            f"`{dataset}` has files of several splits ({', '.join(sorted(splits))}); name those of "
            f"one, e.g. `hf://datasets/{dataset}/**/*train*`"
        )


def _is_written(directory: str, present: set[str]) -> bool:
    """Whether zephyr-fast wrote a dataset here, or has begun to."""
    if "_work" in present and os.path.isfile(os.path.join(directory, "_work", "run.json")):
        return True
    if "manifest.json" not in present:
        return False
    try:
        with open_regular(os.path.join(directory, "manifest.json")) as file:
            return _ENGINE.search(file.read(HEAD_BYTES)) is not None
    except OSError:
        return False


def _within(
    directory: str, entries: Sequence["os.DirEntry[str]"], present: set[str]
) -> Iterator[str]:
    """Yield the subdirectories to search."""
    inner = [
        entry.name
        for entry in entries
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith((".", "_"))
    ]
    if SPLITS in present:
        splits = _described(Path(directory, SPLITS)).get("splits")
        names = sorted(name for name in inner if not isinstance(splits, list) or name in splits)
        if len(names) > 1:
            raise InputError(
                f"`{directory}` holds the splits {', '.join(names)}; pass one, e.g. "
                f"`{os.path.join(directory, names[0])}`"
            )
        inner = names
    yield from (os.path.join(directory, name) for name in inner)


def _saved(directory: str) -> list[str]:
    """Return the files of a dataset that was saved with `save_to_disk`."""
    path = Path(directory, STATE)
    listed = _described(path).get("_data_files")
    files = [
        entry.get("filename") if isinstance(entry, dict) else None
        for entry in (listed if isinstance(listed, list) else [None])
    ]
    paths = []
    for name in files:
        if not isinstance(name, str) or os.path.basename(name) != name or not is_supported(name):
            raise InputError(f"`{path}` does not list the files of its dataset; save it again")
        paths.append(os.path.join(directory, name))
    for missing in (path for path in paths if not os.path.lexists(path)):
        raise InputError(f"`{missing}` is missing, and `{path}` lists it; copy the whole directory")
    return paths


def _described(path: Path) -> dict[str, object]:
    """Return the content of a metadata file."""
    try:
        content = json.loads(read_bytes(path, METADATA_BYTES_MAX))
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{path}` is not valid JSON, so its dataset is unknown") from error
    return content if isinstance(content, dict) else {}
