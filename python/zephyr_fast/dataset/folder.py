"""Directories that we write to: every file in them is opened relative to a handle, and no link
in them is ever followed.

A path is resolved anew at each use, so somebody who plants or swaps a link below it decides
where we read, write or delete. A handle stays on the directory that was opened. What a killed
process leaves in one starts with `TEMPORARY_PREFIX`.
"""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from zephyr_fast._core import StorageError
from zephyr_fast.untrusted.bounded import read_handle

TEMPORARY_PREFIX = ".zephyr-draft-"
"""The start of every temporary name, the same as the engine's."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Folder:
    """An open directory. `path` is only for error messages."""

    def __init__(self, handle: int, path: Path) -> None:
        self.handle, self.path = handle, path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a directory that the user named: links on the way to it are theirs. Raises
        OSError.
        """
        return cls(os.open(path, _DIRECTORY), path)

    @classmethod
    def open_unlinked(cls, path: Path) -> Self:
        """Opens a directory that must not itself be a link. Raises OSError."""
        return cls(os.open(path, _DIRECTORY | os.O_NOFOLLOW), path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)

    def child(self, name: str) -> Self:
        """Opens the directory `name` in this one. Raises OSError."""
        try:
            return type(self)(
                os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self.handle), self.path / name
            )
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                raise OSError(
                    0,
                    "it is a link, which is not followed here, or not a directory",
                    str(self.path / name),
                ) from None
            raise

    def made_child(self, name: str, mode: int = 0o777) -> Self:
        """As `child`, but creates the directory if it is missing."""
        try:
            os.mkdir(name, mode, dir_fd=self.handle)
        except FileExistsError:
            pass
        except OSError as error:
            raise StorageError(f"cannot create `{self.path / name}`: {error.strerror}") from error
        try:
            return self.child(name)
        except OSError as error:
            raise StorageError(
                f"cannot open `{self.path / name}`: {error.strerror}; remove it, or put a "
                f"directory there"
            ) from error

    def size(self, name: str) -> int | None:
        """The size of a regular file; None where there is none of that name."""
        try:
            found = os.stat(name, dir_fd=self.handle, follow_symlinks=False)
        except OSError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, name: str, bytes_max: int) -> bytes:
        """The bytes of a regular file. Raises OSError, also for a link and for more than
        `bytes_max`.
        """
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(name, flags, dir_fd=self.handle)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise OSError(
                    0, "it is a link, and links are not followed here", str(self.path / name)
                ) from None
            raise
        return read_handle(handle, self.path / name, bytes_max)

    def write(self, name: str, chunks: Iterable[bytes], mode: int = 0o666) -> None:
        """Writes a file, whole or not at all, in place of any of that name. Raises StorageError,
        and what `chunks` raises.
        """
        draft = f"{TEMPORARY_PREFIX}{name}-{secrets.token_hex(8)}"
        try:
            handle = os.open(
                draft,
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
                mode,
                dir_fd=self.handle,
            )
            try:
                with os.fdopen(handle, "wb") as file:
                    for chunk in chunks:
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(draft, name, src_dir_fd=self.handle, dst_dir_fd=self.handle)
            except BaseException:
                self._remove(draft)
                raise
            os.fsync(self.handle)  # the new name itself outlasts a power cut
        except OSError as error:
            raise StorageError(f"cannot write `{self.path / name}`: {error.strerror}") from error

    def sweep(self, name: str = "") -> None:
        """Removes drafts of this file, or of all files, that killed processes left; only where
        nobody else is writing them.
        """
        for found in os.listdir(self.handle):
            if found.startswith(f"{TEMPORARY_PREFIX}{name}"):
                self._remove(found)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Holds the lock file `name`, which nothing is ever written to. Raises StorageError."""
        try:
            handle = os.open(
                name,
                os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                0o600,
                dir_fd=self.handle,
            )
        except OSError as error:
            raise StorageError(
                f"cannot open the lock `{self.path / name}`: {error.strerror}; remove it if it is "
                f"a link"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(
                handle, fcntl.LOCK_UN
            )  # by word: a worker that was forked meanwhile holds the file open, too
            os.close(handle)

    def free_bytes(self) -> int:
        """What a user without privileges can still write to this file system."""
        found = os.fstatvfs(self.handle)
        return found.f_bavail * found.f_frsize

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self.handle)
        except (FileNotFoundError, IsADirectoryError, PermissionError):
            return
