"""The slow, obvious twin of the training order: one place at a time, whole numbers of Python, no
arrays. Tests compare with it.
"""

import hashlib
from collections.abc import Iterator

MASK = (1 << 64) - 1


def permuted(place: int, size: int, key: str) -> int:
    """Where `place` lands: the documented network on 2 x half bits, walked until it is inside."""
    digest = hashlib.sha512(f"zephyr-fast permutation 1: {size}: {key}".encode()).digest()
    keys = [int.from_bytes(digest[start : start + 8], "little") for start in range(0, 64, 8)]
    half = 1
    while 4**half < size:
        half += 1
    while True:
        left, right = place >> half, place & ((1 << half) - 1)
        for one in keys:
            mixed = (right + one) * 0x9E3779B97F4A7C15 & MASK
            mixed ^= mixed >> 32
            mixed = (mixed * 0xFF51AFD7ED558CCD & MASK) >> (64 - half)
            left, right = right, left ^ mixed
        place = left << half | right
        if place < size:
            return place


def epoch_of(size: int, seed: int, epoch: int) -> list[int]:
    """All rows of one folder in the order of one epoch."""
    return [permuted(place, size, f"{seed}, epoch {epoch}") for place in range(size)]


def steps(
    size: int, seed: int, batch: int, tail: str, epoch: int = 0, cursor: int = 0
) -> Iterator[list[int]]:
    """The rows of one training step after the other, for ever; -1 is padding."""
    rows: list[int] = []
    while True:
        rows += epoch_of(size, seed, epoch)[cursor:]
        epoch, cursor = epoch + 1, 0
        while len(rows) >= batch:
            yield rows[:batch]
            rows = rows[batch:]
        if tail == "drop":
            rows = []
        elif tail == "pad" and rows:
            yield rows + [-1] * (batch - len(rows))
            rows = []
