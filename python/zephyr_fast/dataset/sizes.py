"""Checks that the numbers of a manifest fit the files, before anything is sized or sought by one
of them.
"""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from zephyr_fast._core import IntegrityError
from zephyr_fast.dataset.manifest import ShardEntry
from zephyr_fast.dataset.product import Product

BATCH_BYTES_MAX = 1 << 30
"""Size of a batch, which is hashed in one call that Ctrl-C cannot end. The engine closes one at
2 MiB, or behind a row that is longer.
"""

ROWS_UNPROVEN = 1 << 20
"""Rows that are believed as long as the files have the size for them; for more, the files are
looked at for holes.
"""

_BATCH_CLOSES = 2 << 20
"""Bytes of rows, as `Product.counted_bytes_min` counts them, with which the engine closes a
batch.
"""


def check_size(folder: Path, card: ShardEntry) -> None:
    path = folder / card.file
    try:
        found = path.stat()
    except OSError as error:
        raise IntegrityError(
            f"shard `{path}` cannot be read: {error.strerror}; copy the folder again"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise IntegrityError(f"shard `{path}` is not a regular file; copy the folder again")
    if found.st_size != card.bytes:
        raise IntegrityError(
            f"shard `{path}` has {found.st_size} bytes, the manifest says {card.bytes}; copy or "
            "make it again"
        )


def check_still_there(path: Path, card: ShardEntry) -> None:
    """Refuses a mapped file that has become shorter since: reading behind its end would kill the
    process (SIGBUS).

    It may still be cut while a batch is read; no reader of a mapped file can rule that out.
    """
    try:
        found = path.stat().st_size
    except OSError:  # removed or moved away: what is mapped stays
        return
    if found < card.bytes:
        raise IntegrityError(
            f"shard `{path}` was cut to {found} of {card.bytes} bytes while it was in use; copy it "
            "again under another name, then rename"
        )


def check_batches(folder: Path, card: ShardEntry, product: Product) -> None:
    """The batches lie in the file one behind the other, with no more rows than fit: nothing is
    sized or sought by an unchecked number.

    A batch is closed once its rows have 2 MiB, so it has no more rows than fit in that, however
    long it is said to be.
    """
    end = 0
    for index, batch in enumerate(card.batches):
        if not (
            end <= batch.offset
            and 0 < batch.bytes <= card.bytes - batch.offset
            and batch.examples > 0
        ):
            raise IntegrityError(
                f"`{folder}/manifest.json`: batch {index} at offset {batch.offset} does not lie in "
                f"shard `{card.file}`"
            )
        if batch.bytes > BATCH_BYTES_MAX:
            raise IntegrityError(
                f"`{folder}/manifest.json`: batch {index} of `{card.file}` has more than "
                f"{BATCH_BYTES_MAX:,} bytes"
            )
        if batch.examples > min(
            batch.bytes // product.row_bytes_min, _BATCH_CLOSES // product.counted_bytes_min + 1
        ):
            raise IntegrityError(
                f"`{folder}/manifest.json`: batch {index} of `{card.file}` has {batch.bytes} bytes "
                f"and {batch.examples} rows"
            )
        end = batch.offset + batch.bytes
    if card.examples != sum(batch.examples for batch in card.batches):
        raise IntegrityError(
            f"`{folder}/manifest.json`: the batches of `{card.file}` do not add up to its "
            f"{card.examples} rows"
        )


def check_room(folder: Path, cards: Sequence[ShardEntry], product: Product) -> None:
    """IntegrityError where what the files really hold has no room for their rows: a hole of a
    gigabyte costs its author nothing.
    """
    for card in cards:
        needed = card.examples * product.row_bytes_min
        if _data_bytes(folder / card.file, needed) < needed:
            raise IntegrityError(
                f"shard `{folder / card.file}` is empty for the most part, and cannot hold "
                f"{card.examples:,} rows; copy it again"
            )


def _data_bytes(path: Path, enough: int) -> int:
    """Bytes of a file outside of its holes, counted until there are `enough`; all of them, where
    the file system knows no holes.
    """
    found, end = 0, 0
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            while found < enough:
                start = os.lseek(handle, end, os.SEEK_DATA)
                end = os.lseek(handle, start, os.SEEK_HOLE)
                found += end - start
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole follows
            return found
        if error.errno in (errno.EINVAL, errno.ENOTSUP):
            return path.stat().st_size
        raise IntegrityError(
            f"shard `{path}` cannot be read: {error.strerror}; copy the folder again"
        ) from error
    return found
