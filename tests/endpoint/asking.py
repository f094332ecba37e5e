"""What tests of asking share: an endpoint of a test server, plans of one call, one run."""

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

from zephyr_fast.endpoint.call import Answer, Call, Message, Outcome
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Report, Settings, collect, replay


def endpoint_at(url: str, **changes: Any) -> Endpoint:
    """An endpoint with prices: $1 and $2 for a million tokens."""
    fields: dict[str, Any] = {
        "name": "teacher",
        "url": url,
        "model": "large-chat",
        "nanousd_per_input_token": 1_000,
        "nanousd_per_output_token": 2_000,
    }
    return Endpoint(**(fields | changes))


def call(text: str = "hello", **changes: Any) -> Call:
    """A short question."""
    fields: dict[str, Any] = {"endpoint": "teacher", "max_tokens": 20}
    return Call(messages=(Message("user", text),), **(fields | changes))


def one(asked: Call) -> Generator[Sequence[Call], Sequence[Outcome], Outcome]:
    """A plan of one call."""
    (outcome,) = yield [asked]
    return outcome


def run(
    calls: Iterable[Call], endpoint: Endpoint, log: Path, settings: Settings | None = None
) -> tuple[Report, list[Outcome | None]]:
    """Asks all calls and replays them: what the run reports, and the outcomes in order."""
    asked, endpoints = list(calls), {endpoint.name: endpoint}
    with CallLog(log) as opened:
        report = collect([one(call) for call in asked], endpoints, opened, settings)
        return report, list(replay([one(call) for call in asked], endpoints, opened))


def texts(outcomes: Iterable[Outcome | None]) -> list[str | None]:
    """The texts of answers; None for everything else."""
    return [outcome.text if isinstance(outcome, Answer) else None for outcome in outcomes]
