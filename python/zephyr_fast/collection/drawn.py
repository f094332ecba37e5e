"""Choices by the hash of a seed and names, independent of the order and number of rows."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def number(seed: int, *names: str) -> int:
    """Return a number of 64 bits that depends on the seed and the names."""
    # Lengths keep ("ab", "c") and ("a", "bc") apart.
    text = "".join(f"{len(name)}:{name}" for name in (str(seed), *names))
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def fraction(seed: int, *names: str) -> float:
    """Return a number from 0 up to, but not including 1."""
    return (number(seed, *names) >> 11) / (1 << 53)


def one_of(items: Sequence[T], seed: int, *names: str) -> T:
    """Return one of the items, each equally likely."""
    return items[int(fraction(seed, *names) * len(items))]


def weighted(weights: Mapping[str, float], seed: int, *names: str) -> str:
    """Return one of the keys, with a probability in proportion to its weight."""
    rest = fraction(seed, *names) * sum(weights.values())
    for key, weight in weights.items():
        rest -= weight
        if rest < 0:
            return key
    return [key for key, weight in weights.items() if weight > 0][-1]


def shuffled(items: Sequence[T], seed: int, *names: str) -> list[T]:
    """Return the items in an order drawn by hash, each order equally likely."""
    order = sorted(range(len(items)), key=lambda index: number(seed, *names, str(index)))
    return [items[index] for index in order]
