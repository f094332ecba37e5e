"""The file of calls: append-only, one line per event, readable after any crash.

A `sent` line is written before each request, and an `answer` or `failure` line after it. Each line
is written with one system call, so `kill -9` can only truncate the last one, which the next run
removes. A call with a `sent` line but no outcome may have been paid for, so its reserve stays
spent. Only the first outcome of a key is used. Later ones add to the cost.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from zephyr_fast._core import InputError, IntegrityError, LockedError, StorageError
from zephyr_fast.endpoint import line
from zephyr_fast.endpoint.budget import Cost
from zephyr_fast.endpoint.call import Outcome
from zephyr_fast.endpoint.line import Head
from zephyr_fast.printed import shown

LINE_BYTES_MAX = 16 << 20
"""Maximum line length: the bytes of a reply, escaped twice."""

_LENGTH_BITS = 25
_SCAN_BYTES = 4 << 20


class CallLog:
    """An open log, with an index of its outcomes. Close it, or use it as a context manager.

    `spent` counts every ended call, and the reserves of calls without an outcome.
    """

    def __init__(
        self, path: Path, *, read_only: bool = False, directory: int | None = None
    ) -> None:
        """Open the log. `directory` is a handle of the directory that `path` is in, if there is
        one.
        """
        self.path = path
        self._places: dict[bytes, int] = {}
        self._open: dict[tuple[bytes, int], Cost] = {}
        self._attempts: dict[bytes, int] = {}
        self.batched: dict[str, str] = {}
        """Exported calls that have no result yet: by key, the name of the file."""
        self._nanousd = self._tokens = 0
        self._end = 0
        self._is_dirty = self._is_broken = False
        self._handle = _opened(path, read_only, directory)
        try:
            self._scan(cut_tail=not read_only)
            if not read_only and not self._end:  # a new file, whose name must also be durable
                sync_directory(path)
        except OSError as error:
            os.close(self._handle)
            raise _unwritable(path, error) from error
        except BaseException:
            os.close(self._handle)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Sync and close the file, and release the lock."""
        try:
            self.sync()
        finally:
            os.close(self._handle)

    def __contains__(self, key: str) -> bool:
        return bytes.fromhex(key) in self._places

    def __len__(self) -> int:
        return len(self._places)

    @property
    def spent(self) -> Cost:
        """Return the cost of all calls. Calls without an outcome count with their reserve."""
        reserved = self._open.values()
        return Cost(
            self._nanousd + sum(cost.nanousd or 0 for cost in reserved),
            self._tokens + sum(cost.tokens or 0 for cost in reserved),
        )

    def outcome(self, key: str) -> Outcome | None:
        """Return the first final outcome of a call. IntegrityError if its line is damaged."""
        place = self._places.get(bytes.fromhex(key))
        if place is None:
            return None
        offset, length = place >> _LENGTH_BITS, place & ((1 << _LENGTH_BITS) - 1)
        try:
            return line.outcome_of(os.pread(self._handle, length, offset))
        except ValueError as error:
            number = self._line_number(offset)
            raise IntegrityError(
                f"`{shown(self.path)}`:{number} is damaged ({shown(error)}); delete line {number} "
                "to ask its call again"
            ) from None

    def _line_number(self, offset: int) -> int:
        """Return the number of the line at a byte offset, from 1."""
        return 1 + sum(place < offset for place, *_ in _lines(self._handle))

    def sent(self, key: str, endpoint: str, reserved: Cost, batch: str | None = None) -> int:
        """Record that a call is about to be sent, and return the number of the attempt."""
        attempt = self._attempts.get(bytes.fromhex(key), 0) + 1
        self._append(line.sent(key, attempt, endpoint, reserved, batch))
        return attempt

    def ended(
        self,
        key: str,
        attempt: int,
        endpoint: str,
        cost: Cost,
        outcome: Outcome,
        *,
        is_final: bool,
    ) -> None:
        """Record the outcome of a call."""
        self._append(line.ended(key, attempt, endpoint, cost, outcome, is_final=is_final))

    def last_attempt(self, key: str) -> int:
        """Return the number of the last attempt at a call, or 0 if there was no attempt."""
        return self._attempts.get(bytes.fromhex(key), 0)

    def reserved(self, key: str, attempt: int) -> Cost:
        """Return the amount that a call without an outcome has reserved."""
        return self._open.get((bytes.fromhex(key), attempt), Cost(0, 0))

    def sync(self) -> None:
        """Sync the file to disk. StorageError if that fails."""
        if not self._is_dirty:
            return
        self._is_dirty = False
        try:
            os.fsync(self._handle)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _append(self, text: bytes) -> None:
        if self._is_broken:
            raise StorageError(f"`{shown(self.path)}` ends in half a line; run again to repair it")
        head = line.head_of(text, 0, len(text) - 1)
        if head is None:
            raise InputError(f"cannot be read back from a call log: {shown(text, 200)}")
        rest = memoryview(text)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except OSError as error:
            self._remove_end(len(text) - len(rest))
            raise _unwritable(self.path, error) from error
        self._is_dirty = True
        # The lock excludes other writers, but where locks do not work, one may have moved the end.
        end = os.lseek(self._handle, 0, os.SEEK_CUR)
        self._note(head, end - len(text), len(text) - 1)
        self._end = end

    def _remove_end(self, written: int) -> None:
        """Remove an incomplete line, so that the next one does not continue it."""
        if not written:
            return
        try:
            os.ftruncate(self._handle, os.lseek(self._handle, 0, os.SEEK_CUR) - written)
        except OSError:
            self._is_broken = True

    def _note(self, head: Head, offset: int, length: int) -> None:
        key = head.key
        attempt = (key, head.attempt)
        if head.is_sent:
            self._attempts[key] = max(self._attempts.get(key, 0), head.attempt)
            self._open[attempt] = Cost(head.nanousd, head.tokens)
            if head.batch is not None:
                self.batched[key.hex()] = head.batch
            return
        self._open.pop(attempt, None)
        if self.batched:
            self.batched.pop(key.hex(), None)
        self._nanousd += head.nanousd
        self._tokens += head.tokens
        if head.is_final:
            self._attempts.pop(key, None)
            self._places.setdefault(key, offset << _LENGTH_BITS | length)

    def _scan(self, cut_tail: bool) -> None:
        for number, (offset, block, start, end) in enumerate(_lines(self._handle), start=1):
            head = line.head_of(block, start, end)
            if head is None:
                raise IntegrityError(
                    f"`{shown(self.path)}`:{number} is not a line of a call log; delete line "
                    f"{number} to go on without it"
                )
            self._note(head, offset, end - start)
            self._end = offset + end - start + 1
        if cut_tail and os.fstat(self._handle).st_size > self._end:
            os.ftruncate(self._handle, self._end)
        if cut_tail:
            os.lseek(self._handle, 0, os.SEEK_END)


