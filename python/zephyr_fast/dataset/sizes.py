"""Checks that the numbers of a manifest fit the files, before they are used as sizes or offsets."""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from zephyr_fast._core import IntegrityError
from zephyr_fast.dataset.manifest import ShardEntry
from zephyr_fast.dataset.product import Product

BATCH_BYTES_MAX = 1 << 30
"""Maximum size of a batch, which is hashed in one call that Ctrl-C cannot interrupt. The core
ends a batch at 2 MiB, or after a longer row.
"""

ROWS_UNPROVEN = 1 << 20
"""Number of rows above which the files are checked for holes, in addition to their size."""

_BATCH_CLOSES = 2 << 20
"""Bytes of rows, as counted by `Facts.counted_bytes_min`, at which the core ends a batch."""


def check_size(folder: Path, card: ShardEntry) -> None:
    path = folder / card.file
    try:
        found = path.stat()
    except OSError as error:
        raise IntegrityError(
            f"shard `{path}` cannot be read: {error.strerror}; copy the dataset again"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise IntegrityError(f"shard `{path}` is not a regular file; copy the dataset again")
    if found.st_size != card.bytes:
        raise IntegrityError(
            f"shard `{path}` has {found.st_size} bytes, but the manifest lists {card.bytes}; copy "
            "or rebuild the dataset"
        )


def check_still_there(path: Path, card: ShardEntry) -> None:
    """IntegrityError if a mapped file has become shorter. Reading past its end would kill the
    process (SIGBUS).

    The file may still be truncated while a batch is read. No reader of a mapped file can prevent
    that.
    """
    try:
        found = path.stat().st_size
    except OSError:  # removed or moved: the mapping remains valid
        return
    if found < card.bytes:
        raise IntegrityError(
            f"shard `{path}` was truncated to {found} of {card.bytes} bytes while it was in use; "
            "copy it again under another name, then rename it"
        )


def check_batches(folder: Path, card: ShardEntry, product: Product) -> None:
    """Check that the batches follow each other in the file, and that their rows fit.

    The core ends a batch when its rows have 2 MiB. A batch therefore cannot have more rows than
    fit in that, whatever length the manifest lists.
    """
    end = 0
    for index, batch in enumerate(card.batches):
        if not (
            end <= batch.offset
            and 0 < batch.bytes <= card.bytes - batch.offset
            and batch.examples > 0
        ):
            raise IntegrityError(
                f"`{folder}/manifest.json`: batch {index} at offset {batch.offset} is not within "
                f"shard `{card.file}`"
            )
        if batch.bytes > BATCH_BYTES_MAX:
            raise IntegrityError(
                f"`{folder}/manifest.json`: batch {index} of `{card.file}` has more than "
                f"{BATCH_BYTES_MAX:,} bytes"
            )
        if batch.examples > min(
            batch.bytes // product.facts.row_bytes_min,
            _BATCH_CLOSES // product.facts.counted_bytes_min + 1,
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
    """IntegrityError if the data of the files is too small for their rows. A sparse file can have
    any size without using disk space.
    """
    for card in cards:
        needed = card.examples * product.facts.row_bytes_min
        if _data_bytes(folder / card.file, needed) < needed:
            raise IntegrityError(
                f"shard `{folder / card.file}` is mostly empty, and cannot contain "
                f"{card.examples:,} rows; copy it again"
            )


def _data_bytes(path: Path, enough: int) -> int:
    """Return the bytes of a file outside of its holes, counted until there are `enough`. On a file
    system without holes, this is the size of the file.
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
        if error.errno == errno.ENXIO:  # only a hole follows
            return found
        if error.errno in (errno.EINVAL, errno.ENOTSUP):
            return path.stat().st_size
        raise IntegrityError(
            f"shard `{path}` cannot be read: {error.strerror}; copy the dataset again"
        ) from error
    return found
