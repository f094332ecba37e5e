"""A run that is killed again and again loses nothing, pays twice only for what was in flight,
never passes its budget, and ends with the rows of a run that was not killed.

With ZEPHYR_FAST_LONG=1: 50 kills instead of 5.
"""

import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from asking_child import CONCURRENCY
from children import PYTHONPATH
from faulty_server import Asked, FaultyServer, answered, completion, kill_once, serving
from zephyr_fast.endpoint.log import CallLog

KILLS = 50 if os.environ.get("ZEPHYR_FAST_LONG") else 5
DIALOGUES = 40 * KILLS
CAP = DIALOGUES * 1_000


async def deterministic(asked: Asked, writer: asyncio.StreamWriter) -> bool:
    """The same answer to the same body, after some milliseconds."""
    digest = hashlib.sha256(asked.body).hexdigest()
    await asyncio.sleep(0.002 + int(digest[0], 16) / 2_000)
    writer.write(answered(completion(digest[:12])))
    await writer.drain()
    return True


def started(server: FaultyServer, log: Path, cap: int = CAP) -> "subprocess.Popen[str]":
    child = Path(__file__).parent / "asking_child.py"
    words = [sys.executable, str(child), server.url, str(log), str(DIALOGUES), str(cap)]
    path = f"{PYTHONPATH}{os.pathsep}{child.parent}"
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def rows(server: FaultyServer, log: Path) -> str:
    out, error = started(server, log).communicate(timeout=120)
    assert not error, error
    return out


def test_kills_lose_nothing_and_pay_only_for_what_was_in_flight(tmp_path: Path) -> None:
    draws = random.Random(1)
    with serving(deterministic) as calm:
        unkilled = rows(calm, tmp_path / "calm.jsonl")
    with serving(deterministic) as server:
        killed = tmp_path / "killed.jsonl"
        for _ in range(KILLS):
            kill_once(lambda: started(server, killed), server, after=draws.randint(1, 60))
            with CallLog(killed, read_only=True) as log:
                assert log.spent.tokens is not None and log.spent.tokens <= CAP
        assert rows(server, killed) == unkilled
        sent = len(server.asked)
        assert rows(server, killed) == unkilled and len(server.asked) == sent, "a rerun sends none"
        again = sent - len({asked.body for asked in server.asked})
    assert unkilled.count("\n") == DIALOGUES
    assert len({asked.body for asked in server.asked}) == 2 * DIALOGUES
    assert again <= KILLS * CONCURRENCY


def test_a_budget_holds_over_kills(tmp_path: Path) -> None:
    cap = 3_000
    log = tmp_path / "calls.jsonl"
    with serving(deterministic) as server:
        for _ in range(3):
            kill_once(lambda: started(server, log), server, after=10)
        out, error = started(server, log, cap).communicate(timeout=60)
    assert not out and "BudgetError" in error
    with CallLog(log, read_only=True) as calls:
        spent = calls.spent.tokens or 0
    assert spent <= cap, "with the reserves of calls that a kill cut off"
    assert spent > cap - 200, "used up to less than two reserves"


@pytest.mark.parametrize("patient", [True, False])
def test_ctrl_c_waits_for_what_is_in_flight_but_not_for_long(tmp_path: Path, patient: bool) -> None:
    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.5 if patient else 60)
        return await deterministic(asked, writer)

    with serving(slow) as server:
        child = started(server, tmp_path / "log")
        while len(server.asked) < CONCURRENCY:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        if not patient:
            time.sleep(0.2)
            child.send_signal(signal.SIGINT)
        _, error = child.communicate(timeout=30)
        assert "KeyboardInterrupt" in error and len(server.asked) == CONCURRENCY
    with CallLog(tmp_path / "log") as log:
        assert len(log) == (CONCURRENCY if patient else 0)


def lines(log: Path) -> Sequence[bytes]:
    return log.read_bytes().splitlines(keepends=True)


def test_a_line_that_a_kill_cut_is_removed_wherever_it_was_cut(tmp_path: Path) -> None:
    from asking import call, endpoint_at, run, texts

    log = tmp_path / "log"
    with serving(deterministic) as server:
        endpoint = endpoint_at(server.url)
        _, whole = run([call("a"), call("b")], endpoint, log)
        kept = log.read_bytes()
        last = len(kept) - len(lines(log)[-1])
        for end in range(last, len(kept) - 1, 7):
            log.write_bytes(kept[:end])
            report, outcomes = run([call("a"), call("b")], endpoint, log)
            assert texts(outcomes) == texts(whole) and report.counts.answered == 1
            assert all(line.endswith(b"}\n") for line in lines(log))
            report, _ = run([call("a"), call("b")], endpoint, log)
            assert report.counts.reused == 2, "what was written behind the cut is read"
