"""Downloads datasets from URLs (`hf://datasets/…`, `https://…`, see `address.py`) into a cache, and
verifies each file.

    ~/.cache/zephyr-fast/              or $ZEPHYR_FAST_CACHE, owned by the user and not a link
        <URL and manifest, 32 hex digits>/
            locks/                     one file per download, for which processes wait
            data/                      the only directory that a manifest's names refer to
                tokenizer/  manifest.json       downloaded at once (another dataset under the
                                                same URL gets another entry)
                train-00000.arrow …             downloaded on first use, or earlier by the
                                                prefetching threads

A file gets its final name after its SHA-256 was verified, so every file in the cache is complete.
The URL is not stored in the cache. Only the process that opened the URL, and its workers, know
it. A file in a directory therefore cannot trigger requests to a server.
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from queue import Empty, SimpleQueue

from zephyr_fast._core import InputError, IntegrityError, StorageError, ZephyrError
from zephyr_fast.dataset import download
from zephyr_fast.dataset.address import Address, refuse_cut_url
from zephyr_fast.dataset.folder import Folder
from zephyr_fast.dataset.manifest import BYTES_MAX, FileEntry, Manifest, ShardEntry

STREAMS = 4
"""Files that are prefetched in parallel. One connection rarely uses the full bandwidth."""
AHEAD = "zephyr-fast-ahead"
"""Name of the prefetching threads."""

SHARD_BYTES_MAX = 1 << 30
"""Maximum size of a downloaded shard. The core writes 512 MB by default."""

TOKENIZER_BYTES_MAX = 64 << 20
"""Maximum size of a downloaded tokenizer file, twice that of the largest vocabularies in use."""

_MANIFEST = "manifest.json"

_opened: dict[Path, Address] = {}
"""The URLs that this process has opened, by their cache directory. They may contain credentials,
so they are kept in memory only.
"""


def local(folder: str | Path) -> Path:
    """Return the local directory of a dataset. For a URL, download its manifest and tokenizer into
    the cache first. Raises InputError, IntegrityError and StorageError.
    """
    refuse_cut_url(folder)
    if "://" not in str(folder):
        return Path(folder).absolute()
    address = Address.parse(str(folder))
    text = _manifest_of(address)
    where = str(address.file(_MANIFEST))
    try:
        manifest = Manifest.parse(text.decode(), where)
    except UnicodeDecodeError as error:
        raise IntegrityError(f"`{where}` is damaged: {error}") from None
    _check_sizes(manifest, where)
    key = hashlib.sha256(f"{address}\n".encode() + text).hexdigest()[:32]
    origin = Origin(_cache() / key / "data", address)
    for card in manifest.files:
        if card.file.startswith("tokenizer/"):
            origin.fetch(card)
    origin.keep(_MANIFEST, text)
    _opened[origin.folder] = address
    return origin.folder


def origin_of(folder: Path) -> "Origin | None":
    """Return the source of a directory's missing files, or None if this process did not open it by
    its URL.
    """
    address = _opened.get(folder)
    return None if address is None else Origin(folder, address)


class Origin:
    """The URL of a dataset, and `folder`, its directory in the cache."""

    def __init__(self, folder: Path, address: Address) -> None:
        self.folder, self._address = folder, address

    def for_worker(self) -> Address:
        """Return the address for another process. The secrets are included only while a worker is
        being started, because other pickles may be stored in a file or a visible hash.
        """
        if get_spawning_popen() is not None:
            return self._address
        return Address(
            self._address.scheme,
            self._address.host,
            self._address.path,
            lacks_secrets=self._address.has_secrets,
        )

    def fetch(self, card: FileEntry | ShardEntry) -> None:
        """Download a file unless it is already in the cache. InputError if it cannot be read,
        IntegrityError if it does not match the manifest.
        """
        above, _, name = card.file.rpartition("/")
        with (
            self._entry() as entry,
            entry.made_child("data", 0o700) as data,
            _within(data, above) as folder,
        ):
            if folder.size(name) == card.bytes:
                return
            with (
                entry.made_child("locks", 0o700) as locks,
                locks.locked(f"{card.file.replace('/', '-')}.lock"),
            ):
                # Another process may have downloaded it while this one waited.
                if folder.size(name) != card.bytes:
                    self._write(folder, name, card)

    def keep(self, name: str, content: bytes) -> None:
        """Write a file with known content."""
        with self._entry() as entry, entry.made_child("data", 0o700) as data:
            data.write(name, [content], 0o600)

    def prefetch(self, cards: Sequence[ShardEntry]) -> list[threading.Thread]:
        """Download files in the background, in this order. Errors are reported when the file is
        read.
        """
        waiting: SimpleQueue[ShardEntry] = SimpleQueue()
        for card in cards:
            waiting.put(card)
        # Daemons, because a run that ends or fails must not wait for downloads.
        threads = [
            threading.Thread(target=self._fetch_all, args=(waiting,), name=AHEAD, daemon=True)
            for _ in range(min(STREAMS, len(cards)))
        ]
        for thread in threads:
            thread.start()
        return threads

    def _fetch_all(self, waiting: "SimpleQueue[ShardEntry]") -> None:
        try:
            while True:
                self.fetch(waiting.get_nowait())
        except (Empty, ZephyrError):
            return

    @contextmanager
    def _entry(self) -> Iterator[Folder]:
        """Open the cache entry, which contains `data` and `locks`."""
        entry = self.folder.parent
        with _root(entry.parent) as root, root.made_child(entry.name, 0o700) as opened:
            _check_own(opened)
            yield opened

    def _write(self, folder: Folder, name: str, card: FileEntry | ShardEntry) -> None:
        if self._address.lacks_secrets:
            raise InputError(
                f"cannot read `{self._address.file(card.file)}`: the URL was opened with "
                "credentials, which are never stored; open the URL again in this process"
            )
        if card.bytes > folder.free_bytes():
            raise StorageError(
                f"not enough space for `{folder.path / name}`: it has {card.bytes:,} bytes, and "
                f"{folder.free_bytes():,} are free; set ZEPHYR_FAST_CACHE to a directory on a "
                "larger disk"
            )
        folder.sweep(f"{name}-")
        folder.write(name, _checked(self._address.file(card.file), card), 0o600)


def remember(folder: Path, address: Address) -> None:
    """Register the source of a directory's files in a worker process. It comes from the process
    that opened the URL.
    """
    if folder not in _opened or _opened[folder].lacks_secrets:
        _opened[folder] = address


def _manifest_of(address: Address) -> bytes:
    chunks, size = [], 0
    for chunk in download.read(address.file(_MANIFEST), BYTES_MAX):
        chunks.append(chunk)
        size += len(chunk)
    if size > BYTES_MAX:
        raise IntegrityError(
            f"`{address.file(_MANIFEST)}` has more than {BYTES_MAX:,} bytes, the maximum for "
            "a manifest"
        )
    return b"".join(chunks)


def _check_sizes(manifest: Manifest, where: str) -> None:
    """No file is fetched that is larger than one of its kind can be."""
    shards = [
        (shard, SHARD_BYTES_MAX) for split in manifest.splits.values() for shard in split.shards
    ]
    tokenizer = [
        (file, TOKENIZER_BYTES_MAX) for file in manifest.files if file.file.startswith("tokenizer/")
    ]
    cards: list[tuple[FileEntry | ShardEntry, int]] = [*shards, *tokenizer]
    for card, bytes_max in cards:
        if card.bytes > bytes_max:
            raise IntegrityError(
                f"`{where}` lists `{card.file}` with {card.bytes:,} bytes; the maximum for a "
                f"download is {bytes_max:,}"
            )


def _checked(address: Address, card: FileEntry | ShardEntry) -> Iterator[bytes]:
    """Yield the file's bytes, at most as many as the manifest lists. IntegrityError at the end if
    their number or digest differs.
    """
    digest, size = hashlib.sha256(), 0
    for chunk in download.read(address, card.bytes):
        digest.update(chunk)
        size += len(chunk)
        if size <= card.bytes:
            yield chunk
    if (size, digest.hexdigest()) != (card.bytes, card.sha256):
        found = f"more than {card.bytes}" if size > card.bytes else f"{size} of {card.bytes}"
        raise IntegrityError(
            f"`{address}` does not match its manifest ({found} bytes); retry, or upload the file "
            "again"
        )


def _cache() -> Path:
    given = os.environ.get("ZEPHYR_FAST_CACHE")
    try:
        path = (
            Path(given)
            if given
            else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zephyr-fast"
        )
        return path.absolute()
    except (RuntimeError, OSError):
        raise InputError(
            "there is no home directory for downloaded files; set ZEPHYR_FAST_CACHE to a directory "
            "that you own"
        ) from None


@contextmanager
def _root(path: Path) -> Iterator[Folder]:
    """Open the root of the cache, and create it if it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(0o700, exist_ok=True)
        root = Folder.open_unlinked(path)
    except OSError as error:
        problem = (
            "it is a link; set ZEPHYR_FAST_CACHE to the target of the link"
            if path.is_symlink()
            else error.strerror
        )
        raise StorageError(f"cannot use the cache `{path}`: {problem}") from None
    with root:
        _check_own(root)
        yield root


def _check_own(folder: Folder) -> None:
    """StorageError if another user could plant or replace files in the directory."""
    found = os.fstat(folder.handle)
    if found.st_uid != os.geteuid():
        problem = "it belongs to another user; set ZEPHYR_FAST_CACHE to a directory that you own"
    elif found.st_mode & 0o002:
        problem = (
            f"it is writable by everyone; run `chmod 700 {folder.path}`, or set ZEPHYR_FAST_CACHE "
            "to another directory"
        )
    else:
        return
    raise StorageError(f"cannot use the cache `{folder.path}`: {problem}")


@contextmanager
def _within(data: Folder, name: str) -> Iterator[Folder]:
    """Open the directory of a file: `data` itself, or its subdirectory `name`."""
    if not name:
        yield data
        return
    with data.made_child(name, 0o700) as folder:
        yield folder
