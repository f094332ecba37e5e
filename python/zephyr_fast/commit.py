"""The one way a file of ours comes to life in Python: written beside its place, synced, renamed, and the folder synced too.

A process that dies on the way leaves nothing under the final name; what it leaves starts with `TEMPORARY_PREFIX`.
"""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from zephyr_fast._core import StorageError

TEMPORARY_PREFIX = ".zephyr-draft-"
"""The start of every temporary name, the same as the engine's."""


def commit(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all, in place of one that may be there. StorageError where the disk says no."""
    commit_chunks(path, [content])


def commit_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """As `commit`, of a file that comes in pieces; where they raise, nothing is left of it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(draft, 0o666 & ~_umask())  # a temporary file is private; this one is for others to read
            os.replace(draft, path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write `{path}`: {error.strerror}") from error


def sweep(folder: Path) -> None:
    """Takes away what killed processes left; only for a folder that nobody else is writing to."""
    for draft in folder.glob(f"{TEMPORARY_PREFIX}*"):
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes the new name itself outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
