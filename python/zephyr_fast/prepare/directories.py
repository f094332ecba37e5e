"""Finds the files of rows in a directory, at any depth.

Metadata, hidden files, and directories that start with `_` are skipped. Such directories contain
ledgers, or the output of unfinished jobs of other tools.

Directories written by `datasets` (`save_to_disk`) list their files in `state.json`. Other files in
them, such as the caches of `map`, are not part of the dataset.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from zephyr_fast._core import InputError, names
from zephyr_fast.untrusted.bounded import read_bytes

ENDINGS = tuple(names("endings"))

SPLITS = "dataset_dict.json"
STATE = "state.json"
METADATA = frozenset(
    {SPLITS, STATE, "dataset_info.json", "dataset_infos.json", "metadata.json", "manifest.json"}
)
"""Names of files that describe a dataset. They are read only if they are passed themselves."""

METADATA_BYTES_MAX = 16 << 20

_SPLIT = re.compile(r"(?:^|[/_.-])(train|test|validation|valid|val|dev)(?=[/_.-])")


def is_supported(name: str) -> bool:
    """Whether the core reads files with the ending of this name. Case does not matter."""
    return name.lower().endswith(ENDINGS)


def files_of(directory: str) -> list[str]:
    """Return the paths of a directory's files of rows, sorted. Links to files are followed, links
    to directories are not.

    Raises InputError for a `DatasetDict` with several splits, because rows of a test split must
    not be mixed into the others unnoticed.
    """
    found: list[str] = []
    waiting = [directory]
    while waiting:
        current = waiting.pop()
        with os.scandir(current) as scanned:
            entries = list(scanned)
        present = {entry.name for entry in entries}
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
    return sorted(found)


def refuse_several_splits(dataset: str, files: Sequence[str]) -> None:
    """InputError if the names of files, relative to the dataset, belong to several splits."""
    splits = {match[1] for name in files if (match := _SPLIT.search(name.lower()))}
    if len(splits) > 1:
        raise InputError(
            f"`{dataset}` has files of several splits ({', '.join(sorted(splits))}); name those of "
            f"one, e.g. `hf://datasets/{dataset}/**/*train*`"
        )


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
