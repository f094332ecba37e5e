"""Runs the command line as a user types it, on rows made for it."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import zephyr_fast

PACKAGE = Path(zephyr_fast.__file__).parents[1]
SAMPLE = ("--input", "sample")
HANGS_SECONDS = 600
"""A hang is told from a slow machine."""


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


def popen(line: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """A program with Ctrl-C on, which a shell turns off for what it runs in the background."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        line, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True, preexec_fn=_listen
    )


def opened(process: int) -> set[Path]:
    """The files that a process has open."""
    found = set()
    for handle in Path(f"/proc/{process}/fd").iterdir():
        try:
            found.add(handle.readlink())
        except OSError:  # closed meanwhile
            continue
    return found


def ended_by(running: subprocess.Popen[str], sent: signal.Signals) -> str:
    """Sends the signal to a command, which must end by it, and returns its last words."""
    running.send_signal(sent)
    _, said = running.communicate(timeout=HANGS_SECONDS)
    # Python ends itself by SIGINT if the signal came while a package ran `exec` on a text.
    codes = {signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (-signal.SIGTERM,)}
    assert running.returncode in codes[sent], (running.returncode, said)
    assert "Traceback" not in said
    return said


def _listen() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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
