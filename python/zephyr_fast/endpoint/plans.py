"""Runs plans against endpoints, or replays them from the log only.

A plan is a generator that yields calls, receives their outcomes, and returns a result:

    def dialogue(first: Call) -> Plan[str]:
        (outcome,) = yield [first]
        return outcome.text if isinstance(outcome, Answer) else ""

`collect` runs many plans at once until every call has an outcome in the log. `replay` runs them one
by one, in order, from that log, without a server and with the same results each time. A plan must
depend only on its row and the outcomes.
"""

import asyncio
import resource
import signal
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from zephyr_fast._core import ZephyrError
from zephyr_fast.endpoint.budget import Caps, Cost
from zephyr_fast.endpoint.call import Call, Failure, Outcome, Request, request_of
from zephyr_fast.endpoint.client import Abandoned, Client, Counts, Source
from zephyr_fast.endpoint.endpoints import Endpoints
from zephyr_fast.endpoint.errors import EndpointError
from zephyr_fast.endpoint.http import Http
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.printed import shown, warn

T = TypeVar("T")
Plan = Generator[Sequence[Call], Sequence[Outcome], T]

INTERRUPT_SECONDS = 1.5
"""Maximum seconds that calls in flight continue after Ctrl-C."""

_SYNC_SECONDS = 1.0
_SPARE_WORKERS = 256
_SPARE_FILES = 64  # Open files other than connections: the log, the package's own, the terminal.


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a run. `source` None means HTTP. With `accept_failures`, failures that a rerun
    would retry become final. `on_progress` is called about once a second.
    """

    caps: Caps = field(default_factory=Caps)
    accept_failures: bool = False
    source: Source | None = None
    on_progress: Callable[[Counts], object] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Counts and cost of a run. `spent` covers all runs on the log, including reserves of lost
    calls.

    `off` has the failure that switched an endpoint off, and `error` the error that stopped the run.
    """

    counts: Counts
    plans_complete: int
    plans_open: int
    spent: Cost
    off: dict[str, Failure]
    error: ZephyrError | None

    def raise_if_open(self) -> None:
        """Raise the error that stopped the run, or EndpointError if calls have no outcome."""
        if self.error is not None:
            raise self.error
        if not self.plans_open:
            return
        reasons = ", ".join(f"{why}: {n:,}" for why, n in self.counts.left_open.most_common())
        off = "".join(
            f"; endpoint `{name}` was switched off: {failure.reason.value} "
            f"({failure.status or 'no status'}) {shown(failure.detail, 500)}"
            for name, failure in self.off.items()
        )
        raise EndpointError(
            f"{self.plans_open:,} rows are not complete ({reasons}); run the same command again"
            f"{off}"
        )


def collect(
    plans: Iterable[Plan[T]], endpoints: Endpoints, log: CallLog, settings: Settings | None = None
) -> Report:
    """Send calls until every call of the plans has an outcome in the log, or the run is stopped.

    Raises InputError for calls that cannot be sent. An error that stops the run is in the report.
    Raises KeyboardInterrupt once calls in flight have ended, or after `INTERRUPT_SECONDS`. An
    exception of `on_progress` stops the run and is raised.
    """
    return asyncio.run(_collect(iter(plans), endpoints, log, settings or Settings()))


def replay(plans: Iterable[Plan[T]], endpoints: Endpoints, log: CallLog) -> Iterator[T | None]:
    """Return the results of the plans in order, from the log only. None for an incomplete plan."""
    for plan in plans:
        yield driven(plan, endpoints, lambda request: log.outcome(request.key))


def driven(
    plan: Plan[T], endpoints: Endpoints, outcome_of: Callable[[Request], Outcome | None]
) -> T | None:
    """Return the result of one plan, with outcomes from a function. None if a call has no outcome.

    All calls of a step are looked up, even after one without an outcome.
    """
    try:
        calls = next(plan)
        while True:
            requests = [request_of(call, endpoints[call.endpoint]) for call in calls]
            outcomes = [outcome_of(request) for request in requests]
            known = [outcome for outcome in outcomes if outcome is not None]
            if len(known) < len(outcomes):
                plan.close()
                return None
            calls = plan.send(known)
    except StopIteration as end:
        result: T = end.value
        return result


