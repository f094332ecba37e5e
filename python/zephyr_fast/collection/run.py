"""Sends every call that has no outcome yet, then writes the rows from the log only.

Rows are a pure function of their plans and the log. An uninterrupted run, a run that was killed and
resumed, and a replay without a server therefore write the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from zephyr_fast._core import NoRowsWrittenError
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


class Job(Protocol):
    """What is collected: everything that the rows depend on."""

    @property
    def endpoints(self) -> Endpoints:
        """The endpoints that the plans ask, by name."""

    def check(self) -> None:
        """Check the options. ConfigError if one is out of range."""

    def settings(self) -> Mapping[str, Any]:
        """Return what another run in the same directory must have in common."""

    def plans(self) -> Iterable[Plan[Row]]:
        """Return a plan for each row, in order, each time that it is called."""


class Tally(Protocol):
    """Counts over the rows that are written."""

    def count(self, row: Row) -> object:
        """Count one row."""

    def totals(self) -> Mapping[str, Any]:
        """Return all counts."""

    @property
    def usable(self) -> int:
        """The number of rows that training can use."""

    def faults(self) -> Mapping[str, int]:
        """Return the reasons why rows are not usable, with the number of each."""


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


def run(job: Job, out: Path, asking: Asking, tally: Tally) -> Collected:
    """Send the missing calls of a job and write `out/rows.jsonl`. The same job continues in the
    directory and sends only what has no answer yet.

    Args:
        job: what is collected
        out: output directory, created if missing
        asking: budget, and whether failures are accepted or everything is replayed
        tally: counts each row that is written, for the summary

    Returns:
        The summary, the counts of calls, and what was spent.

    Raises:
        ConfigError: An option is out of range.
        OutputExistsError: The directory belongs to another job.
        BudgetError: The budget is used up. No rows are written; a higher budget continues the job.
        EndpointError: Calls have no answer. No rows are written; the same job tries them again.
        NoRowsWrittenError: No row can be used. The rows are written, with their reasons.
    """
    job.check()
    directory, counts = Directory(out), Counts()
    directory.claim(job.settings(), replays=asking.replays)
    with directory.open_log(read_only=asking.replays) as log:
        if not asking.replays:
            how = Settings(
                caps=asking.caps,
                accept_failures=asking.accepts_failures,
                on_progress=asking.on_progress,
            )
            report = collect(job.plans(), job.endpoints, log, how)
            report.raise_if_open()
            counts = report.counts
        found: dict[str, Any] = {}
        summary = directory.write(_rows(job, log, tally, found), found)
        if not tally.usable:
            raise _nothing_usable(directory, summary["rows"], tally)
        return Collected(summary, counts, log.spent)


def _nothing_usable(directory: Directory, rows: int, tally: Tally) -> NoRowsWrittenError:
    reasons = ", ".join(f"{shown(why)}: {number:,}" for why, number in tally.faults().items())
    return NoRowsWrittenError(
        f"none of the {rows:,} rows in `{shown(directory.rows)}` can be used for training "
        f"({reasons or 'no answers'})"
    )


def _rows(job: Job, log: CallLog, tally: Tally, found: dict[str, Any]) -> Iterator[Row]:
    for number, row in enumerate(replay(job.plans(), job.endpoints, log), start=1):
        if row is None:
            raise EndpointError(
                f"row {number:,} is not complete in the log; run the command without --replay"
            )
        tally.count(row)
        yield row
    found.update(tally.totals())


def estimate(job: Job, out: Path) -> list[Forecast]:
    """Return calls, tokens and cost of what has no answer yet. Sends and writes nothing."""
    job.check()
    directory = Directory(out)
    if not directory.has_log():
        return forecast(job.plans(), job.endpoints)
    with directory.open_log(read_only=True) as log:
        return forecast(job.plans(), job.endpoints, log)
