"""What tests of collecting share: endpoint files, prompts, and the command as a child process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from children import PYTHONPATH
from faulty_server import FaultyServer, kill_once
from zephyr_fast.endpoint.log import CallLog

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


def kill_within_budget(
    words: Sequence[object], server: FaultyServer, log: Path, after: int, cap: int
) -> None:
    """Kills the command once. What its log has spent is not above the cap then."""
    kill_once(lambda: started(words), server, after)
    with CallLog(log, read_only=True) as found:
        assert (found.spent.tokens or 0) <= cap


def finished(words: Sequence[object], timeout: float = 120) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    child = started(words)
    out, error = child.communicate(timeout=timeout)
    return child.returncode, out, error
