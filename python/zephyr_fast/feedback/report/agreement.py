"""How far judges agree: Krippendorff's alpha, Cohen's kappa, equal winners, leaving a judge out."""

from dataclasses import dataclass

import numpy as np

from zephyr_fast.feedback.report import estimates
from zephyr_fast.feedback.report.estimates import Estimate, Floats, Ints
from zephyr_fast.feedback.report.verdicts import Verdicts

BOOTSTRAPS = 200


@dataclass(frozen=True, slots=True)
class Pair:
    """Two judges. `kappa` has quadratic weights and needs whole scores. `same_winner` is the share
    of prompts in which both prefer the same answer, among those in which each has one best answer.
    """

    first: str
    second: str
    kappa: float | None
    same_winner: Estimate | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Krippendorff's alpha over all overall scores, by ordinal distance (by interval for expected
    scores), with its bootstrap interval; and each pair of judges.
    """

    alpha: float | None
    alpha_low: float | None
    alpha_high: float | None
    metric: str
    pairs: tuple[Pair, ...]


def agreement(verdicts: Verdicts, seed: int = 1) -> Agreement | None:
    """Return how far the judges agree. None with one judge."""
    count = len(verdicts.judges)
    if count < 2:
        return None
    scores, metric = verdicts.overall, "interval" if verdicts.method == "expected" else "ordinal"
    value = alpha(scores, metric)
    low = high = None
    if value is not None:
        low, high = estimates.interval(_resampled(verdicts, metric, seed))
    found = [
        Pair(
            verdicts.judges[one],
            verdicts.judges[other],
            None if metric == "interval" else kappa(scores[:, one], scores[:, other]),
            _same_winner(verdicts, one, other),
        )
        for one in range(count)
        for other in range(one + 1, count)
    ]
    return Agreement(value, low, high, metric, tuple(found))


def alpha(scores: Floats, metric: str) -> float | None:
    """Return Krippendorff's alpha of a table of units (rows) by judges (columns), NaN where a score
    is missing. None if no unit has two scores, or all scores are equal.
    """
    return _alpha(scores, np.ones(len(scores)), metric)


def _alpha(scores: Floats, weights: Floats, metric: str) -> float | None:
    known = np.isfinite(scores)
    usable = (known.sum(axis=1) >= 2) & (weights > 0)
    scores, known, weights = scores[usable], known[usable], weights[usable]
    values, codes = np.unique(scores[known], return_inverse=True)
    if len(values) < 2:
        return None
    units = np.repeat(np.arange(len(scores)), known.sum(axis=1))
    counts = known.sum(axis=1)
    totals = np.bincount(codes, weights=weights[units], minlength=len(values))
    marks = values
    if metric == "ordinal":
        marks = np.cumsum(totals) - totals / 2
    # The squared distances of all pairs follow from sums and sums of squares.
    each = marks[codes]
    sums = np.bincount(units, weights=each)
    squares = np.bincount(units, weights=each**2)
    observed = float((weights * 2 * (counts * squares - sums**2) / (counts - 1)).sum())
    n = float(totals.sum())
    expected = 2 * (n * float((totals * marks**2).sum()) - float((totals * marks).sum()) ** 2)
    return 1 - observed * (n - 1) / expected if expected > 0 else None


def _resampled(verdicts: Verdicts, metric: str, seed: int) -> Floats:
    """Alphas of resampled prompts."""
    draws = np.random.default_rng(seed)
    found = []
    for _ in range(BOOTSTRAPS):
        weights = np.bincount(
            draws.integers(verdicts.prompts, size=verdicts.prompts), minlength=verdicts.prompts
        )
        value = _alpha(verdicts.overall, weights[verdicts.prompt].astype(float), metric)
        if value is not None:
            found.append(value)
    return np.array(found)


def kappa(one: Floats, other: Floats) -> float | None:
    """Return Cohen's kappa with quadratic weights. None without variation."""
    known = np.isfinite(one) & np.isfinite(other)
    a, b = one[known], other[known]
    if not len(a):
        return None
    expected = float((a**2).mean() + (b**2).mean() - 2 * a.mean() * b.mean())
    return 1 - float(((a - b) ** 2).mean()) / expected if expected > 0 else None


def winners(scores: Floats, prompt: Ints, prompts: int) -> Ints:
    """Return the index of the one best completion of each prompt; -1 if the best are equal, and -2
    if fewer than two completions have a score.
    """
    best = np.full(prompts, -np.inf)
    known = np.isfinite(scores)
    np.maximum.at(best, prompt[known], scores[known])
    counts = np.bincount(prompt[known], minlength=prompts)
    top = np.flatnonzero(known & np.equal(scores, best[prompt]))
    found = np.full(prompts, -2, dtype=np.int64)
    found[prompt[top]] = top
    found[np.bincount(prompt[top], minlength=prompts) > 1] = -1
    found[counts < 2] = -2
    return found


def _same_winner(verdicts: Verdicts, one: int, other: int) -> Estimate | None:
    first = winners(verdicts.overall[:, one], verdicts.prompt, verdicts.prompts)
    second = winners(verdicts.overall[:, other], verdicts.prompt, verdicts.prompts)
    decided = np.flatnonzero((first >= 0) & (second >= 0))
    return estimates.share(np.array(first[decided] == second[decided], dtype=np.float64), decided)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Share of prompts whose best answer differs without this judge, by the mean of the others,
    among those with one best answer both ways.
    """

    judge: str
    changed: Estimate | None


def left_out(verdicts: Verdicts) -> tuple[LeftOut, ...]:
    """Return for each judge how much the best answers depend on it. Empty with one judge."""
    count = len(verdicts.judges)
    if count < 2:
        return ()
    complete = np.isfinite(verdicts.overall).all(axis=1)
    scores = np.where(np.expand_dims(complete, 1), verdicts.overall, np.nan)
    full = winners(scores.mean(axis=1), verdicts.prompt, verdicts.prompts)
    found = []
    for judge in range(count):
        rest = np.delete(scores, judge, axis=1).mean(axis=1)
        without = winners(rest, verdicts.prompt, verdicts.prompts)
        decided = np.flatnonzero((full >= 0) & (without >= 0))
        differs = np.array(full[decided] != without[decided], dtype=np.float64)
        changed = estimates.share(differs, decided)
        found.append(LeftOut(verdicts.judges[judge], changed))
    return tuple(found)
