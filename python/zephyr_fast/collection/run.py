"""Sends every call that has no outcome yet, then writes the rows from the log only.

Rows are a pure function of their plans and the log. An uninterrupted run, a run that was killed and
resumed, and a replay without a server therefore write the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.collection.directory import Directory
from zephyr_fast.endpoint.budget import Caps, Cost
from zephyr_fast.endpoint.client import Counts
from zephyr_fast.endpoint.endpoints import Endpoints
from zephyr_fast.endpoint.errors import EndpointError
from zephyr_fast.endpoint.forecast import Forecast, forecast
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Plan, Settings, collect, replay
from zephyr_fast.printed import shown

Row = dict[str, Any]
Plans = Callable[[], Iterable[Plan[Row]]]
"""Returns the plans from the start, each time that it is called."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Settings of a run. `replays`: no call is sent. `accepts_failures`: a call without an answer
    becomes a failure of its row, and does not stop the run.
    """

    caps: Caps = field(default_factory=Caps)
    replays: bool = False
    accepts_failures: bool = False
    on_progress: Callable[[Counts], object] | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """Rows that a run wrote, calls that it sent, and the cost of all runs in the directory."""

    summary: dict[str, Any]
    counts: Counts
    spent: Cost


def run(
    plans: Plans,
    endpoints: Endpoints,
    directory: Directory,
    settings: Mapping[str, Any],
    asking: Asking,
    tally: Callable[[Row], object],
    totals: Callable[[], Mapping[str, Any]],
) -> Collected:
    """Send the missing calls and write the rows. `settings` are the values that the rows depend on.
    `tally` is called with each row that is written, and `totals` returns its counts.

    Raises:
        OutputExistsError: The directory belongs to a run with other settings.
        BudgetError: The budget is used up. No rows are written.
        EndpointError: Calls have no outcome. No rows are written.
    """
    if asking.replays and not directory.has_log():
        raise InputError(f"`{shown(directory.path)}` has no log to replay")
    directory.claim(settings)
    counts = Counts()
    with directory.open_log(read_only=asking.replays) as log:
        if not asking.replays:
            how = Settings(
                caps=asking.caps,
                accept_failures=asking.accepts_failures,
                on_progress=asking.on_progress,
            )
            report = collect(plans(), endpoints, log, how)
            report.raise_if_open()
            counts = report.counts
        found: dict[str, Any] = {}
        summary = directory.write(_rows(plans, endpoints, log, tally, totals, found), found)
        return Collected(summary, counts, log.spent)


def _rows(
    plans: Plans,
    endpoints: Endpoints,
    log: CallLog,
    tally: Callable[[Row], object],
    totals: Callable[[], Mapping[str, Any]],
    found: dict[str, Any],
) -> Iterator[Row]:
    for number, row in enumerate(replay(plans(), endpoints, log), start=1):
        if row is None:
            raise EndpointError(
                f"row {number:,} is not complete in the log; run the command without --replay"
            )
        tally(row)
        yield row
    found.update(totals())


def estimate(plans: Plans, endpoints: Endpoints, directory: Directory) -> list[Forecast]:
    """Return the estimate for each endpoint. Sends and writes nothing."""
    if not directory.has_log():
        return forecast(plans(), endpoints)
    with directory.open_log(read_only=True) as log:
        return forecast(plans(), endpoints, log)
