"""The small model server does what it says: n, seeds, log-probs, batches. With a tiny random model;
with ZEPHYR_FAST_CHAT_MODEL=DIR also feedback of a real one.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asking import call, endpoint_at, run
from children import PYTHONPATH
from collecting import endpoints_file, finished, prompts_file, read
from zephyr_fast.endpoint.call import Answer

ROOT = Path(__file__).parents[2]
CHAT_MODEL = os.environ.get("ZEPHYR_FAST_CHAT_MODEL")


@contextmanager
def served(model: Path, names: tuple[str, ...]) -> Iterator[str]:
    """The base URL of a server with the model under some names, while the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [option for name in names for option in ("--model", f"{name}={model}")]
    child = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "scripts" / "model_server.py"),
            *words,
            "--port",
            str(port),
            "--max-tokens",
            "64",
        ],
        env=os.environ | {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/v1"
    try:
        while child.poll() is None:
            try:
                urllib.request.urlopen(f"{url}/models", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        assert child.poll() is None, "the server ended"
        yield url
    finally:
        child.terminate()
        child.wait()


@pytest.fixture(scope="module")
def tiny(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled model with random weights, its tokenizer and a short chat template."""
    folder = tmp_path_factory.mktemp("served") / "model"
    shutil.copytree(start, folder)
    for file in (ROOT / "python" / "zephyr_fast" / "sample" / "tokenizer").iterdir():
        shutil.copy(file, folder / file.name)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["chat_template"] = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def answer(url: str, log: Path, **changes: Any) -> Answer:
    fields = {"max_tokens": 8, "temperature": 1.0} | changes
    _, (found,) = run([call(**fields)], endpoint_at(url, model="tiny"), log)
    assert isinstance(found, Answer)
    return found


def test_the_server_honors_every_part_of_a_request(tiny: Path, tmp_path: Path) -> None:
    with served(tiny, ("tiny",)) as url:
        one, same, other = (
            answer(url, tmp_path / f"{number}", seed=seed, sample=number).text
            for number, seed in enumerate((1, 1, 2))
        )
        assert one == same != other
        longest = answer(url, tmp_path / "long", max_tokens=500, seed=1)
        assert longest.usage and longest.usage.output_tokens <= 64 and longest.choices[0].is_cut
        several = answer(url, tmp_path / "n", n=3)
        assert len({choice.text for choice in several.choices}) == 3
        free = {answer(url, tmp_path / f"free{n}", sample=n).text for n in range(3)}
        assert len(free) == 3, "without a seed, equal requests differ"
        (choice,) = answer(url, tmp_path / "top", top_logprobs=5, temperature=0.0).choices
        assert choice.logprobs is not None and len(choice.logprobs) == 8 and choice.is_cut
        for token in choice.logprobs:
            assert len(token.top) == 5 and token.top[0] == (token.token, token.logprob)
        # Texts of different lengths in one batch are those that each has alone.
        asked = [call("word " * n, max_tokens=6, temperature=0.0) for n in (1, 9, 30)]
        endpoint = endpoint_at(url, model="tiny")
        _, together = run(asked, endpoint, tmp_path / "together")
        alone = [run([one], endpoint, tmp_path / f"alone{n}")[1][0] for n, one in enumerate(asked)]
        assert [found.text for found in together if isinstance(found, Answer)] == [
            found.text for found in alone if isinstance(found, Answer)
        ]


def test_the_server_ends_with_its_input(tiny: Path) -> None:
    words = ["--model", f"tiny={tiny}", "--port", "0", "--until-eof"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "model_server.py"), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not CHAT_MODEL, reason="set ZEPHYR_FAST_CHAT_MODEL to a chat model's directory")
def test_every_answer_of_a_real_judge_has_a_verdict_or_a_reason(tmp_path: Path) -> None:
    names = ("alpha-chat", "judge-chat")
    with served(Path(str(CHAT_MODEL)), names) as url:
        for method, words in (("expected", ("--mass-min", 0.02)), ("text", ())):
            code, _, error = finished(
                ["feedback", "collect", "--prompts", prompts_file(tmp_path, 2), "--student",
                 "alpha", "--samples", 2, "--judge", "judge", "--verdict", method, *words,
                 "--max-tokens", 24, "--endpoints", endpoints_file(tmp_path, url), "--out",
                 tmp_path / method, *(("--judge-max-tokens", 64) if method == "text" else ())],
                timeout=900,
            )  # fmt: skip
            # A small model writes no verdict that can be read, so no row may be usable by `text`.
            assert code == 0 or (method, code) == ("text", 3), error
            for row in read(tmp_path / method / "rows.jsonl"):
                for verdict in row["_provenance"]["verdicts"]:
                    faults = verdict.get("faults", [None] * len(verdict["order"]))
                    for score, fault in zip(verdict["scores"], faults, strict=True):
                        assert (score is None) == (fault is not None)
