"""Asks the evaluated model and its judges, and returns what they said from the log of calls."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from zephyr_fast._core import InputError
from zephyr_fast.endpoint.budget import Caps
from zephyr_fast.endpoint.call import Answer, Call, Choice, Outcome
from zephyr_fast.endpoint.client import Counts, Source
from zephyr_fast.endpoint.endpoints import Endpoint, Endpoints
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Plan, Settings, collect, replay
from zephyr_fast.printed import shown

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one call. `problem` is the reason of a failure, empty for an answer."""

    choice: Choice | None
    problem: str
    model: str = ""
    fingerprint: str = ""

    @property
    def text(self) -> str:
        """The text of the answer; empty for a failure."""
        return self.choice.text if self.choice else ""


@dataclass(frozen=True, slots=True)
class Answerer:
    """The evaluated model: an endpoint, or a local model behind `source`.

    Args:
        endpoint: whom calls name
        model: the model's name in results
        log: file name of its log of calls
        source: where replies come from; None for HTTP
    """

    endpoint: Endpoint
    model: str
    log: str
    source: Source | None = None


def reply_of(outcome: Outcome) -> Reply:
    """Return the first choice of an answer, or the reason of a failure."""
    if isinstance(outcome, Answer):
        return Reply(outcome.choices[0], "", outcome.model or "", outcome.fingerprint or "")
    return Reply(None, outcome.reason.value)


def one_call(call: Call) -> Plan[Reply]:
    """Ask one question."""
    (outcome,) = yield [call]
    return reply_of(outcome)


def asked(
    plans: Callable[[], Iterable[Plan[T]]],
    endpoints: Endpoints,
    log: Path,
    caps: Caps,
    source: Source | None = None,
    on_progress: Callable[[Counts], object] | None = None,
) -> list[T]:
    """Ask until all plans are complete, and return their results in order.

    Raises:
        BudgetError: the caps are reached
        EndpointError: calls are left without an answer; a rerun continues
        LockedError: another run writes the log
    """
    with CallLog(log) as opened:
        settings = Settings(caps=caps, source=source, on_progress=on_progress)
        collect(plans(), endpoints, opened, settings).raise_if_open()
        found = [one for one in replay(plans(), endpoints, opened) if one is not None]
    return found


def endpoint_named(endpoints: Endpoints, name: str, what: str) -> Endpoint:
    """Return an endpoint. Raises InputError, which lists the known names."""
    if name not in endpoints:
        known = ", ".join(endpoints)
        raise InputError(f"no endpoint `{shown(name)}` for {what}; known: {known}")
    return endpoints[name]


def versions(replies: Sequence[Reply]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the models and the system fingerprints that replies named, sorted."""
    models = {one.model for one in replies if one.model}
    fingerprints = {one.fingerprint for one in replies if one.fingerprint}
    return tuple(sorted(models)), tuple(sorted(fingerprints))
