"""Means and 95 % bootstrap intervals of scores by question. Seeded, so equal rows give equal ends.

Questions are drawn within their category, because a benchmark fixes how many questions each
category has. A question brings both of its turns, because they are not independent.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from math import fsum
from typing import TypeVar

Z95 = 1.959963984540054
"""Standard deviations on each side of the mean that hold 95 % of a normal distribution."""

RESAMPLES = 2_000
_SEED = 20231025  # Any fixed number will do.

Question = TypeVar("Question")


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; None if there are no values.

    >>> mean([1.0, 2.5])
    1.75
    """
    return fsum(values) / len(values) if values else None


def bootstrap(
    groups: Mapping[str, Sequence[Question]],
    statistic: Callable[[Mapping[str, Sequence[Question]]], Mapping[str, float | None]],
    resamples: int = RESAMPLES,
) -> dict[str, tuple[float, float]]:
    """Return the 2.5 % and 97.5 % quantiles of each number of a statistic. A number that is equal
    in all resamples is left out: its questions are too few or too alike to tell how certain it is.

    Args:
        groups: questions by category; each resample draws as many of each, with replacement
        statistic: numbers by name of such groups; None is left out
        resamples: number of resamples
    """
    chance = random.Random(_SEED)
    found: dict[str, list[float]] = {}
    for _ in range(resamples):
        drawn = {
            name: [one[int(chance.random() * len(one))] for _ in one]
            for name, one in groups.items()
        }
        for name, value in statistic(drawn).items():
            if value is not None:
                found.setdefault(name, []).append(value)
    return {
        name: (_quantile(values, 0.025), _quantile(values, 0.975))
        for name, values in found.items()
        if max(values) > min(values)
    }


def _quantile(values: list[float], share: float) -> float:
    """Interpolate linearly between the two nearest values."""
    values.sort()
    position = share * (len(values) - 1)
    below = int(position)
    above = min(below + 1, len(values) - 1)
    return values[below] + (position - below) * (values[above] - values[below])
