"""Limits a minute, pauses and concurrency, counted on a clock that does not wait.

The server of these tests is a counter with the rules of a rate limit; what is sent over sockets
is tested elsewhere.
"""

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from asking import call, endpoint_at
from faulty_server import completion
from virtual_time import simulated
from zephyr_fast.endpoint.budget import Cost
from zephyr_fast.endpoint.call import Answer, Call, Request
from zephyr_fast.endpoint.client import Abandoned, Client
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.pace import Pace
from zephyr_fast.endpoint.reader import Reply


@dataclass
class Limited:
    """Allows so many requests in any 60 seconds, and answers each after some seconds."""

    per_minute: int
    seconds: float = 2.0
    tells_when: bool = True
    tokens_per_minute: int = 10**9
    accepted: deque[tuple[float, int]] = field(default_factory=deque)
    times: list[float] = field(default_factory=list)
    rejected: int = 0
    peak: int = 0
    in_flight: int = 0

    async def post(self, request: Request, endpoint: Endpoint, deadline: float) -> Reply:
        now = asyncio.get_running_loop().time()
        while self.accepted and self.accepted[0][0] <= now - 60:
            self.accepted.popleft()
        tokens = sum(used for _, used in self.accepted) + 15
        if len(self.accepted) >= self.per_minute or tokens > self.tokens_per_minute:
            self.rejected += 1
            after = self.accepted[0][0] + 60 - now if self.tells_when else None
            return Reply(429, b'{"error": "slow down"}', after)
        self.accepted.append((now, 15))
        self.times.append(now)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        await asyncio.sleep(self.seconds)
        self.in_flight -= 1
        return Reply(200, json.dumps(completion()).encode())

    async def models(self, endpoint: Endpoint) -> list[str]:
        return []


async def asked(server: Limited, endpoint: Endpoint, calls: list[Call], log: CallLog) -> int:
    client = Client({"teacher": endpoint}, log, Cost(None, None), server)
    outcomes = await asyncio.gather(*map(client.ask, calls), return_exceptions=True)
    assert all(isinstance(outcome, Answer | Abandoned) for outcome in outcomes), outcomes[0]
    return sum(isinstance(outcome, Answer) for outcome in outcomes)


def simulate(server: Limited, endpoint: Endpoint, count: int, path: Path) -> int:
    calls = [call(str(number)) for number in range(count)]
    with CallLog(path) as log:
        return simulated(asked(server, endpoint, calls, log))


SLOW = {"deadline_seconds": 3_600.0, "concurrency": 64}


def test_sixty_a_minute_are_never_passed_and_never_wasted(tmp_path: Path) -> None:
    server = Limited(per_minute=60)
    endpoint = endpoint_at("", requests_per_minute=60, **SLOW)
    assert simulate(server, endpoint, 500, tmp_path / "log") == 500
    assert server.rejected == 0
    assert server.times[-1] <= 500 * 1.05, "no slower than the limit by more than 5 %"


@pytest.mark.parametrize("tells_when", [True, False])
def test_a_limit_that_the_file_does_not_tell_is_found(tmp_path: Path, tells_when: bool) -> None:
    server = Limited(per_minute=60, tells_when=tells_when)
    endpoint = endpoint_at("", **(SLOW | {"concurrency": 16}))
    assert simulate(server, endpoint, 500, tmp_path / "log") == 500
    assert server.rejected <= 25, "5 % of the calls"
    fastest = (500 // 60) * 60
    assert server.times[-1] <= 2 * fastest


def test_tokens_a_minute_are_held(tmp_path: Path) -> None:
    server = Limited(per_minute=10**6, tokens_per_minute=1_500)
    endpoint = endpoint_at("", tokens_per_minute=1_500, **SLOW)
    assert simulate(server, endpoint, 300, tmp_path / "log") == 300
    assert server.rejected == 0
    assert server.times[-1] <= 2 * 300 * 15 / 1_500 * 60


def test_concurrency_is_held(tmp_path: Path) -> None:
    server = Limited(per_minute=10**6)
    simulate(server, endpoint_at("", concurrency=7), 100, tmp_path / "log")
    assert server.peak == 7


def test_concurrency_halves_once_a_round_and_grows_back_by_one_a_round() -> None:
    pace = Pace(None, None, concurrency=16)
    rounds = [pace.start(0.0, 1) for _ in range(16)]
    for started in rounds:
        pace.rejected(0.0, started, None, 1.0)
        pace.end(1, 0)
    assert pace.concurrency == 8 and pace.ready_at() == 1.0
    for _ in range(8):
        pace.accepted(2.0, pace.start(2.0, 1))
    assert 8.9 < pace.concurrency < 9
    for _ in range(10_000):
        pace.accepted(3.0, 1)
    assert pace.concurrency == 16


def test_the_smallest_concurrency_is_one() -> None:
    pace = Pace(None, None, concurrency=4)
    for _ in range(10):
        pace.rejected(0.0, pace.start(0.0, 1), 0.0, 1.0)
        pace.end(1, 0)
    assert pace.concurrency == 1 and pace.has_slot()


def test_two_endpoints_do_not_wait_for_each_other(tmp_path: Path) -> None:
    slow, quick = Limited(per_minute=10**6, seconds=100), Limited(per_minute=10**6, seconds=1)

    class Both:
        async def post(self, request: Request, endpoint: Endpoint, deadline: float) -> Reply:
            return await (slow if endpoint.name == "slow" else quick).post(
                request, endpoint, deadline
            )

        async def models(self, endpoint: Endpoint) -> list[str]:
            return []

    base = endpoint_at("", concurrency=4)
    endpoints = {name: replace(base, name=name) for name in ("slow", "quick")}

    async def main(log: CallLog) -> None:
        client = Client(endpoints, log, Cost(None, None), Both())
        calls = [call(str(i), endpoint=("slow", "quick")[i % 2]) for i in range(40)]
        await asyncio.gather(*map(client.ask, calls))

    with CallLog(tmp_path / "log") as log:
        simulated(main(log))
    assert quick.times == [float(i // 4) for i in range(20)]
    assert slow.times == [100.0 * (i // 4) for i in range(20)]
