"""Sends one call: its slot, its budget, its retries, and its lines in the log.

The order of the steps of an attempt is essential: a slot of the lane, then a reservation in the
budget, then the `sent` line, then the request, then the line of its outcome. Only then may the
outcome be used.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from zephyr_fast._core import InputError, ZephyrError
from zephyr_fast.endpoint import retry
from zephyr_fast.endpoint.budget import Budget, Cost, usd
from zephyr_fast.endpoint.call import Answer, Call, Failure, Outcome, Request, request_of
from zephyr_fast.endpoint.endpoints import Endpoint, Endpoints
from zephyr_fast.endpoint.errors import BudgetError
from zephyr_fast.endpoint.http import Lost
from zephyr_fast.endpoint.lane import Closed, Lane, Slot, TooLong, overloaded
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.reader import Reply, read
from zephyr_fast.endpoint.reasons import Reason
from zephyr_fast.printed import shown

BAD_REQUESTS_MAX = 10
"""An endpoint that rejects this many requests, or sends this many replies that are not answers,
without a single answer is switched off, because the fault then affects all requests.
"""

_NOT_ANSWERS = frozenset({Reason.BAD_RESPONSE, Reason.INVALID_JSON, Reason.NO_CHOICES})


class Source(Protocol):
    """The source of replies."""

    def post(
        self, request: Request, endpoint: Endpoint, deadline: float
    ) -> Coroutine[Any, Any, Reply]:
        """Return the reply to a request by a deadline on the loop's clock. Raises Lost if there is
        none.
        """

    async def models(self, endpoint: Endpoint) -> list[str]:
        """Return the names of the server's models."""


