"""Reads the verdict of a judge from its text: a rating, a letter, or the reason why there is none.

A verdict is written `[[n]]` and belongs at the end. The last line that is not empty decides. If
it has no verdict, one verdict elsewhere counts, unless it is quoted: judges quote the format, and
answers under judgement contain verdicts to copy. Two different verdicts are none.

    >>> rating("The answer is good.\\nRating: [[8]]")
    8.0
    >>> rating("It says `[[10]]`, but I cannot rate it.")
    <Problem.NO_VERDICT: 'no_verdict'>
"""

import re
from enum import StrEnum

RATING_MIN, RATING_MAX = 1.0, 10.0


class Problem(StrEnum):
    """Why a judge's text has no usable verdict."""

    NO_VERDICT = "no_verdict"
    SEVERAL_VERDICTS = "several_verdicts"
    OUT_OF_RANGE = "out_of_range"
    CUT = "cut"


_REASONING = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL)
_RATING = r"\[\[\s*([0-9]{1,9}(?:\.[0-9]{0,9})?)\s*\]\]"
_QUOTES = "\"'`“”„‘’«»「」"


def rating(text: str, is_cut: bool = False) -> float | Problem:
    """Return the rating from 1 to 10 in a judge's text, or why there is none."""
    found = _verdict(text, _RATING, is_cut)
    if isinstance(found, Problem):
        return found
    value = float(found)
    return value if RATING_MIN <= value <= RATING_MAX else Problem.OUT_OF_RANGE


def letter(text: str, letters: str, is_cut: bool = False) -> str | Problem:
    """Return the verdict `[[A]]` that is one of the letters, or why there is none."""
    return _verdict(text, rf"\[\[\s*([{letters}])\s*\]\]", is_cut)


def _verdict(text: str, pattern: str, is_cut: bool) -> str | Problem:
    if is_cut:  # the verdict comes last, so what is there is something else
        return Problem.CUT
    plain = _REASONING.sub("", text)
    lines = [line for line in plain.splitlines() if line.strip()]
    last = re.findall(pattern, lines[-1]) if lines else []
    if last:
        return _only(last)
    unquoted = [
        match[1] for match in re.finditer(pattern, plain) if not _is_quoted(plain, match)
    ]
    return _only(unquoted) if len(unquoted) == 1 else _none_or_several(unquoted)


def _only(values: list[str]) -> str | Problem:
    """The value that all verdicts have; `8` and `8.0` are the same."""
    same = {value.rstrip("0").rstrip(".") if "." in value else value for value in values}
    return values[0] if len(same) == 1 else Problem.SEVERAL_VERDICTS


def _none_or_several(values: list[str]) -> Problem:
    return Problem.SEVERAL_VERDICTS if values else Problem.NO_VERDICT


def _is_quoted(text: str, match: "re.Match[str]") -> bool:
    before, behind = text[: match.start()].rstrip(), text[match.end() :].lstrip()
    return before[-1:] in _QUOTES and behind[:1] in _QUOTES and bool(before) and bool(behind)


_FASTCHAT = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))


def fastchat_rating(text: str) -> float | Problem:
    """Return the rating that FastChat reads: the first `[[n]]`, else the first `[n]`, of any size.

    FastChat stops with an error at numbers such as `08`. Here they have no verdict.
    """
    for pattern in _FASTCHAT:
        if match := pattern.search(text):
            try:
                # Python's literals, as FastChat reads them, allow no leading zero and no
                # digits outside of ASCII.
                digits = match[1]
                whole = digits.partition(".")[0]
                if not digits.isascii() or ("." not in digits and whole != str(int(whole))):
                    return Problem.NO_VERDICT
                return float(digits)
            except ValueError:  # thousands of digits
                return Problem.NO_VERDICT
    return Problem.NO_VERDICT
