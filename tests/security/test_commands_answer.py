"""Commands that ask models or read results end at once on files that never would, and on Ctrl-C
and SIGTERM, whatever the server does.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from children import PYTHONPATH
from collecting import endpoints_file, prompts_file, written
from commands_with_files import KINDS
from faulty_server import Asked, serving
from measured import measured
from shell import command, ended_by, popen
from zephyr_fast import ConfigError, InputError

RESIDENT_BYTES_MAX = 3 << 30
"""Libraries of training, and the largest file of annotations that is read before it is refused."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_never_ends_ends_each_command_in_one_line(kind: str, tmp_path: Path) -> None:
    program = Path(__file__).with_name("commands_with_files.py")
    around = os.environ | {
        "PYTHONPATH": os.pathsep.join([PYTHONPATH, *(str(one) for one in _beside())]),
        "HF_HUB_OFFLINE": "1",
    }
    log = tmp_path / "log"
    words = ["sh", "-c", f'exec "$0" "$@" > {log}', sys.executable, program, tmp_path, kind]
    ended = measured([str(one) for one in words], environment=around)
    lines = log.read_text().splitlines()
    assert ended.exit_code == 0 and len(lines) > 40, (lines[-1:], ended.said[-2_000:])
    codes = {str(InputError.exit_code), str(ConfigError.exit_code)}
    assert not [line for line in lines if line.rpartition(": ")[2] not in codes], ended.said
    assert ended.said.count("\n") == len(lines) and "Traceback" not in ended.said
    assert ended.resident_bytes < RESIDENT_BYTES_MAX


def _beside() -> list[Path]:
    tests = Path(__file__).parents[1]
    return [tests / "feedback", tests / "endpoint", tests / "evaluate", tests / "security"]


class Waiting:
    """Answers nothing to every second request, and to the others a byte at a time without end."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._number = 0

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        self._number += 1
        drips = self._number % 2
        if drips:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n")
        self.asked.set()
        while True:
            await asyncio.sleep(0.05)
            if drips:
                writer.write(b" ")
                await writer.drain()


def asking(folder: Path, url: str) -> dict[str, list[object]]:
    """The commands that ask."""
    patient = {f"{name}_seconds": 10**6 for name in ("attempt", "stall", "deadline")}
    endpoints = endpoints_file(folder, url, **patient)
    shared = ["--endpoints", endpoints, "--out", folder / "out"]
    row = {"instruction": "A?", "output": "a", "generator": "g", "dataset": "d"}
    outputs = written(folder / "set.jsonl", [row])
    question = {"question_id": 1, "category": "math", "turns": ["A?", "B?"]}
    questions = written(folder / "questions.jsonl", [question])
    models = ["--answers-from", "alpha", "--judge", "judge", *shared]
    prompts = prompts_file(folder, 20)
    collect = ["feedback", "collect", "--prompts", prompts, "--pool", "alpha,beta"]
    return {
        "check": ["endpoints", endpoints, "--check"],
        "generate": ["generate", "dialogues", "--teacher", "alpha", "--count", 9, *shared],
        "collect": [*collect, "--judge", "judge", *shared],
        "mt-bench": [
            *("evaluate", "mt-bench", "--questions", questions, "--no-references", *models)
        ],
        "alpaca-eval": [
            *("evaluate", "alpaca-eval", "--set", outputs, "--baseline", outputs, *models)
        ],
    }


def started(words: list[object]) -> "subprocess.Popen[str]":
    return popen(*command(*map(str, words)))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["check", "generate", "collect", "mt-bench", "alpaca-eval"])
def test_a_server_that_never_ends_is_left(name: str, sent: signal.Signals, tmp_path: Path) -> None:
    waiting = Waiting()
    with serving(waiting) as server:
        running = started(asking(tmp_path, server.url)[name])
        try:
            while not waiting.asked.wait(0.1):
                assert running.poll() is None, running.communicate()
            said = ended_by(running, sent)
        finally:
            running.kill()
    assert sent is signal.SIGTERM or said.splitlines()[-1].startswith("interrupted")
    assert not list(tmp_path.glob("out/rows.jsonl"))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_reader_of_prompts_is_left_with_its_child(sent: signal.Signals, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.array([f"Question {number}?" for number in range(1_000_000)])
    pq.write_table(pa.table({"prompt": rows}), tmp_path / "p.parquet")
    words = ["feedback", "collect", "--prompts", tmp_path / "p.parquet", "--pool", "alpha,beta"]
    words += ["--judge", "judge", "--out", tmp_path / "out", "--dry-run"]
    running = started([*words, "--endpoints", endpoints_file(tmp_path, "http://127.0.0.1:9/v1")])
    try:
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
        while not (found := children.read_text().split()):
            assert running.poll() is None
        ended_by(running, sent)
    finally:
        running.kill()
    while Path(f"/proc/{found[0]}").exists() and "zombie" not in _state(found[0]):
        pass


def _state(process: str) -> str:
    try:
        return Path(f"/proc/{process}/status").read_text()
    except OSError:
        return "zombie"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_chat_is_left_while_the_model_writes(
    sent: signal.Signals, shards: Path, start: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(start, tmp_path / "model")
    shutil.copytree(shards / "tokenizer", model, dirs_exist_ok=True)
    file = model / "generation_config.json"
    settings = json.loads(file.read_text()) | {"eos_token_id": None, "suppress_tokens": [0, 1, 2]}
    file.write_text(json.dumps(settings))
    running = started(["chat", model, "--max-tokens", 100_000])
    try:
        assert running.stdin and running.stdout
        running.stdin.write("Why?\n")
        running.stdin.flush()
        assert running.stdout.read(1)
        ended_by(running, sent)
    finally:
        running.kill()
