"""`transformers serve` as a server that is only almost compatible, with a small real model.

It needs fastapi, uvicorn and openai, which nothing else here does: set ZEPHYR_FAST_SERVE to a
directory of packages with them, and ZEPHYR_FAST_CHAT_MODEL to the directory of the model.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from asking import call, endpoint_at, run
from children import PYTHONPATH
from collecting import finished, read
from zephyr_fast.endpoint.call import Answer
from zephyr_fast.endpoint.probe import check

SERVE = os.environ.get("ZEPHYR_FAST_SERVE", "")
MODEL = os.environ.get("ZEPHYR_FAST_CHAT_MODEL", "")
pytestmark = pytest.mark.skipif(
    not Path(SERVE, "fastapi").is_dir() or not MODEL,
    reason="set ZEPHYR_FAST_SERVE to a directory of packages with fastapi, uvicorn and openai, "
    "and ZEPHYR_FAST_CHAT_MODEL to a chat model's directory",
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The base URL of the server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "import sys; from transformers.cli.transformers import main; main()"
    words = ["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    child = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env=os.environ
        | {"PYTHONPATH": f"{PYTHONPATH}:{SERVE}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while child.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        assert child.poll() is None, "the server ended"
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        child.terminate()
        child.wait()


def test_an_answer_comes_from_the_model(url: str, tmp_path: Path) -> None:
    _, (found,) = run([call(max_tokens=8)], endpoint_at(url, model=MODEL), tmp_path / "log")
    assert isinstance(found, Answer) and found.usage is not None
    assert found.usage.output_tokens <= 8


def test_what_it_ignores_is_found_and_nothing_absent_is_read(url: str, tmp_path: Path) -> None:
    verdicts = {one.feature: one.verdict for one in check(endpoint_at(url, model=MODEL))}
    assert verdicts["answers"] != "no" and verdicts["usage"] == "yes"
    assert (verdicts["n"], verdicts["logprobs"]) == ("no", "no")
    report, outcomes = run(
        [call(max_tokens=4, top_logprobs=5)], endpoint_at(url, model=MODEL), tmp_path / "log"
    )
    assert outcomes == [None] and report.off["teacher"].reason == "unsupported_logprobs"


def test_dialogues_are_generated_and_another_model_is_refused_by_name(
    url: str, tmp_path: Path
) -> None:
    for name, wanted in ((MODEL, 0), ("nobody/nothing", 11)):
        file = tmp_path / f"{wanted}.toml"
        file.write_text(
            f'[endpoints.tiny]\nurl = "{url}"\nmodel = "{name}"\nretry_seconds = 0.01\n'
            "attempts = 2\n",
            encoding="utf-8",
        )
        out = tmp_path / f"out-{wanted}"
        words = ["generate", "dialogues", "--teacher", "tiny", "--count", 2, "--rounds", "1-1"]
        words += ["--max-tokens", 8, "--user-max-tokens", 8, "--keep-cut"]
        code, _, error = finished([*words, "--endpoints", file, "--out", out], timeout=600)
        assert code == wanted, error
    assert any(row["data"] for row in read(tmp_path / "out-0" / "rows.jsonl"))