class Abandoned(Exception):
    """Raised for a call that stays open, so a rerun sends it again. `why` is a reason's name or a
    word.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(slots=True)
class Counts:
    """Outcomes of the calls of a run, each counted once.

    `answered` counts calls answered in this run, and `reused` those with an outcome in the log.
    `failed` counts final failures by reason, and `left_open` the calls that a rerun sends again.
    `models` counts, per endpoint, the model names in its replies.
    """

    answered: int = 0
    reused: int = 0
    attempts: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    left_open: Counter[str] = field(default_factory=Counter)
    models: dict[str, Counter[str]] = field(default_factory=dict)


class Client:
    """Sends calls to endpoints within one event loop. If `source` is None, no call is sent."""

    def __init__(
        self,
        endpoints: Endpoints,
        log: CallLog,
        cap: Cost,
        source: Source | None,
        *,
        concurrency: Mapping[str, int] | None = None,
        accept_failures: bool = False,
    ) -> None:
        self._endpoints, self.log, self._source = endpoints, log, source
        self.budget = Budget(cap, log.spent)
        self._accept_failures = accept_failures
        allowed = concurrency or {}
        self.lanes = {
            name: Lane(endpoint, allowed.get(name, endpoint.concurrency))
            for name, endpoint in endpoints.items()
        }
        self.counts = Counts()
        self.error: ZephyrError | None = None
        self._stopped = asyncio.Event()
        self._sharing: dict[str, list[asyncio.Future[Outcome]]] = {}
        self._settled: list[asyncio.Future[None]] = []
        self._bad_requests: Counter[str] = Counter()

    def stop(self, error: ZephyrError | None = None) -> None:
        """Send no more calls. Those in flight may finish, and the others stay open."""
        self.error = self.error or error
        self._stopped.set()
        for lane in self.lanes.values():
            lane.close()
        self._wake_for_budget()

    async def ask(self, call: Call) -> Outcome:
        """Return the answer to a call, or its final failure. Raises Abandoned if the call stays
        open.

        An outcome in the log is returned unchanged. A call that is already in flight is not sent
        twice.
        """
        endpoint = self._endpoints.get(call.endpoint)
        if endpoint is None:
            known = ", ".join(self._endpoints)
            raise InputError(f"unknown endpoint `{shown(call.endpoint)}`; known: {known}")
        request = request_of(call, endpoint)
        known_outcome = self.log.outcome(request.key)
        if known_outcome is not None:
            self.counts.reused += 1
            return known_outcome
        sharing = self._sharing.get(request.key)
        if sharing is not None:
            shared: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            sharing.append(shared)
            return await shared
        return await self._first(request, endpoint)

    async def _first(self, request: Request, endpoint: Endpoint) -> Outcome:
        """Send a call, and share its outcome with identical calls made in the meantime."""
        sharing = self._sharing[request.key] = []
        try:
            if self._source is None:
                raise Abandoned("not_sent")
            if request.key in self.log.batched:
                raise Abandoned("in_batch")
            outcome = await self._with_retries(request, endpoint, self.lanes[endpoint.name])
        except BaseException as error:
            shown_error = error if isinstance(error, Exception) else Abandoned("interrupted")
            if isinstance(error, Abandoned):
                self.counts.left_open[error.why] += 1
            for shared in sharing:
                if not shared.done():
                    shared.set_exception(shown_error)
            raise
        else:
            self._count(outcome, endpoint)
            for shared in sharing:
                if not shared.done():
                    shared.set_result(outcome)
            return outcome
        finally:
            del self._sharing[request.key]

    def _count(self, outcome: Outcome, endpoint: Endpoint) -> None:
        if isinstance(outcome, Answer):
            self.counts.answered += 1
            names = self.counts.models.setdefault(endpoint.name, Counter())
            names[outcome.model or ""] += 1
        else:
            self.counts.failed[outcome.reason.value] += 1

    async def _with_retries(self, request: Request, endpoint: Endpoint, lane: Lane) -> Outcome:
        clock = asyncio.get_running_loop().time
        deadline: float | None = None
        attempt, free = 0, 1
        while True:
            try:
                slot = await lane.enter(request.tokens_max)
            except Closed:
                raise Abandoned(lane.off.reason.value if lane.off else "stopped") from None
            except TooLong:  # the server has not seen this call, so it is never given up
                raise Abandoned(Reason.DEADLINE.value) from None
            deadline = deadline or clock() + endpoint.deadline_seconds
            outcome = await self._attempt(request, endpoint, slot, deadline)
            if isinstance(outcome, Answer) or outcome.reason.is_final:
                return outcome
            if outcome.reason is Reason.DISCONNECTED and free:
                # Often an idle connection that the server was closing, which is not the call's
                # fault. The next attempt gets a new connection.
                free = 0
                continue
            attempt += 1
            wait = retry.wait_before(
                attempt,
                outcome,
                request.key,
                attempts=endpoint.attempts,
                first_seconds=endpoint.retry_seconds,
            )
            if wait is None:
                return self._failed(request, endpoint, outcome)
            if clock() + wait > deadline:
                late = replace(outcome, reason=Reason.DEADLINE, detail=_last(outcome))
                return self._given_up(request, endpoint, late)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopped.wait()

    async def _attempt(
        self, request: Request, endpoint: Endpoint, slot: Slot, deadline: float
    ) -> Outcome:
        """Send one request, with its reservation and its two log lines."""
        lane, tokens_used = self.lanes[endpoint.name], 0
        try:
            reserve = Cost(
                endpoint.nanousd(request.input_tokens_max, request.output_tokens_max),
                request.tokens_max,
            )
            await self._reserve(reserve)
            cost = reserve  # also if the call ends in an exception, because it may have been sent
            try:
                number = self.log.sent(request.key, endpoint.name, reserve)
                self.counts.attempts += 1
                outcome = await self._reply(request, endpoint, deadline)
                cost = cost_of(outcome, endpoint, reserve)
                tokens_used = cost.tokens or 0
                final = isinstance(outcome, Answer) or outcome.reason.is_final
                self.log.ended(request.key, number, endpoint.name, cost, outcome, is_final=final)
            finally:
                self.budget.settle(reserve, cost)
                self._wake_for_budget()
            self._observe(lane, slot, outcome)
            return outcome
        finally:
            lane.leave(slot, tokens_used)

    async def _reply(self, request: Request, endpoint: Endpoint, deadline: float) -> Outcome:
        assert self._source is not None, "checked before"
        try:
            reply = await self._source.post(request, endpoint, deadline)
        except Lost as lost:
            return lost.failure
        outcome = read(request, endpoint, reply)
        if isinstance(outcome, Failure) and outcome.reason is Reason.NOT_FOUND:
            models = ", ".join(await self._source.models(endpoint))
            has = f"; the server has: {models}" if models else ""
            outcome = replace(outcome, detail=f"{outcome.detail} (model `{endpoint.model}`{has})")
        return outcome

    async def _reserve(self, cost: Cost) -> None:
        while not self.budget.reserve(cost):
            if self._stopped.is_set():
                raise Abandoned("stopped")
            if not self.budget.reserved_calls:
                self.stop(budget_error(self.budget, cost))
                raise Abandoned("budget")
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._settled.append(settled)
            await settled
        if self._stopped.is_set():
            self.budget.settle(cost, Cost(0, 0))
            self._wake_for_budget()
            raise Abandoned("stopped")

    def _wake_for_budget(self) -> None:
        waiting, self._settled = self._settled, []
        for settled in waiting:
            if not settled.done():
                settled.set_result(None)

    def _observe(self, lane: Lane, slot: Slot, outcome: Outcome) -> None:
        """Update the lane after an outcome, before the slot is used for the next call."""
        if isinstance(outcome, Answer):
            lane.accepted(slot)
            self._bad_requests[lane.endpoint.name] = -1
        elif overloaded(outcome):
            lane.rejected(slot, outcome.retry_after)
        elif outcome.reason.switches_off:
            lane.switch_off(outcome)
        elif outcome.reason is Reason.BAD_REQUEST:
            self._note_bad(lane, outcome)

    def _note_bad(self, lane: Lane, failure: Failure) -> None:
        """Count a call that failed, unless the endpoint has answered another one."""
        name = lane.endpoint.name
        if self._bad_requests[name] >= 0:
            self._bad_requests[name] += 1
            if self._bad_requests[name] >= BAD_REQUESTS_MAX:
                lane.switch_off(failure)

    def _failed(self, request: Request, endpoint: Endpoint, failure: Failure) -> Outcome:
        lane = self.lanes[endpoint.name]
        if failure.reason is Reason.UNREACHABLE:  # the last of all attempts
            lane.switch_off(failure)
        if failure.reason in _NOT_ANSWERS:
            self._note_bad(lane, failure)
        if lane.off is not None:
            raise Abandoned(failure.reason.value)
        return self._given_up(request, endpoint, failure)

    def _given_up(self, request: Request, endpoint: Endpoint, failure: Failure) -> Outcome:
        if not self._accept_failures:
            raise Abandoned(failure.reason.value)
        number = self.log.last_attempt(request.key)
        self.log.ended(request.key, number, endpoint.name, Cost(0, 0), failure, is_final=True)
        return failure


def cost_of(outcome: Outcome, endpoint: Endpoint, reserve: Cost) -> Cost:
    """Return the cost of a call: by the server's usage, or its reserve if it may be billed without
    one.
    """
    usage = outcome.usage
    if usage is not None:
        return Cost(endpoint.nanousd(usage.input_tokens, usage.output_tokens), usage.tokens)
    if isinstance(outcome, Answer) or outcome.may_be_billed:
        return reserve
    return Cost(0, 0)


def _last(failure: Failure) -> str:
    words = (failure.reason.value, failure.status, failure.detail)
    return f"last: {' '.join(str(word) for word in words if word)}"


def budget_error(budget: Budget, cost: Cost) -> BudgetError:
    """Return the error for a call that would exceed the budget."""
    spent = budget.spent
    if budget.cap.nanousd is not None:
        needs, used = usd(cost.nanousd), usd(spent.nanousd)
        return BudgetError(
            f"the next call may cost {needs}, and {used} of {usd(budget.cap.nanousd)} are spent; "
            "raise the budget and run the same command again"
        )
    return BudgetError(
        f"the next call may take {cost.tokens:,} tokens, and {spent.tokens:,} of "
        f"{budget.cap.tokens:,} are spent; raise the limit and run the same command again"
    )
