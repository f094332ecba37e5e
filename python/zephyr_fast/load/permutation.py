"""The shuffled order of an epoch: a permutation of 0 … size - 1, computed per index.

It is never stored. A Feistel network permutes the numbers below the next power of 4. A result out
of range is permuted again until it is in range. This is a bijection of the smaller range, and takes
fewer than four rounds on average (Black and Rogaway 2002). Every index costs the same, so a run
resumes anywhere immediately, and ranks and workers need not exchange numbers.

Example with ten numbers: the next power of 4 is 16, so the network permutes 4-bit numbers by mixing
and swapping their halves:

>>> digest = hashlib.sha512(b"zephyr-fast permutation 1: 10: 7").digest()
>>> _network(np.arange(16, dtype=np.uint64), np.frombuffer(digest, dtype="<u8"), half=2).tolist()
[8, 4, 9, 1, 7, 2, 6, 10, 0, 14, 13, 15, 11, 5, 3, 12]

Index 7 maps to 10, which is out of range. 10 maps to 13, and 13 to 5, which is in range. Index 9
maps to 14 and then to 3. All others are in range immediately:

>>> permute(np.arange(10), size=10, key="7").tolist()
[8, 4, 9, 1, 7, 2, 6, 5, 0, 3]
"""

import hashlib

import numpy as np
import numpy.typing as npt

VERSION = 1
"""Version of the permutation, stored in checkpoints. Raise it if results change."""

Indices = npt.NDArray[np.int64]

_ROUNDS = 8
# Odd constants with well-mixed bits: the golden ratio, and the first multiplier of MurmurHash3's
# finalizer.
_GOLDEN, _MURMUR = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xFF51AFD7ED558CCD)
_MIDDLE = np.uint64(32)


def permute(indices: Indices, size: int, key: str) -> Indices:
    """Return where the permutation of `size` numbers named by `key` maps each index.

    A pure function, and a bijection for every size from 1 to 2^62. Different keys give independent
    permutations.

    Args:
        indices: Numbers from 0 to size - 1, any shape, int64.
        size: Number of elements.
        key: Name of the permutation.

    Returns:
        The permuted numbers, same shape, int64.
    """
    digest = hashlib.sha512(f"zephyr-fast permutation {VERSION}: {size}: {key}".encode()).digest()
    keys = np.frombuffer(digest, dtype="<u8")
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    permuted = _network(indices.astype(np.uint64), keys, half)
    outside = np.flatnonzero(permuted >= size)
    while len(outside):
        repeated = _network(permuted[outside], keys, half)
        permuted[outside] = repeated
        outside = outside[repeated >= size]
    return permuted.astype(np.int64)


def _network(
    numbers: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64], half: int
) -> npt.NDArray[np.uint64]:
    """Apply the Feistel network to numbers of 2 x `half` bits."""
    bits, high = np.uint64(half), np.uint64(64 - half)
    left, right = numbers >> bits, numbers & np.uint64((1 << half) - 1)
    for number in range(_ROUNDS):
        mixed = (right + keys[number]) * _GOLDEN
        mixed ^= mixed >> _MIDDLE
        mixed *= _MURMUR
        mixed >>= high
        left, right = right, left ^ mixed
    return (left << bits) | right
