"""The event loop goes on while plans are replayed from the log, and Ctrl-C ends a run."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from asking import call, endpoint_at, one
from faulty_server import completion
from zephyr_fast.endpoint import plans
from zephyr_fast.endpoint.call import Outcome, Request
from zephyr_fast.endpoint.client import Counts
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Plan, Settings, collect
from zephyr_fast.endpoint.reader import Reply

ENDPOINTS = {"teacher": endpoint_at("http://127.0.0.1:9/v1", concurrency=4)}
REUSED = 2_000


class Source:
    """Answers after ten turns of the loop; notes how many plans were begun until then."""

    def __init__(self) -> None:
        self.begun = self.begun_at_reply = 0
        self.interrupts = False

    async def post(self, request: Request, endpoint: Endpoint, deadline: float) -> Reply:
        if self.interrupts:
            os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10):
            await asyncio.sleep(0)
        self.begun_at_reply = self.begun
        return Reply(200, json.dumps(completion()).encode())

    async def models(self, endpoint: Endpoint) -> list[str]:
        return []

    def plans(self, first: str) -> Iterator[Plan[Outcome]]:
        """A new call, and many that the log answers."""
        for text in (first, *map(str, range(REUSED))):
            self.begun += 1
            yield one(call(text))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[CallLog]:
    with CallLog(tmp_path / "log") as opened:
        source = Source()
        collect(source.plans("0"), ENDPOINTS, opened, Settings(source=source))
        yield opened


def test_a_reply_does_not_wait_for_plans_that_the_log_answers(log: CallLog) -> None:
    source = Source()
    report = collect(source.plans("new"), ENDPOINTS, log, Settings(source=source))
    assert report.plans_complete == REUSED + 1 and report.counts.reused == REUSED
    assert source.begun_at_reply < REUSED / 2


def test_ctrl_c_ends_a_run_before_its_last_plan(log: CallLog) -> None:
    source = Source()
    source.interrupts = True
    with pytest.raises(KeyboardInterrupt):
        collect(source.plans("new"), ENDPOINTS, log, Settings(source=source))
    assert source.begun < REUSED / 2
    assert len(log) == REUSED + 1, "the call in flight was answered"


def test_calls_in_flight_get_only_some_seconds_after_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Source):
        async def post(self, request: Request, endpoint: Endpoint, deadline: float) -> Reply:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(20)
            return Reply(200, json.dumps(completion()).encode())

    monkeypatch.setattr(plans, "INTERRUPT_SECONDS", 0.1)
    with CallLog(tmp_path / "log") as log:
        with pytest.raises(KeyboardInterrupt):
            collect([one(call())], ENDPOINTS, log, Settings(source=Slow()))
        assert len(log) == 0 and log.spent.tokens, "given up, with its reserve spent"


def test_an_error_of_on_progress_ends_the_run_and_syncs_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks: list[str] = []

    class Patient(Source):
        async def post(self, request: Request, endpoint: Endpoint, deadline: float) -> Reply:
            for _ in range(300):  # until it was synced twice after the error
                if ticks.count("sync") >= ticks.count("progress") + 2 > 2:
                    break
                await asyncio.sleep(0.01)
            return Reply(200, json.dumps(completion()).encode())

    def broken(counts: Counts) -> None:
        ticks.append("progress")
        raise OSError("broken terminal")

    class Watched(CallLog):
        def sync(self) -> None:
            ticks.append("sync")
            super().sync()

    monkeypatch.setattr(plans, "_SYNC_SECONDS", 0.01)
    source = Patient()
    settings = Settings(source=source, on_progress=broken)
    with Watched(tmp_path / "log") as log:
        with pytest.raises(OSError, match="broken terminal"):
            collect([one(call(str(i))) for i in range(8)], ENDPOINTS, log, settings)
        assert ticks[:4] == ["sync", "progress", "sync", "sync"]
        assert len(log) == 4, "calls in flight were answered, and no more were sent"
