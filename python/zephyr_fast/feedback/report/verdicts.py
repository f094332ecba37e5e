"""Reads rows of collected feedback and their verdicts into arrays.

Rows are read from a file that may have been edited, so every field that is used is checked.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zephyr_fast._core import InputError
from zephyr_fast.feedback.judging import OVERALL
from zephyr_fast.feedback.report.estimates import Floats, Ints
from zephyr_fast.printed import brief


@dataclass(frozen=True, slots=True)
class Listing:
    """The ratings of one answer of a judge that saw several completions. `order` has their numbers
    in the order of the list, and `scores` their ratings, NaN without one.
    """

    prompt: int
    aspect: str
    order: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(slots=True)
class JudgeCounts:
    """Verdicts of one judge: numbers, "N/A", and failures by reason."""

    numbers: int = 0
    not_available: int = 0
    faults: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Everything that the report needs.

    One entry per completion: `prompt` (int64), `model` (index into `models`), `length` in
    characters, and `overall` with a column per judge (NaN without a score). `listings` and `counts`
    are by judge.
    """

    method: str
    judges: tuple[str, ...]
    models: tuple[str, ...]
    families: Mapping[str, str]
    prompts: int
    prompt: Ints
    model: Ints
    length: Floats
    overall: Floats
    listings: Mapping[str, list[Listing]]
    counts: Mapping[str, JudgeCounts]
    flaws: Mapping[str, int]


def read(rows: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> Verdicts:
    """Read all rows. InputError, with the number of the row, if one has another form."""
    reader = _Reader(settings)
    for number, row in enumerate(rows):
        try:
            reader.add(number, row)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise InputError(
                f"row {number + 1:,} is not a row of `feedback collect`: "
                f"{type(error).__name__} {brief(str(error))}"
            ) from None
    return reader.verdicts()


class _Reader:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        try:
            self.method = str(settings["method"])
            self.judges = tuple(map(str, settings["judges"]))
            families = settings["families"].items()
            self.families = {str(name): str(family) for name, family in families}
        except (KeyError, TypeError, AttributeError):
            raise InputError("the directory is not one of `feedback collect`") from None
        self.models: dict[str, int] = {}
        self.prompts = 0
        self.columns: tuple[list[int], list[int], list[int]] = ([], [], [])
        self.overall: list[list[float]] = []
        self.listings: dict[str, list[Listing]] = {judge: [] for judge in self.judges}
        self.counts = {judge: JudgeCounts() for judge in self.judges}
        self.flaws: Counter[str] = Counter()

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        self.prompts += 1
        provenance = row["_provenance"]
        completions, first = row["completions"], len(self.overall)
        for completion in completions:
            model = self.models.setdefault(str(completion["model"]), len(self.models))
            if not isinstance(completion["response"], str):
                raise ValueError("a response is not a text")
            length = len(completion["response"])
            for column, value in zip(self.columns, (number, model, length), strict=True):
                column.append(value)
            self.overall.append([float("nan")] * len(self.judges))
        self.flaws["failed_answers"] += len(provenance["failed"])
        self.flaws["cut_answers"] += sum(bool(one["cut"]) for one in provenance["answers"])
        texts = {one["response"] for one in completions}
        self.flaws["prompts_with_equal_answers"] += len(texts) == 1 < len(completions)
        for verdict in provenance["verdicts"]:
            self._add_verdict(number, first, len(completions), verdict)

    def _add_verdict(self, number: int, first: int, count: int, verdict: Mapping[str, Any]) -> None:
        judge, order = verdict["judge"], tuple(verdict["order"])
        if not order or not set(order) <= set(range(count)):
            raise ValueError("`order` names completions that the row does not have")
        faults = verdict.get("faults", [None] * len(order))
        scores = []
        for score, fault in zip(verdict["scores"], faults, strict=True):
            counts = self.counts[judge]
            if fault is not None:
                counts.faults[str(fault)] += 1
            elif score == "N/A":
                counts.not_available += 1
            else:
                counts.numbers += 1
            known = fault is None and score != "N/A"
            scores.append(_checked(score, verdict["aspect"]) if known else float("nan"))
        if len(scores) != len(order):
            raise ValueError("`order` and `scores` differ in length")
        if verdict["aspect"] == OVERALL:
            for position, score in zip(order, scores, strict=True):
                self.overall[first + position][self.judges.index(judge)] = score
        elif len(order) > 1:
            listing = Listing(number, str(verdict["aspect"]), order, tuple(scores))
            self.listings[judge].append(listing)

    def verdicts(self) -> Verdicts:
        prompt, model, length = self.columns
        return Verdicts(
            self.method,
            self.judges,
            tuple(self.models),
            self.families,
            self.prompts,
            np.array(prompt, dtype=np.int64),
            np.array(model, dtype=np.int64),
            np.array(length, dtype=np.float64),
            np.array(self.overall, dtype=np.float64).reshape(-1, len(self.judges)),
            self.listings,
            self.counts,
            dict(self.flaws),
        )


def _checked(score: object, aspect: str) -> float:
    highest = 10 if aspect == OVERALL else 5
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if not is_number or not 1 <= score <= highest:  # type: ignore[operator]
        raise ValueError(f"the score {score} of `{aspect}` is not a number from 1 to {highest}")
    return float(score)  # type: ignore[arg-type]


def pairs(verdicts: Verdicts) -> tuple[Ints, Ints]:
    """Return the indices of all pairs of completions of a prompt, each pair once."""
    count = len(verdicts.prompt)
    first, second = [], []
    distance = 1
    while distance < count:
        # Completions of a prompt are adjacent.
        same = np.flatnonzero(verdicts.prompt[distance:] == verdicts.prompt[:-distance])
        if not len(same):
            break
        first.append(same)
        second.append(same + distance)
        distance += 1
    empty = np.zeros(0, dtype=np.int64)
    left, right = np.concatenate([empty, *first]), np.concatenate([empty, *second])
    order = np.lexsort((right, left))
    return left[order], right[order]
