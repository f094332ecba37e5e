"""The real command under `kill -9` at random moments, again and again: what is in sight is
whole, and the end is always the same.

`ZEPHYR_FAST_LONG=1` kills 10,000 times; `ZEPHYR_FAST_SEED=n` replays a printed seed, as far as a
clock can.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from faulty import Faulty
from out_folder import files
from shell import command, opened, popen, rows_file

KILLS = 10_000 if os.environ.get("ZEPHYR_FAST_LONG") else 100
SEED = int(os.environ.get("ZEPHYR_FAST_SEED", random.randrange(10**6)))


HANGS = 300
"""Seconds after which a command that was told to end is taken for hanging, on however slow a
machine.
"""


def started(words: list[str | Path], out: Path) -> subprocess.Popen[str]:
    """The command, at the moment at which it has claimed its folder."""
    running = popen(*command(*words, "--out", out))
    while not (out / "_work").exists() and running.poll() is None:
        time.sleep(0.001)
    return running


def test_after_any_number_of_kills_the_end_is_that_of_a_run_that_was_not_killed(
    tmp_path: Path,
) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    rows = rows_file(tmp_path / "rows.jsonl", 1_500, bad=3)
    words: list[str | Path] = [
        "prep",
        "--input",
        rows,
        "--tokenizer",
        "sample",
        "--set",
        "shards.test_fraction=0.3",
    ]
    running = started(words, tmp_path / "whole")
    start = time.monotonic()
    running.communicate()
    seconds = time.monotonic() - start
    wanted = files(tmp_path / "whole")
    assert running.returncode == 0 and "manifest.json" in wanted
    kills = late = 0
    while kills < KILLS:
        out = tmp_path / f"out-{kills}-{late}"
        for _ in range(chance.randint(1, 5)):
            running = started(words, out)
            time.sleep(chance.random() * seconds)
            running.kill()
            running.communicate()
            found = {
                name: content
                for name, content in files(out).items()
                if ".zephyr-draft-" not in name and not name.startswith("_work/")
            }
            assert all(content == wanted[name] for name, content in found.items()), (
                f"seed {SEED}, after kill {kills}"
            )
            assert "manifest.json" not in found or found == wanted, (
                f"seed {SEED}, after kill {kills}"
            )
            if running.returncode == 0:  # too late: the machine is faster than it was
                late, seconds = late + 1, 0.9 * seconds
                break
            kills, seconds = kills + 1, 1.02 * seconds
            assert running.returncode == -signal.SIGKILL
        running = started(words, out)
        told = running.communicate()[1]
        assert running.returncode == 0, told
        assert files(out) == wanted, f"seed {SEED}, after kill {kills}"


@pytest.mark.parametrize("when", [0.0, 0.3, 0.6, 0.9])
def test_ctrl_c_ends_the_command_soon_and_the_next_run_is_exact(
    when: float, tmp_path: Path
) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", 30_000)
    words: list[str | Path] = ["prep", "--input", rows, "--tokenizer", "sample"]
    running = started(words, tmp_path / "whole")
    start = time.monotonic()
    running.communicate()
    seconds = time.monotonic() - start
    running = started(words, tmp_path / "out")
    time.sleep(when * seconds)
    running.send_signal(signal.SIGINT)
    told = running.communicate(timeout=HANGS)[1]
    assert running.returncode in (0, 130), told  # 0: it was done already
    if running.returncode == 130:
        assert told.strip().startswith("interrupted") and not list(
            (tmp_path / "out").rglob(".zephyr-draft-*")
        )
    again = started(words, tmp_path / "out")
    assert again.communicate() and again.returncode == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_ctrl_c_is_answered_while_a_large_input_is_still_digested(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    with rows.open("wb") as file:
        file.truncate(1 << 40)  # all holes: it takes no room, and an hour to read
    words = ["prep", "--input", rows, "--tokenizer", "sample", "--out", tmp_path / "out"]
    running = popen(*command(*words))
    try:
        while rows not in opened(running.pid):
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        told = running.communicate(timeout=HANGS)[1]
    finally:
        running.kill()
    assert (
        running.returncode == 130
        and told.strip().startswith("interrupted")
        and not (tmp_path / "out").exists()
    )


def test_of_runs_that_start_together_one_writes_and_the_others_say_who(tmp_path: Path) -> None:
    # Still being read when the last of them comes.
    rows = rows_file(tmp_path / "rows.jsonl", 40_000)
    words: list[str | Path] = ["prep", "--input", rows, "--tokenizer", "sample"]
    first = started(words, tmp_path / "out")
    others = [started(words, tmp_path / "out") for _ in range(2)]
    told = [other.communicate()[1] for other in others]
    assert first.communicate() and first.returncode == 0
    for other, said in zip(others, told, strict=True):
        is_told_who = other.returncode == 6 and f"is locked by process {first.pid};" in said
        # This one came when the first was done.
        assert is_told_who or (other.returncode == 0 and "nothing to do" in said)
    whole = started(words, tmp_path / "whole")
    assert whole.communicate() and whole.returncode == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_without_the_lock_runs_spoil_each_others_work_but_no_manifest_lies(
    faulty: Faulty, tmp_path: Path
) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", 1_500)
    words: list[str | Path] = ["prep", "--input", rows, "--tokenizer", "sample"]
    whole = started(words, tmp_path / "whole")
    assert whole.communicate() and whole.returncode == 0
    wanted, codes = files(tmp_path / "whole"), set()
    for number in range(60):
        if number >= 6 and codes - {0}:  # whether two meet is chance
            break
        out = tmp_path / f"out-{number}"
        around = {
            "PYTHONPATH": str(faulty.package),
            "ZEPHYR_FAST_SABOTAGE": "no_lock",
            "ZEPHYR_FAST_DELAYS": "1",
        }
        line, environment = command(*words, "--out", out, **around)
        runs = [
            subprocess.Popen(
                line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        told = [run.communicate()[1] for run in runs]
        codes |= {run.returncode for run in runs}
        found = {
            name: content
            for name, content in files(out).items()
            if ".zephyr-draft-" not in name and not name.startswith("_work/")
        }
        assert "manifest.json" not in found or found == wanted, told
        last = started(words, out)
        assert last.communicate() and last.returncode == 0
        assert files(out) == wanted
    assert codes - {0} and codes <= {0, 6, 8}, "some must have met"
