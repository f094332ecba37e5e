"""Shares, means and slopes with 95 % intervals, and a test that several means are zero.

Answers to one prompt depend on each other, so prompts are the independent units everywhere:
variances are summed over prompts, with the jackknife's correction for few prompts (CR3).
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

Z = 1.959963984540054
"""Quantile of the normal distribution for 95 %."""

TAIL = 0.025
_ROUNDING = 1e-12  # Relative errors below this are rounding errors of equal observations.


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval, from `n` observations of `prompts` prompts."""

    value: float
    low: float
    high: float
    n: int
    prompts: int


@dataclass(frozen=True, slots=True)
class Flatness:
    """A chi-square test that all means are zero."""

    chi2: float
    df: int
    p: float


def share(hits: Floats, prompts: Ints) -> Estimate | None:
    """Return the share of ones among observations, each of a prompt. None with fewer than two
    prompts.

    Observations that are all equal have no variance. Their interval is that of Clopper and Pearson
    for as many observations as prompts.
    """
    names = len(np.unique(prompts))
    if names > 1 and hits.min() == hits.max():
        value, reach = float(hits[0]), 1 - (TAIL ** (1 / names))
        low, high = (value - reach, value) if value else (value, value + reach)
        return Estimate(value, low, high, len(hits), names)
    return slope(np.ones_like(hits), hits, prompts)


def slope(x: Floats, y: Floats, prompts: Ints) -> Estimate | None:
    """Return the slope of y on x through the origin. None if it cannot be estimated, also because
    all observations agree exactly, so that nothing tells how certain it is.
    """
    names, units = np.unique(prompts, return_inverse=True)
    scale = float((x * x).sum())
    if len(names) < 2 or scale <= 0:
        return None
    value = float((x * y).sum()) / scale
    shares = np.bincount(units, weights=x * x) / scale
    if shares.max() >= 1:
        return None  # all the evidence is from one prompt
    sums = np.bincount(units, weights=x * (y - value * x)) / (1 - shares)
    freedom = len(names) - 1
    error = math.sqrt(float((sums**2).sum()) * freedom / len(names)) / scale
    if error <= _ROUNDING * max(abs(value), 1.0):
        return None
    # Close to the quantile of Student's t for 10 degrees of freedom and more.
    reach = (Z + (Z**3 + Z) / (4 * freedom)) * error
    return Estimate(value, value - reach, value + reach, len(y), len(names))


def mean(values: Floats) -> Estimate | None:
    """Return the mean of one value per prompt."""
    return slope(np.ones_like(values), values, np.arange(len(values)))


def centered(values: Floats, prompts: Ints) -> Floats:
    """Return the values minus the mean of their prompt."""
    _, units = np.unique(prompts, return_inverse=True)
    totals, counts = np.bincount(units, weights=values), np.bincount(units)
    found: Floats = values - (totals / counts)[units]
    return found


def flatness(deviations: Floats) -> Flatness | None:
    """Return a test that the columns of a table have mean zero: a row for each prompt, whose values
    sum to zero. None with too few prompts, or without any variation.
    """
    prompts, positions = deviations.shape
    if prompts <= positions:
        return None
    means = deviations.mean(axis=0)[1:]  # the first follows from the others
    covariance = np.atleast_2d(np.cov(deviations[:, 1:], rowvar=False)) / prompts
    rank = int(np.linalg.matrix_rank(covariance))
    if rank == 0:
        return None
    chi2 = float(means @ np.linalg.pinv(covariance) @ means)
    chi2 *= (prompts - rank) / (prompts - 1)  # as Hotelling's test has it for few prompts
    return Flatness(chi2, rank, chi2_tail(chi2, rank))


def chi2_tail(chi2: float, df: int) -> float:
    """Return the probability that a chi-square variable exceeds a value.

    >>> round(chi2_tail(3.841458820694124, 1), 6)
    0.05
    """
    half = chi2 / 2
    if half <= 0:
        return 1.0
    if df % 2:
        tail, term = math.erfc(math.sqrt(half)), 2 * math.sqrt(half / math.pi) * math.exp(-half)
        for k in range(1, df // 2 + 1):
            tail += term
            term *= half / (k + 0.5)
        return min(tail, 1.0)
    tail = term = math.exp(-half)
    for k in range(1, df // 2):
        term *= half / k
        tail += term
    return min(tail, 1.0)


def interval(samples: Floats) -> tuple[float | None, float | None]:
    """Return the 95 % interval of bootstrap samples. None if they are all equal, because the
    prompts are too few or too alike to tell how certain a number is.
    """
    if not len(samples) or np.ptp(samples) <= _ROUNDING * max(float(np.abs(samples).max()), 1.0):
        return None, None
    low, high = np.percentile(samples, [2.5, 97.5])
    return float(low), float(high)
