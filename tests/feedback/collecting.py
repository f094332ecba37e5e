"""What tests of collecting share: endpoint files, prompts, and the command as a child process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from children import PYTHONPATH
from faulty_server import FaultyServer

MODELS = ("alpha", "beta", "gamma", "delta", "epsilon")


def endpoints_file(folder: Path, url: str, *, concurrency: int = 8, **changes: Any) -> Path:
    """Five models and a judge behind one server; $1 and $2 for a million tokens."""
    lines = []
    for name in (*MODELS, "judge", "second"):
        fields = {
            "url": url,
            "model": f"{name}-chat",
            "family": name[0],
            "concurrency": concurrency,
            "retry_seconds": 0.01,
            "usd_per_million_input": 1.0,
            "usd_per_million_output": 2.0,
        } | changes
        lines.append(f"[endpoints.{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in fields.items()]
    path = folder / "endpoints.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def prompts_file(folder: Path, count: int, **fields: Any) -> Path:
    """Different prompts of several sources."""
    sources = ("sharegpt", "flan", "evol_instruct", "false_qa", "other")
    rows = [
        {"id": f"p{n}", "source": sources[n % 5], "instruction": f"Question number {n}?"} | fields
        for n in range(count)
    ]
    return written(folder / "prompts.jsonl", rows)


def written(path: Path, rows: Iterable[object]) -> Path:
    """Rows as a JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def started(words: Sequence[object]) -> "subprocess.Popen[str]":
    """The command line in a process."""
    command = [sys.executable, "-m", "zephyr_fast", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def kill_once(words: Sequence[object], server: FaultyServer, after: int) -> None:
    """Runs the command until the server has been asked so often once more, then kills it."""
    target = len(server.asked) + after
    child = started(words)
    try:
        while len(server.asked) < target and child.poll() is None:
            time.sleep(0.001)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()


def finished(words: Sequence[object], timeout: float = 120) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    child = started(words)
    out, error = child.communicate(timeout=timeout)
    return child.returncode, out, error
