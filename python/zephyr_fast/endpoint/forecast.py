"""Estimates a run without sending anything: calls, tokens, cost and time.

Calls with an outcome in the log cost nothing. They show how many bytes the model has per token, and
how long its answers are. Later calls of a plan are built on placeholder answers of that length.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from zephyr_fast.endpoint.call import Answer, Choice, Outcome, Request, Usage
from zephyr_fast.endpoint.endpoints import Endpoint, Endpoints
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Plan, driven

T = TypeVar("T")

_BYTES_PER_TOKEN = 4.0  # English in the vocabularies in use has 3.8 to 4.6.


@dataclass(slots=True)
class Forecast:
    """The expected load of one endpoint.

    Output tokens are the expected number if the log has answers, and otherwise the maximum.
    `nanousd_max` is the amount that the calls reserve: one token per byte of a prompt, and
    `max_tokens` per text. It does not include retries. Both costs are None without prices.
    `seconds_min` is the shortest time within the limits per minute.
    """

    endpoint: str
    calls: int = 0
    calls_answered: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    output_tokens_max: int = 0
    nanousd: int | None = 0
    nanousd_max: int | None = 0
    seconds_min: float = 0.0


@dataclass(slots=True)
class _Evidence:
    """Totals over one endpoint's calls: open ones, and those with an outcome in the log."""

    calls: int = 0
    input_bytes: int = 0
    input_max: int = 0
    output_max: int = 0
    texts: int = 0
    known: int = 0
    known_bytes: int = 0
    known_input: int = 0
    known_output: int = 0
    known_texts: int = 0

    def learn(self, request: Request, usage: Usage) -> None:
        """Add the token counts of an answered call."""
        self.known_bytes += _bytes_of(request)
        self.known_input += usage.input_tokens
        self.known_output += usage.output_tokens
        self.known_texts += request.call.n

    @property
    def bytes_per_token(self) -> float:
        """Return the bytes of a prompt per token."""
        return self.known_bytes / self.known_input if self.known_input else _BYTES_PER_TOKEN

    def expected(self, request: Request) -> int:
        """Return the expected tokens of each text of an answer."""
        if not self.known_texts:
            return request.call.max_tokens
        return min(request.call.max_tokens, round(self.known_output / self.known_texts))


def forecast(
    plans: Iterable[Plan[T]], endpoints: Endpoints, log: CallLog | None = None
) -> list[Forecast]:
    """Return the estimate for each endpoint that the plans use."""
    evidence: dict[str, _Evidence] = {}
    seen: set[str] = set()

    def look(request: Request) -> Outcome:
        of = evidence.setdefault(request.call.endpoint, _Evidence())
        outcome = log.outcome(request.key) if log is not None else None
        is_new = request.key not in seen
        seen.add(request.key)
        if outcome is not None:
            of.known += is_new
            if is_new and outcome.usage is not None:
                of.learn(request, outcome.usage)
            return outcome
        tokens = of.expected(request)
        if is_new:
            of.calls += 1
            of.input_bytes += _bytes_of(request)
            of.input_max += request.input_tokens_max
            of.output_max += request.output_tokens_max
            of.texts += request.call.n
        return _stand_in(request, tokens)

    for plan in plans:
        driven(plan, endpoints, look)
    return [_forecast(endpoints[name], of) for name, of in evidence.items()]


def _bytes_of(request: Request) -> int:
    return sum(len(message.content.encode()) for message in request.call.messages)


def _stand_in(request: Request, tokens: int) -> Answer:
    # Answers to different calls must differ. Otherwise, calls that are built on them would count as
    # one.
    text = request.key[:8] + " word" * max(0, round(tokens * _BYTES_PER_TOKEN / 5) - 2)
    return Answer((Choice(text, "stop"),) * request.call.n, None, None, None)


def _forecast(endpoint: Endpoint, of: _Evidence) -> Forecast:
    input_tokens = round(of.input_bytes / of.bytes_per_token)
    output = of.output_max
    if of.known_texts:
        output = min(of.output_max, round(of.texts * of.known_output / of.known_texts))
    requests, tokens = endpoint.requests_per_minute, endpoint.tokens_per_minute
    minutes = max(
        of.calls / requests if requests else 0.0,
        (input_tokens + output) / tokens if tokens else 0.0,
    )
    return Forecast(
        endpoint.name,
        of.calls,
        of.known,
        input_tokens,
        output,
        of.output_max,
        endpoint.nanousd(input_tokens, output) if endpoint.has_prices else None,
        endpoint.nanousd(of.input_max, of.output_max) if endpoint.has_prices else None,
        60 * minutes,
    )
