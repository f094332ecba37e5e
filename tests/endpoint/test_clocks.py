"""Clocks that are wrong or jump: a run neither stalls nor asks a server that is busy without end.

Only a `Retry-After` with a date has to do with the time of day. Everything else is measured on the
loop's clock, which never jumps.
"""

import asyncio
import datetime
import time
from collections.abc import Iterator
from email.utils import format_datetime
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from asking import call, endpoint_at, run, texts
from faulty_server import GOOD, Asked, refused, serving
from zephyr_fast.endpoint import http

DAY = 86_400.0
QUICK: dict[str, Any] = {"retry_seconds": 0.05, "deadline_seconds": 60.0}


def dated(skew: float, wait: float, now: float) -> bytes:
    """A busy server whose clock is wrong by `skew` seconds. It asks to wait for `wait` seconds."""
    moments = (now + skew, now + skew + wait)
    date, later = (
        format_datetime(datetime.datetime.fromtimestamp(one, datetime.UTC), usegmt=True)
        for one in moments
    )
    return refused("429 Busy", "slow down", f"Date: {date}", f"Retry-After: {later}")


@pytest.mark.parametrize("skew", [-DAY, -3_600.0, 3_600.0, DAY])
def test_a_server_whose_clock_is_wrong_is_waited_for_as_long_as_it_asks(
    tmp_path: Path, skew: float
) -> None:
    times: list[float] = []

    async def busy(_: Asked, writer: asyncio.StreamWriter) -> bool:
        times.append(time.monotonic())
        writer.write(GOOD if len(times) > 1 else dated(skew, 1.0, time.time()))
        return True

    with serving(busy) as server:
        _, outcomes = run([call()], endpoint_at(server.url, **QUICK), tmp_path / "log")
    assert texts(outcomes) == ["fine"] and len(times) == 2
    assert times[1] - times[0] >= 0.9, "no sooner than asked"


@pytest.mark.parametrize(
    "after", ["0", "-5", "0.0001", "nan", "Thu, 01 Jan 1970 00:00:00 GMT", "soon"]
)
def test_a_busy_server_that_names_no_time_to_wait_is_not_asked_without_end(
    tmp_path: Path, after: str
) -> None:
    with serving(refused("429 Busy", "slow down", f"Retry-After: {after}")) as server:
        endpoint = endpoint_at(server.url, retry_seconds=0.2, deadline_seconds=3.0)
        report, _ = run([call()], endpoint, tmp_path / "log")
        assert len(server.asked) <= 6, "0.2 s, 0.4 s, 0.8 s, …"
    assert report.counts.left_open == {"deadline": 1}


class Jumping(datetime.datetime):
    """A time of day that jumps by hours, forward and back, at each look."""

    jumps: Iterator[float] = cycle([5 * 3_600.0, -5 * 3_600.0, DAY, -DAY])

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "Jumping":
        moment = datetime.datetime.now(tz).timestamp() + next(cls.jumps)
        return cls.fromtimestamp(moment, tz)


def test_a_time_of_day_that_jumps_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With limits per minute, pauses, retries, stalls and a deadline: all that is timed."""
    jumps, real = cycle([5 * 3_600.0, -5 * 3_600.0, DAY, -DAY]), time.time
    rounds: list[float] = []

    async def busy_at_first(_: Asked, writer: asyncio.StreamWriter) -> bool:
        rounds.append(time.monotonic())
        late = dated(0.0, 1.0, real())
        writer.write(late if len(rounds) <= 2 else refused("500 Oops") if len(rounds) < 5 else GOOD)
        return True

    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    monkeypatch.setattr(http, "datetime", Jumping)
    started = time.monotonic()
    with serving(busy_at_first) as server:
        endpoint = endpoint_at(
            server.url, **QUICK, requests_per_minute=1_200, concurrency=2, stall_seconds=30.0
        )
        calls = [call(str(number)) for number in range(20)]
        report, outcomes = run(calls, endpoint, tmp_path / "log")
        assert texts(outcomes) == ["fine"] * 20, report.counts
        assert len(server.asked) == 24
    seconds = time.monotonic() - started
    assert 0.9 <= seconds <= 45, "a pause of a second and some retries; far from an hour"
