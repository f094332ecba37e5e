"""Collecting that is killed again and again loses no answer, never passes its budget, and ends with
the rows of a run that was not killed.

With ZEPHYR_FAST_LONG=1: 50 kills instead of 5.
"""

import os
import random
import signal
import time
from pathlib import Path

from answering_server import answering
from collecting import MODELS, endpoints_file, finished, prompts_file, read, started
from faulty_server import FaultyServer, serving
from zephyr_fast.endpoint.log import CallLog

KILLS = 50 if os.environ.get("ZEPHYR_FAST_LONG") else 5
PROMPTS = 8 * KILLS
CONCURRENCY = 4
CAP = PROMPTS * 60_000


def command(server: FaultyServer, folder: Path, out: str) -> list[object]:
    return [
        "feedback", "collect", "--prompts", prompts_file(folder, PROMPTS), "--pool",
        ",".join(MODELS), "--judge", "judge", "--endpoints",
        endpoints_file(folder, server.url, concurrency=CONCURRENCY),
        "--out", folder / out, "--budget-tokens", CAP,
    ]  # fmt: skip


def kill_once(words: list[object], server: FaultyServer, after: int) -> None:
    """Runs until the server has been asked so often once more, then kills."""
    target = len(server.asked) + after
    child = started(words)
    try:
        while len(server.asked) < target and child.poll() is None:
            time.sleep(0.001)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()


def test_kills_lose_nothing_and_the_rows_are_those_of_a_calm_run(tmp_path: Path) -> None:
    draws = random.Random(2)
    with serving(answering(delay=0.0005, ignores_form=5)) as calm:
        words = command(calm, tmp_path, "calm")
        code, _, error = finished(words)
        assert code == 0, error
        calls = len(calm.asked)
    with serving(answering(delay=0.0005, ignores_form=5)) as server:
        words = command(server, tmp_path, "killed")
        log = tmp_path / "killed" / "_log" / "calls.jsonl"
        for _ in range(KILLS):
            kill_once(words, server, after=draws.randint(1, 80))
            with CallLog(log, read_only=True) as found:
                assert (found.spent.tokens or 0) <= CAP
        code, _, error = finished(words)
        assert code == 0, error
        different = len({asked.body for asked in server.asked})
        assert different == calls
        # Six endpoints, each with so many calls in flight.
        assert len(server.asked) - different <= KILLS * 6 * CONCURRENCY
    rows = (tmp_path / "killed" / "rows.jsonl").read_bytes()
    assert rows == (tmp_path / "calm" / "rows.jsonl").read_bytes()
    assert len(read(tmp_path / "calm" / "rows.jsonl")) == PROMPTS
