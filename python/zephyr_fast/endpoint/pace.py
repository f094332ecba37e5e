"""Requests and tokens a minute, pauses, and concurrency: arithmetic on times that it is given.

Requests are spaced evenly, since a burst of a whole minute's requests followed by more of them
passes the limit of a server that counts over any 60 seconds. Concurrency halves once for each
group of calls that a server rejects, and grows by one for each full round of answers. A limit that
nobody told is guessed from how many requests the server took in the minute before it closed.

    >>> pace = Pace(requests_per_minute=60, tokens_per_minute=None, concurrency=8)
    >>> pace.start(now=0.0, tokens=1)
    0
    >>> round(pace.ready_at(), 2)
    1.02
"""

from collections import deque

_MARGIN = 1.02  # Requests arrive later or earlier than they were sent; 2 % keeps a minute below.
_BURST_SECONDS = 0.25  # Time that may be caught up after the event loop was late.
_PAUSE_SECONDS_MAX = 60.0  # Of pauses that double.

# A server that was closed for so long counts requests a minute; a shorter time may be its load.
_WINDOW_SECONDS = 5.0
_SLOWER, _FASTER = 1.05, 0.9995  # After a rejection, after an answer: a limit that was guessed.


class Pace:
    """When the next call to an endpoint may start. Times are seconds of any clock."""

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
        # A limit that nobody told: requests that were accepted before the server rejected one.
        self._accepted: deque[float] = deque()
        self._closed_at: float | None = None
        self._rejections = 0
        self._guessed_seconds = 0.0

    def has_slot(self) -> bool:
        """Whether concurrency allows one more call."""
        return self.in_flight < max(1, int(self.concurrency))

    def ready_at(self) -> float:
        """The time from which a call may start, concurrency aside.

        A call of more tokens than a minute allows starts like any other; those after it wait.
        """
        return max(self._next_request, self._next_tokens, self._paused_until)

    def start(self, now: float, tokens: int) -> int:
        """Counts a call that starts now. Gives the round that it belongs to."""
        self.in_flight += 1
        seconds = max(self._told_seconds, self._guessed_seconds)
        late = _BURST_SECONDS if seconds < _BURST_SECONDS else 0.0
        self._next_request = max(self._next_request, now - late) + seconds
        self._next_tokens = max(self._next_tokens, now) + tokens * self._token_seconds
        return self._round

    def end(self, tokens: int, tokens_used: int) -> None:
        """Counts a call that has ended; what it did not use of its tokens is given back."""
        self.in_flight -= 1
        self._next_tokens -= max(0, tokens - tokens_used) * self._token_seconds

    def accepted(self, now: float, round_started: int) -> None:
        """The server answered: concurrency grows back."""
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
        """The server rejected a call for its load: everyone pauses, concurrency halves.

        Calls that were in flight when it halved are one and the same round: it halves once.
        Without `retry_after` the pause is `first_seconds`, and doubles until a call is accepted.
        """
        if round_started == self._round:
            self._round += 1
            self.concurrency = max(1.0, self.concurrency / 2)
            self._closed_at = now if self._closed_at is None else self._closed_at
            self._rejections += 1
            self._guessed_seconds *= _SLOWER
        doubled = first_seconds * 2 ** min(self._rejections - 1, 20)
        seconds = min(_PAUSE_SECONDS_MAX, doubled) if retry_after is None else retry_after
        self._paused_until = max(self._paused_until, now + seconds)

    def paused_for(self, now: float) -> float:
        """Seconds that the endpoint is still paused."""
        return max(0.0, self._paused_until - now)
