"""Bradley-Terry strengths of the models, from pairs of answers to the same prompt.

An equal score is half a win for both. Each model also has one tie with an imagined model of average
strength. It keeps a model that always won from having an infinite strength.
"""

from dataclasses import dataclass

import numpy as np

from zephyr_fast.feedback.report import estimates
from zephyr_fast.feedback.report.estimates import Floats
from zephyr_fast.feedback.report.verdicts import Verdicts, pairs

BOOTSTRAPS = 200
_STEPS_MAX = 200
_STEP_MAX = 1.0
_TOLERANCE = 1e-10


@dataclass(frozen=True, slots=True)
class Strength:
    """A model's log-strength; two models that differ by d win with odds of exp(d). The interval is
    from resampled prompts, and None if they are too few or too alike.
    """

    model: str
    strength: float
    low: float | None
    high: float | None
    comparisons: int


def ranking(verdicts: Verdicts, seed: int = 1) -> tuple[Strength, ...]:
    """Return the models by strength, on the mean overall score of all judges. Empty without
    comparisons.
    """
    first, second = pairs(verdicts)
    scores = verdicts.overall.mean(axis=1)  # NaN if a judge has no verdict
    difference = scores[first] - scores[second]
    models = verdicts.model[first], verdicts.model[second]
    known = np.isfinite(difference) & (models[0] != models[1])
    if not known.any():
        return ()
    one, other, gain = models[0][known], models[1][known], np.sign(difference[known])
    prompt, count = verdicts.prompt[first][known], len(verdicts.models)

    def wins(weights: Floats) -> Floats:
        """How often each model (row) won against each other (column)."""
        found = np.bincount(one * count + other, weights * (1 + gain) / 2, count * count)
        found += np.bincount(other * count + one, weights * (1 - gain) / 2, count * count)
        table: Floats = found.reshape(count, count).astype(np.float64)
        return table

    draws = np.random.default_rng(seed)
    samples = []
    for _ in range(BOOTSTRAPS):
        drawn = draws.integers(verdicts.prompts, size=verdicts.prompts)
        weights = np.bincount(drawn, minlength=verdicts.prompts)[prompt]
        samples.append(strengths(wins(weights.astype(float))))
    table = wins(np.ones(len(gain)))
    values, bounds = strengths(table), np.array(samples)
    met = (table + table.T).sum(axis=1)
    found = [
        Strength(
            verdicts.models[model],
            float(values[model]),
            *estimates.interval(bounds[:, model]),
            int(met[model]),
        )
        for model in range(count)
        if met[model]
    ]
    return tuple(sorted(found, key=lambda one: (-one.strength, one.model)))


def strengths(wins: Floats) -> Floats:
    """Return the log-strengths that make a table of wins most likely, by Newton's method.

    Their reference is the imagined model, whose strength is 0.
    """
    games, total = wins + wins.T, wins.sum(axis=1) + 0.5
    found = np.zeros(len(wins))
    for _ in range(_STEPS_MAX):
        chances = 1 / (1 + np.exp(found[None, :] - found[:, None]))
        alone = 1 / (1 + np.exp(-found))
        slopes = total - (games * chances).sum(axis=1) - alone
        curves = games * chances * (1 - chances)
        curvature = np.diag(curves.sum(axis=1) + alone * (1 - alone)) - curves
        step = np.linalg.solve(curvature, slopes)
        # The likelihood is concave, but a full step from far away can pass its maximum.
        found = found + step * min(1.0, _STEP_MAX / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < _TOLERANCE:
            break
    result: Floats = found
    return result
