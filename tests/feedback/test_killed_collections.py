"""Collecting that is killed again and again loses no answer, never passes its budget, and ends with
the rows of a run that was not killed.

With ZEPHYR_FAST_LONG=1: 50 kills instead of 5.
"""

import os
import random
from pathlib import Path

from answering_server import answering
from collecting import MODELS, endpoints_file, finished, kill_within_budget, prompts_file, read
from faulty_server import FaultyServer, serving
from zephyr_fast.endpoint.errors import BudgetError
from zephyr_fast.endpoint.log import CallLog

KILLS = 50 if os.environ.get("ZEPHYR_FAST_LONG") else 5
PROMPTS = 8 * KILLS
CONCURRENCY = 4
CAP = PROMPTS * 60_000


def command(server: FaultyServer, folder: Path, out: str, cap: int = CAP) -> list[object]:
    return [
        "feedback", "collect", "--prompts", prompts_file(folder, PROMPTS), "--pool",
        ",".join(MODELS), "--judge", "judge", "--endpoints",
        endpoints_file(folder, server.url, concurrency=CONCURRENCY),
        "--out", folder / out, "--budget-tokens", cap,
    ]  # fmt: skip


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
            kill_within_budget(words, server, log, draws.randint(1, 80), CAP)
        code, _, error = finished(words)
        assert code == 0, error
        different = len({asked.body for asked in server.asked})
        assert different == calls
        # Six endpoints, each with so many calls in flight.
        assert len(server.asked) - different <= KILLS * 6 * CONCURRENCY
    rows = (tmp_path / "killed" / "rows.jsonl").read_bytes()
    assert rows == (tmp_path / "calm" / "rows.jsonl").read_bytes()
    assert len(read(tmp_path / "calm" / "rows.jsonl")) == PROMPTS


def test_a_tight_budget_holds_over_kills_and_a_higher_one_continues(tmp_path: Path) -> None:
    cap = CAP // 30  # more than one call may take, and less than all take
    log = tmp_path / "killed" / "_log" / "calls.jsonl"
    with serving(answering(delay=0.0005)) as server:
        words = command(server, tmp_path, "killed", cap)
        for after in (5, 20, 40):
            kill_within_budget(words, server, log, after, cap)
        code, _, error = finished(words)
        assert code == BudgetError.exit_code and "raise the limit" in error
        assert not (tmp_path / "killed" / "rows.jsonl").exists()
        with CallLog(log, read_only=True) as found:
            assert (found.spent.tokens or 0) <= cap
        code, _, error = finished(command(server, tmp_path, "killed"))
        assert code == 0, error
        code, _, error = finished(command(server, tmp_path, "calm"))
        assert code == 0, error
    rows = (tmp_path / "killed" / "rows.jsonl").read_bytes()
    assert rows == (tmp_path / "calm" / "rows.jsonl").read_bytes()
