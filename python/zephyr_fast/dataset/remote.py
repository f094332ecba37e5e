"""Data sets that lie elsewhere (`hf://datasets/…`, `https://…`, see `address.py`): fetched into
a cache, file by file, and checked.

    ~/.cache/zephyr-fast/              or $ZEPHYR_FAST_CACHE; ours alone, and no link
        <URL and manifest, 32 hex digits>/
            locks/                     one file per download; processes wait for each other
            data/                      the only place that a manifest's names reach
                tokenizer/  manifest.json       at once; another data set under the same URL is
                                                another entry
                train-00000.arrow …             when they are first read, or before, as they are
                                                fetched ahead in their order

A file gets its name once its SHA-256 is the manifest's, so one that is there is whole. The URL
itself is not in the cache: where files come from is known to the process that opened the URL and
to its workers, so no file in a directory can make anyone ask a server.
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
"""Files that are fetched ahead at the same time: one connection seldom fills a line."""
AHEAD = "zephyr-fast-ahead"
"""The name of the threads that do so."""

SHARD_BYTES_MAX = 1 << 30
"""Size of a shard that is fetched; the engine writes 512 MB unless told otherwise."""

TOKENIZER_BYTES_MAX = 64 << 20
"""Size of a tokenizer's file that is fetched; the largest vocabularies in use take about half."""

_MANIFEST = "manifest.json"

_opened: dict[Path, Address] = {}
"""The URLs that this process has opened, by their directory in the cache. In memory alone, since
they may hold credentials.
"""


def local(folder: str | Path) -> Path:
    """The directory itself; of a URL, its directory in the cache, with manifest and tokenizer in
    it. Errors: InputError, IntegrityError.
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
    """Where the missing files of a directory come from; None for any that this process did not
    open by its URL.
    """
    address = _opened.get(folder)
    return None if address is None else Origin(folder, address)


class Origin:
    """The URL of which `folder`, a directory in the cache, is a copy."""

    def __init__(self, folder: Path, address: Address) -> None:
        self.folder, self._address = folder, address

    def for_worker(self) -> Address:
        """What another process needs to fetch for itself. Only a worker that is being started is
        given the secret parts of the URL: a pickle may also go to a file, or into a visible
        hash.
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
        """Sees to it that this file is in the folder. InputError where it cannot be read,
        IntegrityError where it is another.
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
                # Another process may have fetched it while this one waited.
                if folder.size(name) != card.bytes:
                    self._write(folder, name, card)

    def keep(self, name: str, content: bytes) -> None:
        """Writes a file of which the content is at hand."""
        with self._entry() as entry, entry.made_child("data", 0o700) as data:
            data.write(name, [content], 0o600)

    def prefetch(self, cards: Sequence[ShardEntry]) -> list[threading.Thread]:
        """Fetches these files in the background, in this order; what goes wrong is said to
        whoever reads the file.
        """
        waiting: SimpleQueue[ShardEntry] = SimpleQueue()
        for card in cards:
            waiting.put(card)
        # Daemons: a run that ends, or fails, does not wait for files that nobody will read.
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
        """The entry of the cache, which holds `data` and `locks`."""
        entry = self.folder.parent
        with _root(entry.parent) as root, root.made_child(entry.name, 0o700) as opened:
            _check_own(opened)
            yield opened

    def _write(self, folder: Folder, name: str, card: FileEntry | ShardEntry) -> None:
        if self._address.lacks_secrets:
            raise InputError(
                f"cannot read `{self._address.file(card.file)}`: the URL was opened with "
                "credentials, which are never stored; "
                "open the URL again in this process"
            )
        if card.bytes > folder.free_bytes():
            raise StorageError(
                f"no room for `{folder.path / name}`: it takes {card.bytes:,} bytes, "
                f"{folder.free_bytes():,} are free; "
                "set ZEPHYR_FAST_CACHE to a directory with more room"
            )
        folder.sweep(f"{name}-")
        folder.write(name, _checked(self._address.file(card.file), card), 0o600)


def remember(folder: Path, address: Address) -> None:
    """Tells this process where a directory's files come from; for a worker, which is told by the
    process that opened the URL.
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
            f"`{address.file(_MANIFEST)}` has more than {BYTES_MAX:,} bytes, which no manifest of "
            "ours has"
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
                f"`{where}` gives `{card.file}` {card.bytes:,} bytes; no more than {bytes_max:,} "
                "are fetched"
            )


def _checked(address: Address, card: FileEntry | ShardEntry) -> Iterator[bytes]:
    """The file's bytes, no more than the manifest says; IntegrityError at their end, or at the
    first one too many, if they are others.
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
            f"`{address}` is not the file that its manifest describes ({found} bytes); try again, "
            "or upload it again"
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
            "there is no home directory to keep fetched files in; set ZEPHYR_FAST_CACHE to a "
            "directory of your own"
        ) from None


@contextmanager
def _root(path: Path) -> Iterator[Folder]:
    """The root of the cache, made if it is missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(0o700, exist_ok=True)
        root = Folder.open_unlinked(path)
    except OSError as error:
        problem = (
            "it is a link; set ZEPHYR_FAST_CACHE to the directory it leads to"
            if path.is_symlink()
            else error.strerror
        )
        raise StorageError(f"cannot use the cache `{path}`: {problem}") from None
    with root:
        _check_own(root)
        yield root


def _check_own(folder: Folder) -> None:
    """Refuses a directory in which somebody else could have planted files, or may swap them."""
    found = os.fstat(folder.handle)
    if found.st_uid != os.geteuid():
        problem = "it belongs to another user; set ZEPHYR_FAST_CACHE to a directory of your own"
    elif found.st_mode & 0o002:
        problem = (
            f"everyone may write to it; `chmod 700 {folder.path}` it, or set ZEPHYR_FAST_CACHE to "
            "another directory"
        )
    else:
        return
    raise StorageError(f"cannot use the cache `{folder.path}`: {problem}")


@contextmanager
def _within(data: Folder, name: str) -> Iterator[Folder]:
    """The directory of a file: `data` itself, or the one in it that is called so."""
    if not name:
        yield data
        return
    with data.made_child(name, 0o700) as folder:
        yield folder
