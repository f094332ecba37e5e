"""The expected number over a judge's log-probs of its first token: Σ n·p(n) / Σ p(n)."""

import math
import re

from zephyr_fast.endpoint.call import Choice
from zephyr_fast.judge.scale import Fault, Reading, Scale, Unread, Verdict, excerpt

TOP_LOGPROBS = 20
"""Tokens to request for each position: the most that common servers allow."""

MASS_MIN = 0.5
"""With less probability on numbers of the scale, the judge was about to write something else."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")
_CONTINUES = re.compile(r"[0-9]|[.,/][0-9]")
_SPACES = " \t\n▁Ġ"  # the last two are how vocabularies write a space


def expected(choice: Choice, scale: Scale, *, mass_min: float = MASS_MIN) -> Reading:
    """Return the expected number of the first token, over the tokens that are numbers of the scale.

    A scale needs numbers of one digit: `1` could be the start of `10`. If the server wrote more
    tokens than requested, and they continue the number, there is none. The numbers that are missing
    in the server's list count as impossible.

    Raises:
        ValueError: The scale has numbers of two digits.
    """
    if scale.lowest < 0 or scale.highest > 9:
        raise ValueError("the expected number needs a scale within 0 to 9")
    if not choice.logprobs:
        return Unread(Fault.LOW_MASS, "the answer has no log-probs")
    first, *others = choice.logprobs
    is_digit = _NUMBER.fullmatch(first.token.strip(_SPACES))
    if is_digit and _CONTINUES.match("".join(token.token for token in others)):
        return Unread(Fault.NOT_A_NUMBER, excerpt(choice.text))  # the first digit of `10` or `3.5`
    by_token = {first.token: first.logprob} | dict(first.top)
    mass = weighted = 0.0
    for token, logprob in by_token.items():
        number = token.strip(_SPACES)
        if _NUMBER.fullmatch(number) and scale.lowest <= int(number) <= scale.highest:
            p = math.exp(min(logprob, 0.0))
            mass, weighted = mass + p, weighted + int(number) * p
    if mass <= 0 or mass < mass_min:
        return Unread(
            Fault.LOW_MASS,
            f"numbers of the scale have a probability of {mass:.3f}, the minimum is {mass_min:g}",
        )
    # Sums of floats may leave the scale by a rounding error.
    return Verdict(min(max(weighted / mass, scale.lowest), scale.highest))
