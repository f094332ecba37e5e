"""Finds the part of a judge's answer about each of the texts that it was shown."""

import re
from collections.abc import Sequence
from itertools import pairwise

from zephyr_fast.endpoint.reasoning import concluded
from zephyr_fast.judge.scale import Fault, Unread, excerpt

_HEADING = re.compile(
    r"^[ \t*_#]{0,12}(?:output for )?(?:answer|text) ([0-9]{1,2})[ \t*_:#]{0,8}$",
    re.IGNORECASE | re.MULTILINE,
)


def sections(text: str, count: int) -> Sequence[str | Unread]:
    """Return the part under each heading `Answer 1` to `Answer count`, in this order.

    Headings that repeat, count beyond `count` or do not ascend leave no part certain, so then no
    text has one. A heading that is missing concerns only its own text. Reasoning is skipped.
    """
    text = concluded(text)
    found = list(_HEADING.finditer(text))
    numbers = [int(heading[1]) for heading in found]
    if any(later <= earlier for earlier, later in pairwise(numbers)) or any(
        not 1 <= number <= count for number in numbers
    ):
        listed = ", ".join(map(str, numbers[:20]))
        return [Unread(Fault.REPEATED_SECTION, f"headings of answers {listed}")] * count
    ends = [*(heading.start() for heading in found), len(text)][1:]
    parts = {
        number: text[heading.end() : end]
        for number, heading, end in zip(numbers, found, ends, strict=True)
    }
    return [
        parts.get(number, Unread(Fault.NO_SECTION, excerpt(text))) for number in range(1, count + 1)
    ]
