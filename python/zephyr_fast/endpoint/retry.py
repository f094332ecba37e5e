"""Decides when a failed call is tried again. There are no other retries.

>>> from zephyr_fast.endpoint.reasons import Reason
>>> wait_before(1, Failure(Reason.SERVER_ERROR), "00", attempts=6, first_seconds=1) <= 2
True
>>> wait_before(6, Failure(Reason.SERVER_ERROR), "00", attempts=6, first_seconds=1) is None
True
"""

import hashlib

from zephyr_fast.endpoint.call import Failure
from zephyr_fast.endpoint.reasons import Reason

LAST_SECONDS = 60.0


def wait_before(
    attempt: int, failure: Failure, key: str, *, attempts: int, first_seconds: float
) -> float | None:
    """Return the seconds until the next attempt, or None if there is none. `attempt` counts from 1.

    Rejections because of a rate limit are only limited by the deadline, because the server works
    and will answer later. Waits double, and a hash spreads them over the upper half of the
    interval.
    """
    if not failure.reason.is_retried:
        return None
    if failure.reason is not Reason.RATE_LIMITED and attempt >= attempts:
        return None
    longest = min(LAST_SECONDS, first_seconds * 2 ** min(attempt, 10))
    drawn = hashlib.sha256(f"{key} {attempt}".encode()).digest()
    seconds = longest * (1 + int.from_bytes(drawn[:4]) / (1 << 32)) / 2
    # The lane already delays all calls for Retry-After, so they need no spreading afterwards. A
    # shorter time than the first wait would let a server that always rejects be asked endlessly.
    asked = failure.retry_after or 0.0
    return asked if asked >= first_seconds else seconds
