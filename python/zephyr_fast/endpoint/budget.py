"""Tracks the amounts spent and reserved for calls in flight. Their sum never exceeds the cap.

Every call reserves its maximum cost before it is sent, and is settled afterwards. Amounts are
integers of nano-USD and tokens, so sums are exact.

    >>> budget = Budget(cap=Cost(nanousd=10, tokens=None), spent=Cost(4, 0))
    >>> budget.reserve(Cost(6, 100)), budget.reserve(Cost(1, 1))
    (True, False)
    >>> budget.settle(Cost(6, 100), Cost(2, 30))
    >>> budget.spent
    Cost(nanousd=6, tokens=30)
"""

from dataclasses import dataclass
from typing import NamedTuple

from zephyr_fast._core import InputError
from zephyr_fast.endpoint.endpoints import Endpoints
from zephyr_fast.printed import shown


class Cost(NamedTuple):
    """An amount: nano-USD and tokens. In a cap, None means no limit."""

    nanousd: int | None
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Caps:
    """The limits on the cost of a run, including its resumes. None means no limit."""

    usd: float | None = None
    tokens: int | None = None

    def checked(self, endpoints: Endpoints) -> Cost:
        """Return the caps as amounts. InputError if USD are capped without prices."""
        if self.usd is not None:
            for endpoint in endpoints.values():
                if not endpoint.has_prices:
                    raise InputError(
                        f"endpoint `{shown(endpoint.name)}` has no prices, so a budget in USD "
                        "cannot be held; give `usd_per_million_input` and `usd_per_million_output`"
                    )
        nanousd = None if self.usd is None else int(self.usd * 1_000_000_000)
        return Cost(nanousd, self.tokens)


class Budget:
    """A cap, the amount spent, and the amount reserved."""

    def __init__(self, cap: Cost, spent: Cost) -> None:
        self.cap = cap
        self._spent_nanousd, self._spent_tokens = spent.nanousd or 0, spent.tokens or 0
        self._held_nanousd = self._held_tokens = 0
        self.reserved_calls = 0

    @property
    def spent(self) -> Cost:
        """Return the amount spent, without the amount reserved."""
        return Cost(self._spent_nanousd, self._spent_tokens)

    def reserve(self, cost: Cost) -> bool:
        """Reserve an amount. Return False, and reserve nothing, if the cap could be exceeded."""
        nanousd, tokens = cost.nanousd or 0, cost.tokens or 0
        committed_nanousd = self._spent_nanousd + self._held_nanousd + nanousd
        committed_tokens = self._spent_tokens + self._held_tokens + tokens
        if self.cap.nanousd is not None and committed_nanousd > self.cap.nanousd:
            return False
        if self.cap.tokens is not None and committed_tokens > self.cap.tokens:
            return False
        self._held_nanousd += nanousd
        self._held_tokens += tokens
        self.reserved_calls += 1
        return True

    def settle(self, reserved: Cost, spent: Cost) -> None:
        """Replace a reserved amount by the amount spent."""
        self._held_nanousd -= reserved.nanousd or 0
        self._held_tokens -= reserved.tokens or 0
        self.reserved_calls -= 1
        self._spent_nanousd += spent.nanousd or 0
        self._spent_tokens += spent.tokens or 0


def usd(nanousd: int | None) -> str:
    """Format an amount for people.

    >>> usd(1_234_500_000)
    '$1.2345'
    """
    return f"${(nanousd or 0) / 1_000_000_000:,.4f}"
