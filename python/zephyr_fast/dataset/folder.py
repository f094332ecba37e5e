"""Directories that are written to: files are opened relative to a handle, without following links.

A path is resolved at each use, so anyone who plants or swaps a link in it could redirect reads,
writes and removals. A handle always refers to the directory that was opened. The names of files
that a killed process leaves start with `TEMPORARY_PREFIX`.
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
"""Prefix of every temporary name, the same as in the core."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Folder:
    """An open directory. `path` is only for error messages."""

    def __init__(self, handle: int, path: Path) -> None:
        self.handle, self.path = handle, path

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a directory that the user named. Links on the way to it are followed. Raises
        OSError.
        """
        return cls(os.open(path, _DIRECTORY), path)

    @classmethod
    def open_unlinked(cls, path: Path) -> Self:
        """Open a directory that must not be a link itself. Raises OSError."""
        return cls(os.open(path, _DIRECTORY | os.O_NOFOLLOW), path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.handle)

    def child(self, name: str) -> Self:
        """Open the directory `name` in this one. Raises OSError."""
        try:
            return type(self)(
                os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self.handle), self.path / name
            )
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EMLINK):
                raise OSError(
                    0,
                    "it is a link, which is not followed, or not a directory",
                    str(self.path / name),
                ) from None
            raise

    def made_child(self, name: str, mode: int = 0o777) -> Self:
        """Open the directory `name` in this one, and create it if it is missing."""
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
                f"cannot open `{self.path / name}`: {error.strerror}; remove it, or "
                "replace it with a directory"
            ) from error

    def size(self, name: str) -> int | None:
        """Return the size of a regular file, or None if there is no such file."""
        try:
            found = os.stat(name, dir_fd=self.handle, follow_symlinks=False)
        except OSError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, name: str, bytes_max: int) -> bytes:
        """Return the bytes of a regular file. Raises OSError, also for a link and for more than
        `bytes_max` bytes.
        """
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(name, flags, dir_fd=self.handle)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise OSError(
                    0, "it is a link, which is not followed", str(self.path / name)
                ) from None
            raise
        return read_handle(handle, self.path / name, bytes_max)

    def write(self, name: str, chunks: Iterable[bytes], mode: int = 0o666) -> None:
        """Write a file atomically, replacing any file of that name. Raises StorageError, and any
        error of `chunks`.
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
            os.fsync(self.handle)  # makes the new name durable
        except OSError as error:
            raise StorageError(f"cannot write `{self.path / name}`: {error.strerror}") from error

    def sweep(self, name: str = "") -> None:
        """Remove temporary files that killed processes left, of this file or of all. The caller
        ensures that no other process is writing them.
        """
        for found in os.listdir(self.handle):
            if found.startswith(f"{TEMPORARY_PREFIX}{name}"):
                self._remove(found)

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock file `name`, which stays empty. Raises StorageError."""
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
                "a link"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            # Explicitly, because a worker forked in the meantime keeps the file open, too.
            fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)

    def free_bytes(self) -> int:
        """Return the bytes that an unprivileged user can still write to this file system."""
        found = os.fstatvfs(self.handle)
        return found.f_bavail * found.f_frsize

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self.handle)
        except (FileNotFoundError, IsADirectoryError, PermissionError):
            return
