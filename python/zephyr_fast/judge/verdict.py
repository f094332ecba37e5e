"""Reads the one verdict in a judge's text, or returns why there is none.

A text with two different verdicts has none: which of them the judge meant cannot be known. An
answer under judgement may contain lines that look like verdicts, and judges quote.
"""

import re

from zephyr_fast.endpoint.reasoning import concluded
from zephyr_fast.judge.scale import Fault, Reading, Scale, Unread, Verdict, excerpt

_BRACKETED = re.compile(r"\[\[([^\[\]\n]{0,40})\]\]")
_INDEX = re.compile(r"([A-Za-z_][A-Za-z0-9_]{0,60})(?:\[\[[^\[\]\n]{0,40}\]\])+")
_LABELS = frozenset({"rating", "score", "verdict"})


def labelled(text: str, label: str, scale: Scale, *, is_cut: bool = False) -> Reading:
    """Read the number after a label that starts a line, such as `Rating: 4`.

    Emphasis, list marks and heading marks around the label are skipped, and its case does not
    matter. Every line with the label has to agree.

    >>> labelled("Clear and correct.\\n**Rating:** 4/5", "Rating", Scale(1, 5))
    Verdict(score=4.0)
    """
    if is_cut:
        return Unread(Fault.CUT, "the answer ended at its maximum of tokens")
    line = re.compile(
        rf"^[ \t*_#-]{{0,12}}{re.escape(label)}[ \t*_]{{0,6}}[:：][ \t*_]{{0,6}}(.*)$",
        re.IGNORECASE | re.MULTILINE,
    )
    return _agreed([scale.read(found[1]) for found in line.finditer(concluded(text))], text)


def bracketed(text: str, scale: Scale, *, is_cut: bool = False) -> Reading:
    """Read the number in double brackets, such as `Rating: [[4]]`.

    Brackets in the last line count. Without any there, all those of the text have to agree. An
    index in code, such as `a[[0]]`, is not a verdict.

    >>> bracketed('Write it as "[[5]]", they said.\\nRating: [[2]]', Scale(1, 10))
    Verdict(score=2.0)
    """
    if is_cut:
        return Unread(Fault.CUT, "the answer ended at its maximum of tokens")
    return _agreed([scale.read(found) for found in _in_brackets(_BRACKETED, text)], text)


def lettered(text: str, letters: str, *, is_cut: bool = False) -> str | Unread:
    """Read one of the letters in double brackets, such as `[[A]]`.

    The rules are those of `bracketed`.

    >>> lettered("A is vague, B is not.\\n[[B]]", "ABC")
    'B'
    """
    if is_cut:
        return Unread(Fault.CUT, "the answer ended at its maximum of tokens")
    found = set(_in_brackets(re.compile(rf"\[\[ ?([{letters}]) ?\]\]"), text))
    if len(found) == 1:
        return found.pop()
    fault = Fault.SEVERAL_VERDICTS if found else Fault.NO_VERDICT
    return Unread(fault, ", ".join(sorted(found)) or excerpt(text[-200:]))


def _in_brackets(pattern: re.Pattern[str], text: str) -> list[str]:
    """Return what is in brackets in the last line that is not empty, or else in the whole text."""

    def without_index(found: re.Match[str]) -> str:
        return found[0] if found[1].lower() in _LABELS else found[1]

    rest = _INDEX.sub(without_index, concluded(text))
    lines = [line for line in rest.splitlines() if line.strip()]
    return (pattern.findall(lines[-1]) if lines else []) or pattern.findall(rest)


def _agreed(readings: list[Reading], text: str) -> Reading:
    if not readings:
        return Unread(Fault.NO_VERDICT, excerpt(text[-200:]))
    for reading in readings:
        if isinstance(reading, Unread):
            return reading
    if len(set(readings)) > 1:
        scores = ", ".join(_written(one) for one in readings if isinstance(one, Verdict))
        return Unread(Fault.SEVERAL_VERDICTS, excerpt(scores))
    return readings[0]


def _written(verdict: Verdict) -> str:
    return "N/A" if verdict.score is None else f"{verdict.score:g}"
