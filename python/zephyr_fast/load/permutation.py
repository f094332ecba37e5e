"""The shuffled order of an epoch: a permutation of 0 … size - 1, computed for each index alone.

It is never stored. A Feistel network permutes the numbers below the next power of 4. Where one
lands outside 0 … size - 1, it is permuted again until it is inside ("cycle walking", Black and
Rogaway 2002: the result is a bijection of the smaller range, and fewer than four rounds of walking
are needed on average). Each index costs the same, so a run resumes anywhere at once, and no rank or
worker needs the numbers of another.

An example: ten numbers. The next power of 4 is 16, so the network permutes the numbers of four
bits, by mixing and swapping their halves:

>>> digest = hashlib.sha512(b"zephyr-fast permutation 1: 10: 7").digest()
>>> _network(np.arange(16, dtype=np.uint64), np.frombuffer(digest, dtype="<u8"), half=2).tolist()
[8, 4, 9, 1, 7, 2, 6, 10, 0, 14, 13, 15, 11, 5, 3, 12]

Index 7 lands on 10, which is outside; 10 leads to 13, and 13 to 5, which is inside. Index 9 walks
to 14 and then to 3. All others are inside at once:

>>> permute(np.arange(10), size=10, key="7").tolist()
[8, 4, 9, 1, 7, 2, 6, 5, 0, 3]
"""

import hashlib

import numpy as np
import numpy.typing as npt

VERSION = 1
"""Of the numbers that `permute` gives: it changes when they do, and is part of what a checkpoint
says of its order.
"""

Indices = npt.NDArray[np.int64]

_ROUNDS = 8
# Odd constants with well-mixed bits: the golden ratio, and the first multiplier of MurmurHash3's
# finalizer.
_GOLDEN, _MURMUR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xFF51AFD7ED558CCD)
_MIDDLE = np.uint64(32)


def permute(indices: Indices, size: int, key: str) -> Indices:
    """Where each of `indices` (0 to size - 1) lands under the permutation of `size` numbers that
    `key` names.

    A pure function, and a bijection for every size from 1 to 2^62. Different keys give
    independent permutations.
    """
    digest = hashlib.sha512(f"zephyr-fast permutation {VERSION}: {size}: {key}".encode()).digest()
    keys = np.frombuffer(digest, dtype="<u8")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    landed = _network(indices.astype(np.uint64), keys, half)
    outside = np.flatnonzero(landed >= size)
    while len(outside):
        walked = _network(landed[outside], keys, half)
        landed[outside] = walked
        outside = outside[walked >= size]
    return landed.astype(np.int64)


def _network(
    numbers: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64], half: int
) -> npt.NDArray[np.uint64]:
    """The Feistel network on numbers of 2 x `half` bits."""
    bits, high = np.uint64(half), np.uint64(64 - half)
    left, right = numbers >> bits, numbers & np.uint64((1 << half) - 1)
    for number in range(_ROUNDS):
        mixed = (right + keys[number]) * _GOLDEN
        mixed ^= mixed >> _MIDDLE
        mixed *= _MURMUR
        mixed >>= high
        left, right = right, left ^ mixed
    return (left << bits) | right
