"""Runs the command line as a user types it, on rows made for it."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import zephyr_fast

PACKAGE = Path(zephyr_fast.__file__).parents[1]
SAMPLE = ("--input", "sample")


def command(*words: str | Path, **environment: str) -> tuple[list[str], dict[str, str]]:
    offline = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(PACKAGE), "NO_COLOR": "1", "COLUMNS": "200"}
    return [sys.executable, "-m", "zephyr_fast", *map(str, words)], {
        **os.environ,
        **offline,
        **environment,
    }


def shell(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    line, around = command(*words, **environment)
    return subprocess.run(line, env=around, capture_output=True, text=True, check=False)


def refusal(code: int, *words: str | Path, **environment: str) -> str:
    """The one line on stderr of a command that must leave with this code."""
    done = shell(*words, **environment)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (code, "", 1), done.stderr
    assert lines[0].startswith("error: ") and not lines[0].endswith(".")
    return lines[0]


def rows_file(path: Path, count: int, bad: int = 0) -> Path:
    """Dialogues that differ, then lines that are no JSON."""
    chance = random.Random(3)
    said = [
        " ".join(chance.choices(["a", "bread", "cellar", "door", "evening"], k=60))
        for _ in range(count)
    ]
    lines = [
        json.dumps({"data": [f"Question {number}?", text]}) for number, text in enumerate(said)
    ]
    path.write_text("".join(line + "\n" for line in [*lines, *["no row"] * bad]))
    return path
