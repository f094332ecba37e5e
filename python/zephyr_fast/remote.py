"""Out folders that lie elsewhere (`hf://datasets/…`, `s3://…`, any URL that fsspec knows): fetched into a cache, file by file, and checked.

    ~/.cache/zephyr-fast/<manifest, 16 hex digits>/     or under $ZEPHYR_FAST_CACHE
        origin.json  tokenizer/  manifest.json          at once; another data set under the same URL is another folder
        train-00000.arrow …                             when they are first read, or before, as they are fetched ahead in their order

A file gets its name once its SHA-256 is the manifest's, so one that is there is whole. Processes wait for each other's downloads.
"""

import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from queue import Empty, SimpleQueue

from zephyr_fast._core import InputError, IntegrityError, ZephyrError
from zephyr_fast.commit import TEMPORARY_PREFIX, commit, commit_chunks
from zephyr_fast.manifest import FileCard, Manifest, ShardCard

CHUNK = 8 << 20
"""Bytes that are read and hashed at once."""

STREAMS = 4
"""Files that are fetched ahead at the same time: one connection seldom fills a line."""

_ORIGIN = "origin.json"


def local(folder: str | Path) -> Path:
    """The folder itself; of a URL, its folder in the cache, with manifest and tokenizer in it. Errors: InputError, IntegrityError."""
    if "://" not in str(folder):
        return Path(folder).absolute()
    url = str(folder).rstrip("/")
    text = b"".join(_read(f"{url}/manifest.json"))
    manifest = Manifest.parse(text.decode("utf-8", "replace"), f"{url}/manifest.json")
    cached = _cache() / hashlib.sha256(text).hexdigest()[:16]
    commit(cached / _ORIGIN, json.dumps({"url": url}).encode())
    origin = Origin(cached, url)
    for card in manifest.files:
        if PurePosixPath(card.file).parent == PurePosixPath("tokenizer"):
            origin.fetch(card)
    commit(cached / "manifest.json", text)
    return cached


def origin_of(folder: Path) -> "Origin | None":
    """Where the files of a folder in the cache come from; None for any other folder."""
    try:
        return Origin(folder, json.loads((folder / _ORIGIN).read_text(encoding="utf-8"))["url"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"`{folder / _ORIGIN}` is damaged: {error}; remove `{folder}`, it is a copy") from error


class Origin:
    """The URL of which `folder` is a copy."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url

    def fetch(self, card: FileCard | ShardCard) -> None:
        """Sees to it that this file is in the folder. InputError where it cannot be read, IntegrityError where it is another."""
        path = self._folder / card.file
        if PurePosixPath(card.file).is_absolute() or ".." in PurePosixPath(card.file).parts:
            raise IntegrityError(f"`{self._url}/manifest.json` names the file `{card.file}`, which is not one of this folder")
        if _is_there(path, card):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{TEMPORARY_PREFIX}lock-{hashlib.sha256(card.file.encode()).hexdigest()[:16]}").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                if not _is_there(path, card):  # another process may have fetched it while this one waited
                    commit_chunks(path, _checked(f"{self._url}/{card.file}", card))
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)  # by word: a worker that was forked meanwhile holds the file open, too

    def prefetch(self, cards: Sequence[ShardCard]) -> list[threading.Thread]:
        """Fetches these files in the background, in this order; what goes wrong is said to whoever reads the file."""
        waiting: SimpleQueue[ShardCard] = SimpleQueue()
        for card in cards:
            waiting.put(card)
        # Daemons: a run that ends, or fails, does not wait for files that nobody will read.
        threads = [threading.Thread(target=self._fetch_all, args=(waiting,), daemon=True) for _ in range(min(STREAMS, len(cards)))]
        for thread in threads:
            thread.start()
        return threads

    def _fetch_all(self, waiting: "SimpleQueue[ShardCard]") -> None:
        try:
            while True:
                self.fetch(waiting.get_nowait())
        except (Empty, ZephyrError):
            return


def _cache() -> Path:
    given = os.environ.get("ZEPHYR_FAST_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zephyr-fast"


def _is_there(path: Path, card: FileCard | ShardCard) -> bool:
    return path.is_file() and path.stat().st_size == card.bytes


def _checked(url: str, card: FileCard | ShardCard) -> Iterator[bytes]:
    """The file's bytes; IntegrityError at their end if they are not those of the manifest."""
    digest, size = hashlib.sha256(), 0
    for chunk in _read(url):
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if (size, digest.hexdigest()) != (card.bytes, card.sha256):
        raise IntegrityError(
            f"`{url}` is not the file that its manifest describes ({size} of {card.bytes} bytes); try again, or upload it again"
        )


def _read(url: str) -> Iterator[bytes]:
    import fsspec

    try:
        with fsspec.open(url, "rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except Exception as error:  # each of fsspec's file systems has errors of its own
        raise InputError(f"cannot read `{url}`: {' '.join(str(error).split()) or type(error).__name__}") from error