class _Run:
    """Workers that process one plan after another until all plans are done."""

    def __init__(self, plans: Iterator[Plan[T]], client: Client) -> None:
        self._plans, self._client = plans, client
        self.complete = self.open = 0
        self.interrupted = False
        self.progress_error: Exception | None = None

    async def work(self) -> None:
        try:
            for plan in self._plans:
                # Calls with an outcome in the log never wait, so without this timers and replies
                # would be delayed.
                await asyncio.sleep(0)
                if self.interrupted or self.progress_error:
                    return
                try:
                    complete = await self._finish(plan)
                except ZephyrError as error:
                    self._client.stop(error)
                    complete = False
                self.complete += complete
                self.open += not complete
        except BaseException:
            self._client.stop()  # `_collect` raises it once the other workers have ended
            raise

    async def _finish(self, plan: Plan[T]) -> bool:
        try:
            calls = next(plan)
            while True:
                # A single call runs without a separate task, which would take memory.
                alone = len(calls) == 1
                calls = plan.send(
                    [await self._client.ask(calls[0])] if alone else await self._ask_all(calls)
                )
        except StopIteration:
            return True
        except Abandoned:
            return False
        finally:
            plan.close()

    async def _ask_all(self, calls: Sequence[Call]) -> Sequence[Outcome]:
        asked = await asyncio.gather(*map(self._client.ask, calls), return_exceptions=True)
        for one in asked:
            if isinstance(one, BaseException):
                raise one
        return [one for one in asked if not isinstance(one, BaseException)]


async def _collect(
    plans: Iterator[Plan[T]], endpoints: Endpoints, log: CallLog, settings: Settings
) -> Report:
    cap = settings.caps.checked(endpoints)
    async with AsyncExitStack() as stack:
        source = settings.source or await stack.enter_async_context(Http())
        concurrency = _concurrency(endpoints) if settings.source is None else None
        client = Client(
            endpoints,
            log,
            cap,
            source,
            concurrency=concurrency,
            accept_failures=settings.accept_failures,
        )
        run = _Run(plans, client)
        in_flight = sum((concurrency or {n: e.concurrency for n, e in endpoints.items()}).values())
        # More workers than calls in flight, so that no slot is idle while a row is prepared.
        count = in_flight + min(in_flight // 4 + 8, _SPARE_WORKERS)
        workers = [asyncio.ensure_future(run.work()) for _ in range(count)]
        ticking = asyncio.ensure_future(_tick(run, client, settings.on_progress))
        _stop_on_interrupt(run, client, workers)
        try:
            await _all(workers)
        finally:
            ticking.cancel()
            for worker in workers:
                worker.cancel()
    log.sync()
    if run.interrupted:
        raise KeyboardInterrupt
    if run.progress_error is not None:
        raise run.progress_error
    off = {name: lane.off for name, lane in client.lanes.items() if lane.off is not None}
    return Report(client.counts, run.complete, run.open, log.spent, off, client.error)


async def _all(workers: Sequence[Awaitable[None]]) -> None:
    for ended in await asyncio.gather(*workers, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


async def _tick(run: _Run, client: Client, on_progress: Callable[[Counts], object] | None) -> None:
    while True:
        await asyncio.sleep(_SYNC_SECONDS)
        try:
            await asyncio.to_thread(client.log.sync)
        except ZephyrError as error:
            client.stop(error)
        if on_progress is None or run.progress_error is not None:
            continue
        try:
            on_progress(client.counts)
        except Exception as error:  # raised once calls in flight have ended
            run.progress_error = error
            client.stop()


def _stop_on_interrupt(
    run: _Run, client: Client, workers: Sequence["asyncio.Future[None]"]
) -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()

    def cancel() -> None:
        for worker in workers:
            worker.cancel()

    def interrupted() -> None:
        if run.interrupted:
            cancel()
            return
        run.interrupted = True
        client.stop()
        loop.call_later(INTERRUPT_SECONDS, cancel)

    loop.add_signal_handler(signal.SIGINT, interrupted)


def _concurrency(endpoints: Endpoints) -> dict[str, int]:
    """Return the calls in flight for each endpoint, so that all their connections may be open at
    once.
    """
    wanted = {name: endpoint.concurrency for name, endpoint in endpoints.items()}
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    room = max(1, files - _SPARE_FILES)
    total = sum(wanted.values())
    if files == resource.RLIM_INFINITY or total <= room:
        return wanted
    warn(
        f"this process may open {files:,} files, so at most {room:,} calls are in flight "
        f"instead of {total:,}; `ulimit -n` raises the limit"
    )
    return {name: max(1, calls * room // total) for name, calls in wanted.items()}
