"""Limits requests and tokens per minute, pauses and concurrency. Has no clock: callers pass the
time.

Requests are spaced evenly, because a burst of a full minute's requests followed by more of them
exceeds the limit of a server that counts over any 60 seconds. Concurrency halves once for each
group of calls that a server rejects, and grows by one for each full round of answers. An unknown
limit is guessed from the number of requests that the server accepted in the minute before it
rejected one.

    >>> pace = Pace(requests_per_minute=60, tokens_per_minute=None, concurrency=8)
    >>> pace.start(now=0.0, tokens=1)
    0
    >>> round(pace.ready_at(), 2)
    1.02
"""

from collections import deque

_MARGIN = 1.02  # Requests may arrive early or late. 2 % keeps any minute below the limit.
_BURST_SECONDS = 0.25  # Time that may be caught up after the event loop was late.
_PAUSE_SECONDS_MAX = 60.0  # For pauses that double.

# A server that rejected calls for this long limits requests per minute. A shorter time may be load.
_WINDOW_SECONDS = 5.0
_SLOWER, _FASTER = 1.05, 0.9995  # Of a guessed limit, after a rejection and an answer.


class Pace:
    """Computes when the next call to an endpoint may start. Times are seconds of any clock."""

    def __init__(
        self, requests_per_minute: int | None, tokens_per_minute: int | None, concurrency: int
    ) -> None:
        self._told_seconds = 60 * _MARGIN / requests_per_minute if requests_per_minute else 0.0
        self._token_seconds = 60 * _MARGIN / tokens_per_minute if tokens_per_minute else 0.0
        self._concurrency_max = concurrency
        self.concurrency = float(concurrency)
        self.in_flight = 0
        self._round = 0
        self._next_request = self._next_tokens = self._paused_until = float("-inf")
        # Times of the requests that the server accepted before it rejected one, to guess an unknown
        # limit.
        self._accepted: deque[float] = deque()
        self._closed_at: float | None = None
        self._rejections = 0
        self._guessed_seconds = 0.0

    def has_slot(self) -> bool:
        """Whether the concurrency limit allows one more call."""
        return self.in_flight < max(1, int(self.concurrency))

    def ready_at(self) -> float:
        """Return the earliest time for the next call, apart from concurrency.

        A call with more tokens than the limit per minute starts like any other, and the calls after
        it wait.
        """
        return max(self._next_request, self._next_tokens, self._paused_until)

    def start(self, now: float, tokens: int) -> int:
        """Count a call that starts now, and return the round that it belongs to."""
        self.in_flight += 1
        seconds = max(self._told_seconds, self._guessed_seconds)
        late = _BURST_SECONDS if seconds < _BURST_SECONDS else 0.0
        self._next_request = max(self._next_request, now - late) + seconds
        self._next_tokens = max(self._next_tokens, now) + tokens * self._token_seconds
        return self._round

    def end(self, tokens: int, tokens_used: int) -> None:
        """Count a call that has ended, and release the tokens that it did not use."""
        self.in_flight -= 1
        self._next_tokens -= max(0, tokens - tokens_used) * self._token_seconds

    def accepted(self, now: float, round_started: int) -> None:
        """Record that the server answered, so that concurrency grows."""
        self._accepted.append(now)
        while self._accepted[0] < (self._closed_at or now) - 60:
            self._accepted.popleft()
        if round_started != self._round:
            return
        self.concurrency = min(self._concurrency_max, self.concurrency + 1 / self.concurrency)
        if self._closed_at is None:
            self._guessed_seconds *= _FASTER
            return
        if self._paused_until - self._closed_at >= _WINDOW_SECONDS and len(self._accepted) > 1:
            guessed = 60 * _MARGIN / (len(self._accepted) - 1)
            self._guessed_seconds = max(self._guessed_seconds, guessed)
        self._closed_at, self._rejections = None, 0

    def rejected(
        self, now: float, round_started: int, retry_after: float | None, first_seconds: float
    ) -> None:
        """Record that the server rejected a call because of its load: all calls pause, and
        concurrency halves.

        Calls that were in flight when it halved belong to the same round, so it halves only once.
        Without `retry_after`, or with a shorter one than `first_seconds`, the pause is
        `first_seconds`, and doubles until a call is accepted.
        """
        if round_started == self._round:
            self._round += 1
            self.concurrency = max(1.0, self.concurrency / 2)
            self._closed_at = now if self._closed_at is None else self._closed_at
            self._rejections += 1
            self._guessed_seconds *= _SLOWER
        doubled = first_seconds * 2 ** min(self._rejections - 1, 20)
        asked = retry_after or 0.0
        seconds = asked if asked >= first_seconds else min(_PAUSE_SECONDS_MAX, doubled)
        self._paused_until = max(self._paused_until, now + seconds)

    def paused_for(self, now: float) -> float:
        """Return the remaining seconds of the endpoint's pause."""
        return max(0.0, self._paused_until - now)
