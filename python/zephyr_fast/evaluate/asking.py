"""Asks the evaluated model and its judges, and returns what they said from the log of calls."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from zephyr_fast._core import InputError
from zephyr_fast.collection.directory import LOG, Directory
from zephyr_fast.collection.run import Asking
from zephyr_fast.endpoint.budget import Caps
from zephyr_fast.endpoint.call import Answer, Call, Choice, Outcome
from zephyr_fast.endpoint.client import Source
from zephyr_fast.endpoint.endpoints import Endpoint, Endpoints
from zephyr_fast.endpoint.errors import EndpointError
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Plan, Settings, collect, replay

T = TypeVar("T")

_LOCAL_LOG = "local-calls.jsonl"


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of one call. `problem` is the reason of a failure, empty for an answer."""

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
        endpoint: the endpoint that calls name
        model: the model's name in results
        source: where replies come from; None for HTTP
    """

    endpoint: Endpoint
    model: str
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
    directory: Directory,
    asking: Asking,
    answerer: Answerer | None = None,
) -> list[T]:
    """Ask until all plans are complete, and return their results in order.

    The calls of a local model are in a separate log, and the caps do not count its tokens.

    Raises:
        BudgetError: the caps are reached
        EndpointError: calls are left without an answer; a rerun continues
        LockedError: another run writes the log
    """
    source = answerer.source if answerer else None
    if answerer and source:
        endpoints = {answerer.endpoint.name: answerer.endpoint}
    with _log(directory, source is not None, asking.replays) as log:
        if not asking.replays:
            settings = Settings(
                caps=Caps() if source else asking.caps,
                accept_failures=asking.accepts_failures,
                source=source,
                on_progress=asking.on_progress,
            )
            collect(plans(), endpoints, log, settings).raise_if_open()
        found = list(replay(plans(), endpoints, log))
    complete = [one for one in found if one is not None]
    if len(complete) < len(found):
        raise EndpointError("the log is not complete; run the command without --replay")
    return complete


def _log(directory: Directory, is_local: bool, read_only: bool) -> CallLog:
    if is_local:
        return directory.open_log(_LOCAL_LOG, read_only=read_only)
    return directory.open_log(read_only=read_only)


def began(directory: Directory) -> datetime:
    """Return when the evaluation in a directory began, in UTC: when its settings were stored."""
    seconds = (directory.path / LOG / "settings.json").stat().st_mtime
    return datetime.fromtimestamp(int(seconds), UTC)


def file_name(name: str) -> str:
    """Return a name as a file name: without slashes and leading dots, at most 100 bytes."""
    safe = "".join(char if char.isalnum() or char in "._-" else "_" for char in name)
    return safe.lstrip(".").encode()[:100].decode(errors="ignore") or "_"


def versions(replies: Sequence[Reply]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the models and the system fingerprints that replies named, sorted."""
    models = {one.model for one in replies if one.model}
    fingerprints = {one.fingerprint for one in replies if one.fingerprint}
    return tuple(sorted(models)), tuple(sorted(fingerprints))


def endpoint_answerer(endpoint: Endpoint, model: str | None) -> Answerer:
    """Return an endpoint as the evaluated model, by its own name or a given one."""
    return Answerer(endpoint, model or endpoint.model)


def check_judges(judges: Sequence[Endpoint]) -> None:
    """Raise InputError unless there are judges and the names of their files differ."""
    files = [file_name(one.name) for one in judges]
    if not files or len(set(files)) < len(files):
        raise InputError("name each judge once")


Record = dict[str, Any]
"""A row of an output file."""
