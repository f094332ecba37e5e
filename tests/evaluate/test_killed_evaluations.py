"""MT-Bench that is killed again and again asks twice only what was in flight, never passes its
budget, and ends with the files of a run that was not killed.

With ZEPHYR_FAST_LONG=1: 50 kills instead of 3.
"""

import os
import random
from pathlib import Path

from collecting import finished, kill_within_budget
from faulty_server import FaultyServer, serving
from judging_server import endpoints_file, judging, written
from zephyr_fast.evaluate.mt_bench import TEMPERATURES

KILLS = 50 if os.environ.get("ZEPHYR_FAST_LONG") else 3
QUESTIONS = 8 * KILLS
CONCURRENCY = 16
CAP = KILLS * CONCURRENCY * 4_000 + QUESTIONS * 4 * 1_000


def command(server: FaultyServer, folder: Path, out: str) -> list[object]:
    categories = tuple(TEMPERATURES)
    questions = [
        {
            "question_id": n,
            "category": categories[n % len(categories)],
            "turns": [f"First {n}?", f"Then {n}?"],
        }
        for n in range(QUESTIONS)
    ]
    return [
        "evaluate", "mt-bench", "--questions", written(folder / "questions.jsonl", questions),
        "--no-references", "--answers-from", "student", "--judge", "judge", "--endpoints",
        endpoints_file(folder, server.url), "--out", folder / out, "--budget-tokens", CAP,
    ]  # fmt: skip


def files_of(words: list[object], out: Path) -> dict[str, bytes]:
    """The files of a run that began in 2001, whose time they contain."""
    os.utime(out / "_log" / "settings.json", (1_000_000_000, 1_000_000_000))
    code, _, error = finished(words)
    assert code == 0, error
    names = ("model_answer/*", "model_judgment/*", "results/*")
    return {path.name: path.read_bytes() for name in names for path in out.glob(name)}


def test_kills_lose_nothing_and_the_files_are_those_of_a_calm_run(tmp_path: Path) -> None:
    draws = random.Random(3)
    with serving(judging()) as calm:
        words = command(calm, tmp_path, "calm")
        assert finished(words)[0] == 0
        expected = files_of(words, tmp_path / "calm")
        assert len(calm.asked) == 4 * QUESTIONS
    with serving(judging()) as server:
        words = command(server, tmp_path, "killed")
        log = tmp_path / "killed" / "_log" / "calls.jsonl"
        for _ in range(KILLS):
            kill_within_budget(words, server, log, draws.randint(1, 30), CAP)
        code, _, error = finished(words)
        assert code == 0, error
        sent, different = len(server.asked), len({asked.body for asked in server.asked})
        assert files_of(words, tmp_path / "killed") == expected and len(expected) == 3
        assert len(server.asked) == sent, "a rerun sends none"
    assert different == 4 * QUESTIONS and sent - different <= KILLS * CONCURRENCY
