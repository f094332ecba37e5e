"""Expands file patterns like `glob`, but terminates on any tree: `**` does not follow links to
directories, and each path is returned once.
"""

import fnmatch
import glob
import os
import re
from collections.abc import Iterator


def matches(pattern: str, folder: str = "") -> list[str]:
    """Return the regular files that match a pattern, sorted. Links to files are followed, and a
    relative pattern starts at `folder`.

    `*` matches within one directory, and `**` in all directories below. As in a shell, only a
    pattern with a leading dot matches such names. An unreadable directory has no matches.
    """
    if pattern.endswith("/"):
        return []  # only directories
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    start = "/" if pattern.startswith("/") else f"{folder}/" if folder else ""
    return sorted(path for path in _below([start], parts) if os.path.isfile(path))


def _below(starts: list[str], parts: list[str]) -> list[str]:
    """Return the paths under `starts` that match the parts of a pattern, each path once."""
    paths = starts
    for number, part in enumerate(parts):
        is_last = number + 1 == len(parts)
        paths = list(dict.fromkeys(path for start in paths for path in _step(start, part, is_last)))
    return paths


def _step(folder: str, part: str, is_last: bool) -> Iterator[str]:
    if part == "**":
        yield from _tree(folder, files=is_last)
    elif glob.has_magic(part):
        fits = re.compile(fnmatch.translate(part)).match
        for name in _names(folder):
            if fits(name) and (part.startswith(".") or not name.startswith(".")):
                yield folder + name if is_last else f"{folder}{name}/"
    elif os.path.lexists(folder + part):
        yield folder + part if is_last else f"{folder}{part}/"


def _tree(top: str, files: bool) -> Iterator[str]:
    """Yield the directory and all below it, except links. With `files`, yield their files."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        if not files:
            yield folder
        for entry in _entries(folder):
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{folder}{entry.name}/")
            elif files:
                yield folder + entry.name


def _names(folder: str) -> list[str]:
    return [entry.name for entry in _entries(folder)]


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder or ".") as entries:
            return list(entries)
    except OSError:
        return []
