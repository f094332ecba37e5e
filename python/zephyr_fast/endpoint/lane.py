"""The queue of calls to one endpoint: first come, first served, at the endpoint's pace."""

import asyncio
from collections import deque
from dataclasses import dataclass

from zephyr_fast.endpoint.call import Failure
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.pace import Pace
from zephyr_fast.endpoint.reasons import Reason


class Closed(Exception):
    """Raised if the endpoint takes no more calls: it was switched off, or the run is ending."""


class TooLong(Exception):
    """Raised if the endpoint is paused for longer than a call may take."""


@dataclass(slots=True)
class Slot:
    """The slot of a call in flight."""

    tokens: int
    round: int


class Lane:
    """Admits and releases calls. All methods run in one event loop, whose clock they read."""

    def __init__(self, endpoint: Endpoint, concurrency: int) -> None:
        self.endpoint = endpoint
        self.off: Failure | None = None
        self.pace = Pace(endpoint.requests_per_minute, endpoint.tokens_per_minute, concurrency)
        self._waiting: deque[tuple[asyncio.Future[Slot], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def enter(self, tokens: int) -> Slot:
        """Wait for a slot. Raises Closed if there will be none, and TooLong if it would take too
        long.
        """
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise Closed
        if self.pace.paused_for(loop.time()) > self.endpoint.deadline_seconds:
            raise TooLong
        waiter: asyncio.Future[Slot] = loop.create_future()
        self._waiting.append((waiter, tokens))
        self._admit()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and not waiter.exception():
                self.leave(waiter.result(), tokens_used=0)
            raise

    def leave(self, slot: Slot, tokens_used: int) -> None:
        """Release a slot."""
        self.pace.end(slot.tokens, tokens_used)
        self._admit()

    def accepted(self, slot: Slot) -> None:
        """Record that the server answered."""
        self.pace.accepted(asyncio.get_running_loop().time(), slot.round)

    def rejected(self, slot: Slot, retry_after: float | None) -> None:
        """Record that the server rejected a call because of its load. Calls that cannot wait long
        enough fail.
        """
        now = asyncio.get_running_loop().time()
        self.pace.rejected(now, slot.round, retry_after, self.endpoint.retry_seconds)
        if self.pace.paused_for(now) > self.endpoint.deadline_seconds:
            self._dismiss(TooLong())

    def switch_off(self, failure: Failure) -> None:
        """Take no more calls, permanently."""
        if self.off is None:
            self.off = failure
        self.close()

    def close(self) -> None:
        """Take no more calls, and fail those that wait."""
        self._is_closed = True
        self._dismiss(Closed())

    def _dismiss(self, error: Exception) -> None:
        while self._waiting:
            waiter, _ = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(error)

    def _admit(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._waiting and self.pace.has_slot():
            waiter, tokens = self._waiting[0]
            if waiter.done():
                self._waiting.popleft()
                continue
            ready = self.pace.ready_at()
            if ready > now:
                self._wake_at(ready)
                return
            self._waiting.popleft()
            waiter.set_result(Slot(tokens, self.pace.start(now, tokens)))

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._admit()


def overloaded(failure: Failure) -> bool:
    """Whether a failure indicates an overloaded server."""
    return failure.reason is Reason.RATE_LIMITED or failure.status in (503, 529)
