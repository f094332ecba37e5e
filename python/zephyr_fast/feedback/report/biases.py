"""What a judge favors besides quality: length, position, its own family.

No true quality is known, so each measure compares within a prompt, and says what it cannot tell.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from zephyr_fast.feedback.report import estimates
from zephyr_fast.feedback.report.estimates import Estimate, Flatness, Floats
from zephyr_fast.feedback.report.verdicts import Listing, Verdicts, pairs


@dataclass(frozen=True, slots=True)
class Length:
    """`ties` is the share of pairs with equal overall scores. `longer_wins` is the share of the
    longer answer among decided pairs of different length; 0.5 is neutral. `slope` is points of the
    overall score per factor e of length, within prompts; 0 is neutral.

    Longer answers may be better answers: only a comparison with people or with other judges can
    tell.
    """

    ties: Estimate | None
    longer_wins: Estimate | None
    slope: Estimate | None


@dataclass(frozen=True, slots=True)
class Position:
    """The rating by position in the list, as deviation from the mean of its list. Orders are drawn
    at random, so all of them should be 0: `test` has the probability of larger differences.
    """

    deviations: tuple[Estimate, ...]
    test: Flatness


@dataclass(frozen=True, slots=True)
class Swap:
    """`flips` is the share of pairs that are decided in both orders, but differently. `first_wins`
    is the share of these in which the answer that was listed first won both times; 0.5 is neutral.
    """

    flips: Estimate | None
    first_wins: Estimate | None


@dataclass(frozen=True, slots=True)
class Family:
    """Points that a judge gives answers of its family above other answers to the same prompt. `own`
    contains true differences in quality. `beyond_others` is what remains after the same difference
    by the other judges (of other families) is subtracted; 0 is neutral.
    """

    own: Estimate | None
    beyond_others: Estimate | None


def length(verdicts: Verdicts, judge: int) -> Length:
    """Return how scores of a judge depend on length."""
    first, second = pairs(verdicts)
    scores = verdicts.overall[:, judge]
    prompts = verdicts.prompt[first]
    difference = scores[first] - scores[second]
    longer = np.sign(verdicts.length[first] - verdicts.length[second])
    known = np.isfinite(difference)
    ties = estimates.share((difference[known] == 0).astype(float), prompts[known])
    decided = known & (difference != 0) & (longer != 0)
    wins = (np.sign(difference) == longer)[decided].astype(float)
    rated = np.isfinite(scores) & (verdicts.length > 0)
    units = verdicts.prompt[rated]
    slope = None
    if len(units):
        x = estimates.centered(np.log(verdicts.length[rated]), units)
        slope = estimates.slope(x, estimates.centered(scores[rated], units), units)
    return Length(ties, estimates.share(wins, prompts[decided]), slope)


def position(verdicts: Verdicts, judge: str) -> Position | None:
    """Return how ratings depend on the position in the list, over lists of the most common size
    with all ratings. None without such lists.
    """
    listings = [one for one in verdicts.listings[judge] if np.isfinite(one.scores).all()]
    sizes = Counter(len(one.order) for one in listings)
    if not sizes:
        return None
    size = max(sizes, key=lambda one: (sizes[one], one))
    by_prompt: dict[int, list[Floats]] = {}
    for one in listings:
        if len(one.order) == size:
            scores = np.array(one.scores)
            by_prompt.setdefault(one.prompt, []).append(scores - scores.mean())
    table = np.array([np.mean(lists, axis=0) for lists in by_prompt.values()])
    test = estimates.flatness(table)
    deviations = [estimates.mean(column) for column in table.T]
    known = tuple(one for one in deviations if one is not None)
    return Position(known, test) if test is not None and len(known) == size else None


def swap(verdicts: Verdicts, judge: str) -> Swap | None:
    """Return how verdicts change with the order reversed. None if no order was."""
    both: dict[tuple[int, str], list[Listing]] = {}
    for one in verdicts.listings[judge]:
        both.setdefault((one.prompt, one.aspect), []).append(one)
    flips: list[tuple[int, float]] = []
    firsts: list[tuple[int, float]] = []
    for (prompt, _), listings in both.items():
        if len(listings) != 2:
            continue
        given, reverse = (dict(zip(one.order, one.scores, strict=True)) for one in listings)
        order = listings[0].order
        for place, early in enumerate(order):
            for late in order[place + 1 :]:
                one = np.sign(given[early] - given[late])
                other = np.sign(reverse[early] - reverse[late])
                if np.isfinite(one * other) and one and other:
                    flips.append((prompt, float(one != other)))
                    if one != other:
                        firsts.append((prompt, float(one > 0)))
    if not any(len(listings) == 2 for listings in both.values()):
        return None
    return Swap(_share(flips), _share(firsts))


def _share(found: list[tuple[int, float]]) -> Estimate | None:
    prompts = np.array([prompt for prompt, _ in found], dtype=np.int64)
    return estimates.share(np.array([hit for _, hit in found], dtype=np.float64), prompts)


def family(verdicts: Verdicts, judge: int) -> Family | None:
    """Return what a judge gives answers of its own family. None if families are unknown, or no
    model is of its family.
    """
    name = verdicts.families.get(verdicts.judges[judge], "")
    own = np.array([verdicts.families.get(model, "") == name for model in verdicts.models])
    if not name or not own.any() or own.all():
        return None
    mine = own[verdicts.model]
    own_scores = verdicts.overall[:, judge]
    others = [
        column
        for column, other in enumerate(verdicts.judges)
        if column != judge and verdicts.families.get(other, "") != name
    ]
    raw = _differences(own_scores, mine, verdicts)
    beyond = None
    if others:
        rest = np.full(len(own_scores), np.nan)
        complete = np.isfinite(verdicts.overall[:, others]).all(axis=1)
        rest[complete] = verdicts.overall[complete][:, others].mean(axis=1)
        beyond = estimates.mean(_differences(own_scores - rest, mine, verdicts))
    return Family(estimates.mean(raw), beyond)


def _differences(scores: Floats, mine: np.ndarray, verdicts: Verdicts) -> Floats:
    """The mean of the own family's scores minus that of the others', for each prompt with both."""
    known = np.isfinite(scores)

    def means(rows: np.ndarray) -> Floats:
        units = verdicts.prompt[rows]
        counts = np.bincount(units, minlength=verdicts.prompts)
        totals = np.bincount(units, weights=scores[rows], minlength=verdicts.prompts)
        found: Floats = np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
        return found

    found = means(known & mine) - means(known & ~mine)
    return found[np.isfinite(found)]
