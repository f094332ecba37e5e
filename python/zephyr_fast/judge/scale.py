"""The numbers that a verdict may be, and what a reading returns."""

import re
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Why an answer has no verdict."""

    CUT = "cut"
    NO_VERDICT = "no_verdict"
    NO_SECTION = "no_section"
    REPEATED_SECTION = "repeated_section"
    SEVERAL_VERDICTS = "several_verdicts"
    NOT_A_NUMBER = "not_a_number"
    OUT_OF_RANGE = "out_of_range"
    LOW_MASS = "low_mass"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judge's number. None means that the judge chose "N/A" where that is allowed."""

    score: float | None


@dataclass(frozen=True, slots=True)
class Unread:
    """No verdict, with the reason and the part of the answer that caused it."""

    fault: Fault
    detail: str = ""


Reading = Verdict | Unread

DETAIL_CHARACTERS_MAX = 200

_WRAPPING = " \t\r*_`"
_NUMBER = re.compile(
    r"(0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?(?:[ \t]*(?:/|out of)[ \t]*([0-9]{1,3}))?\.?"
)
_NOT_AVAILABLE = re.compile(r"n/?a\.?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers from `lowest` to `highest`. `allows_na`: "N/A" is a verdict too."""

    lowest: int
    highest: int
    allows_na: bool = False

    def read(self, written: str) -> Reading:
        """Read a number as judges write it: `4`, `**4**`, `[[4]]`, `4/5`, `4 out of 5`, `4.5`.

        Anything else is not a number: words, ranges, leading zeros, digits that are not ASCII, a
        denominator other than the highest number of the scale, or more text after the number.
        """
        bare = _unwrapped(written)
        if self.allows_na and _NOT_AVAILABLE.fullmatch(bare):
            return Verdict(None)
        found = _NUMBER.fullmatch(bare)
        if found is None or (found[3] is not None and found[3] != str(self.highest)):
            return Unread(Fault.NOT_A_NUMBER, excerpt(written))
        score = float(found[1] + (found[2] or ""))
        if not self.lowest <= score <= self.highest:
            return Unread(Fault.OUT_OF_RANGE, excerpt(written))
        return Verdict(score)


def _unwrapped(written: str) -> str:
    """Remove emphasis, and brackets that enclose everything."""
    bare = written.strip(_WRAPPING)
    for _ in range(2):
        if bare.startswith("[") and bare.endswith("]"):
            bare = bare[1:-1].strip(_WRAPPING)
    return bare


def excerpt(text: str) -> str:
    """Return the start of a text, for the detail of a failure."""
    text = text.strip()
    return text if len(text) <= DETAIL_CHARACTERS_MAX else text[:DETAIL_CHARACTERS_MAX] + " …"
