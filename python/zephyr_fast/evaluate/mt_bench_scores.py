"""Scores of MT-Bench: judgements to figures by turn and by category, with bootstrap intervals."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.evaluate.intervals import RESAMPLES, bootstrap, mean
from zephyr_fast.evaluate.result import OVERALL, Figure
from zephyr_fast.evaluate.rows import digest, text_field
from zephyr_fast.judge.scale import Fault, Scale, Unread, excerpt
from zephyr_fast.judge.verdict import bracketed
from zephyr_fast.printed import brief, shown
from zephyr_fast.untrusted.bounded import is_unicode

BENCHMARK = "mt-bench"
HOLE = "hole"
MISSING = "missing"
TURNS = ("turn 1", "turn 2")

_SCALE = Scale(1, 10)


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions by id, each with `category` and two `turns`, and reference answers by id."""

    by_id: Mapping[int, Mapping[str, Any]]
    references: Mapping[int, tuple[str, str]]

    @property
    def digest(self) -> str:
        """The SHA-256 of questions and reference answers."""
        return digest(
            [[number, one["category"], one["turns"]] for number, one in self.by_id.items()],
            [[number, list(turns)] for number, turns in sorted(self.references.items())],
        )


def strict_rating(text: str, is_cut: bool) -> float | Unread:
    """Return the rating from 1 to 10 in double brackets, or why there is none."""
    found = bracketed(text, _SCALE, is_cut=is_cut)
    if isinstance(found, Unread):
        return found
    assert found.score is not None, "the scale has no N/A"
    return found.score


_FASTCHAT = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))


def fastchat_rating(text: str, is_cut: bool) -> float | Unread:
    """Return the rating that FastChat reads: the first `[[n]]`, else the first `[n]`, of any size,
    also in a text that was cut. FastChat stops with an error at `[[08]]`, which is a hole here.
    """
    for pattern in _FASTCHAT:
        if match := pattern.search(text):
            try:
                rating = float(ast.literal_eval(match[1]))
            except (SyntaxError, ValueError, OverflowError):
                return Unread(Fault.NOT_A_NUMBER, excerpt(match[1]))
            # A sum of larger numbers would not be finite.
            return rating if rating < 1e300 else Unread(Fault.OUT_OF_RANGE, excerpt(match[1]))
    return Unread(Fault.NO_VERDICT)


READERS: Mapping[str, Callable[[str, bool], float | Unread]] = {
    "strict": strict_rating,
    "fastchat": fastchat_rating,
}
"""How the rating is read from a judge's text, by the name of the rules."""


Question = tuple[float | None, float | None]
"""The scores of the two turns of a question; None for a hole."""


def figures_of(
    rows: Sequence[Mapping[str, Any]], questions: Questions, resamples: int = RESAMPLES
) -> tuple[int, dict[str, int], dict[str, Figure]]:
    """Return the number of scores, holes by reason, and the figures of one model's judgements."""
    scores: dict[tuple[int, int], float] = {}
    holes: Counter[str] = Counter()
    for row in rows:
        if row["score"] == -1:
            holes[str(row.get(HOLE) or MISSING)] += 1
        else:
            scores[row["question_id"], row["turn"]] = row["score"]
    groups: dict[str, list[Question]] = {}
    for number, one in questions.by_id.items():
        pair = (scores.get((number, 1)), scores.get((number, 2)))
        groups.setdefault(one["category"], []).append(pair)
    values, ends = means(groups), bootstrap(groups, means, resamples)
    intervals = {name: one for name, one in ends.items() if not _has_lone(name, groups)}
    missing = {name: _holes(name, groups) for name in values}
    counts = {name: _count(name, groups) for name in values}
    figures = {
        name: Figure(value, counts[name], missing[name], *intervals.get(name, (None, None)))
        for name, value in values.items()
    }
    return len(scores), dict(sorted(holes.items())), figures


def means(groups: Mapping[str, Sequence[Question]]) -> dict[str, float | None]:
    """Return the mean of all scores, of each turn, and of each category."""
    return {name: mean(_scores(name, groups)) for name in (OVERALL, *TURNS, *groups)}


def _scores(name: str, groups: Mapping[str, Sequence[Question]]) -> list[float]:
    return [one for one in _all(name, groups) if one is not None]


def _all(name: str, groups: Mapping[str, Sequence[Question]]) -> list[float | None]:
    if name in groups:
        return [score for pair in groups[name] for score in pair]
    every = [pair for pairs in groups.values() for pair in pairs]
    if name in TURNS:
        return [pair[TURNS.index(name)] for pair in every]
    return [score for pair in every for score in pair]


def _has_lone(name: str, groups: Mapping[str, Sequence[Question]]) -> bool:
    """Whether a category of a figure has a score of only one question. All resamples draw that
    one, so an interval would leave its uncertainty out.
    """
    own = {name: groups[name]} if name in groups else groups
    turns = [TURNS.index(name)] if name in TURNS else [0, 1]
    scored = [
        sum(any(pair[turn] is not None for turn in turns) for pair in pairs)
        for pairs in own.values()
    ]
    return 1 in scored


def _count(name: str, groups: Mapping[str, Sequence[Question]]) -> int:
    return len(_scores(name, groups))


def _holes(name: str, groups: Mapping[str, Sequence[Question]]) -> int:
    return len(_all(name, groups)) - _count(name, groups)


def check_judgments(
    path: Path, rows: Sequence[Mapping[str, Any]], questions: Questions
) -> dict[str, list[dict[str, Any]]]:
    """Return FastChat's judgements by model, with a row for every turn of every question.

    Turns without a row become holes. Raises InputError for rows that repeat a turn, which FastChat
    counts twice, and for rows of unknown questions, of several judges, or without a score.
    """
    found: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
    judges = set()
    for number, row in enumerate(rows, start=1):
        where = f"`{shown(path)}`: row {number}"
        model, key = text_field(where, row, "model"), _key(where, row, questions)
        judges.add(judge_of(where, row))
        if len(judges) > 1:
            raise InputError(f"{where} is of another judge than the rows before it")
        if key in found.setdefault(model, {}):
            raise InputError(f"{where} repeats question {key[0]}, turn {key[1]}, of {shown(model)}")
        found[model][key] = {**row, "score": _score(where, row.get("score"))}
    return {
        model: [
            by_key.get((number, turn)) or {"question_id": number, "turn": turn, "score": -1}
            for turn in (1, 2)
            for number in questions.by_id
        ]
        for model, by_key in found.items()
    }


def judge_of(where: str, row: Mapping[str, Any]) -> str:
    """Return the judge of a row. Raises InputError."""
    judge = row.get("judge")
    name = judge[0] if isinstance(judge, list) and judge else None
    if not isinstance(name, str) or not is_unicode(name):
        raise InputError(f"{where}: `judge` is {brief(judge)}, not a list of model and prompt")
    return name


def _key(where: str, row: Mapping[str, Any], questions: Questions) -> tuple[int, int]:
    number, turn = row.get("question_id"), row.get("turn")
    if type(number) is not int or number not in questions.by_id:
        raise InputError(f"{where}: there is no question {brief(number)}")
    if type(turn) is not int or turn not in (1, 2):
        raise InputError(f"{where}: `turn` is {brief(turn)}, not 1 or 2")
    return number, turn


def _score(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise InputError(f"{where}: `score` is {brief(value)}, not a number")
    if value != -1 and not 1 <= value <= 10:
        raise InputError(f"{where}: `score` is {brief(value)}, not from 1 to 10 and not -1")
    return float(value)
