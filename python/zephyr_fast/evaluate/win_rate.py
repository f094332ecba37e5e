"""Preferences between two outputs to a win rate, as AlpacaEval counts it.

A preference is 1 if the baseline wins, 2 if the model wins, between them if the judge weighs, and
1.5 or 0 for a draw. None is a hole: a comparison without a preference. Sums are exact, so the
order of rows changes no digit.

    >>> win_rate([2.0, 1.0, 0, 2.0]).value
    62.5
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite, sqrt

from zephyr_fast._core import InputError
from zephyr_fast.evaluate.intervals import Z95
from zephyr_fast.evaluate.result import Figure
from zephyr_fast.printed import brief

DRAW = 1.5


def checked(where: str, value: object) -> float | None:
    """Return a preference of an annotation file, draws as 1.5. Raises InputError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise InputError(f"{where}: the preference is {brief(value)}, not a number")
    if value == 0:
        return DRAW
    if not 1 <= value <= 2:
        raise InputError(f"{where}: the preference {brief(value)} is not between 1 and 2")
    return float(value)


def win_rate(preferences: Iterable[float | None]) -> Figure:
    """Return the mean of `preference - 1` in percent over all rows that have one.

    The interval is the mean ± 1.96 standard errors. Both are None for fewer than two rows, and the
    interval is None if all rows are equal: they are too few or too alike to tell how certain it is.
    """
    known, holes = _known(preferences)
    if not known:
        return Figure(None, 0, holes)
    mean = sum(known, Fraction(0)) / len(known)
    value = float(100 * mean)
    if len(known) < 2:
        return Figure(value, len(known), holes)
    variance = sum(((one - mean) ** 2 for one in known), Fraction(0)) / (len(known) - 1)
    stderr = 100 * sqrt(variance / len(known))
    return Figure(value, len(known), holes, *percent_interval(value, stderr), stderr)


def percent_interval(value: float, stderr: float) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a mean in percent. None without variation."""
    if stderr <= 0:
        return None, None
    return max(0.0, value - Z95 * stderr), min(100.0, value + Z95 * stderr)


def discrete(preferences: Iterable[float | None]) -> list[float | None]:
    """Return each preference as a win, a loss or a draw, without its weight."""
    return [
        None if one is None else DRAW if one in (0, DRAW) else 2.0 if one > DRAW else 1.0
        for one in preferences
    ]


@dataclass(frozen=True, slots=True)
class Games:
    """Wins, losses and draws of the evaluated model."""

    wins: int
    losses: int
    draws: int


def games(preferences: Sequence[float | None]) -> Games:
    """Count wins, losses and draws."""
    plain = discrete(preferences)
    return Games(plain.count(2.0), plain.count(1.0), plain.count(DRAW))


def _known(preferences: Iterable[float | None]) -> tuple[list[Fraction], int]:
    values = list(preferences)
    known = [Fraction(DRAW if one == 0 else one) - 1 for one in values if one is not None]
    return known, len(values) - len(known)