def _lines(handle: int) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield the offset of each complete line in the file, a block that holds it, and its start and
    end in the block.
    """
    offset, rest = 0, b""
    while block := os.pread(handle, _SCAN_BYTES, offset + len(rest)):
        block, start = rest + block, 0
        while (end := block.find(b"\n", start)) >= 0:
            yield offset + start, block, start, end
            start = end + 1
        offset, rest = offset + start, block[start:]
        if len(rest) > LINE_BYTES_MAX + _SCAN_BYTES:
            raise IntegrityError(f"a line has more than {LINE_BYTES_MAX:,} bytes")


def _opened(path: Path, read_only: bool, directory: int | None) -> int:
    flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_APPEND | os.O_CREAT
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        name = path if directory is None else path.name
        handle = os.open(name, flags, 0o644, dir_fd=directory)
    except OSError as error:
        raise InputError(f"cannot open `{shown(path)}`: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise InputError(f"`{shown(path)}` is not a regular file")
        if not read_only:
            _lock(handle, path)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _lock(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LockedError(f"another run is writing `{shown(path)}`") from error
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"cannot lock `{shown(path)}`: {reason}; use another disk") from error


def sync_directory(path: Path) -> None:
    """Sync the directory of a file, so that its name is durable. Raises OSError."""
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write `{shown(path)}`: {error.strerror or error}")
