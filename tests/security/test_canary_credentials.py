"""Canary credentials in the environment, in key files and in URLs: whatever a server echoes and
whatever a user mistypes, no command prints them or writes them to a file.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from answering_server import completion as feedback_completion
from children import PYTHONPATH
from collecting import prompts_file, written
from faulty_server import Action, Asked, answered, raw, refused, serving
from hostile_server import HostileServer

KEY, FILE_KEY, HUB = "sk-canary-5f2a91c0d7e8", "fk-canary-77b3d9aa10", "hf_canary0a1b2c3d4e5f"
USER, PASSWORD, SIGNATURE = "canaryuser", "canarypass", "canarysignature"
CANARIES = [KEY[:-2], FILE_KEY[:-2], HUB[:-2], USER, PASSWORD, SIGNATURE, "Y2FuYXJ5dXNlcjpjYW5hcnl"]
"""The ends are missing, so that a cut key is found as well."""

SECRETS = {
    "CANARY_KEY": KEY,
    "OPENAI_API_KEY": KEY,
    "HF_TOKEN": HUB,
    "AWS_SECRET_ACCESS_KEY": KEY,
    "ZEPHYR_FAST_TRACEBACK": "1",
    "PYTHONASYNCIODEBUG": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": PYTHONPATH,
}


def run(folder: Path, *words: object) -> "subprocess.CompletedProcess[str]":
    """A command with every secret in its environment; nothing that it prints has one."""
    around = os.environ | SECRETS | {"TMPDIR": str(folder), "ZEPHYR_FAST_CACHE": str(folder / "c")}
    line = [sys.executable, "-X", "dev", "-m", "zephyr_fast", *map(str, words)]
    done = subprocess.run(line, env=around, capture_output=True, text=True, check=False, input="")
    assert_none("output", done.stdout + done.stderr)
    return done


def assert_none(where: str, text: str) -> None:
    assert not [one for one in CANARIES if one in text], (where, text[:3_000])


def assert_none_in_files(folder: Path, but: Sequence[str] = ("key",)) -> None:
    for path in folder.rglob("*"):
        assert_none("name", path.name)
        if path.is_file() and path.name not in but:
            assert_none(str(path), path.read_bytes().decode("latin-1"))


def told(echo: Callable[[str], bytes]) -> Action:
    """Answers with what the request has as its key."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(echo(asked.headers["authorization"].removeprefix("Bearer ")))
        await writer.drain()
        return True

    return answer


def good(**changes: Any) -> Action:
    """A good answer of a model or a judge, with these texts changed, where `{}` is the key."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        key = asked.headers["authorization"].removeprefix("Bearer ")
        fields = feedback_completion(asked.fields)
        prompt = asked.fields["messages"][-1]["content"]
        if "[[" in prompt:
            fields["choices"][0]["message"]["content"] = "Rating: [[5]] [[A]]"
        fields |= {name: text.format(key) for name, text in changes.items() if name != "content"}
        if "content" in changes:
            fields["choices"][0]["message"]["content"] += changes["content"].format(key)
        writer.write(answered(fields))
        await writer.drain()
        return True

    return answer


SERVERS: dict[str, Action] = {
    "400": told(lambda key: refused("400 Bad", f"bad key {key}")),
    "401": told(lambda key: refused("401 Unauthorized", f"bad key {key}")),
    "503": told(lambda key: refused("503 Busy", key, f"Retry-After: {key}", type=key)),
    "500": told(lambda key: raw("500 Oops", b"x" * (2_000 - len(key) + 2) + key.encode())),
    "status": told(lambda key: raw(f"500 {key}", b"")),
    "redirect": told(lambda key: raw("302 Found", b"", f"Location: http://127.0.0.1:9/?k={key}")),
    "broken": told(lambda key: raw("200 OK", b'{"' + key.encode())),
    "no HTTP": told(lambda key: f"{key} {key}\r\n{key}\r\n\r\n".encode()),
    "answer": good(content=" {}"),
    "model": good(model="m{}"),
    "fingerprint": good(system_fingerprint="{}"),
    "good": good(),
}


def endpoints_file(folder: Path, url: str) -> Path:
    """Two endpoints with a key, of the environment and of a file."""
    (folder / "key").write_text(FILE_KEY + "\n")
    text = ""
    for name, key in (("one", 'key_env="CANARY_KEY"'), ("two", 'key_file="key"')):
        text += f'[endpoints.{name}]\nurl="{url}"\nmodel="{name}-chat"\n{key}\nattempts=2\n'
        text += "retry_seconds=0.01\ndeadline_seconds=9\nattempt_seconds=9\n"
    (folder / "endpoints.toml").write_text(text)
    return folder / "endpoints.toml"


def commands(folder: Path, endpoints: Path) -> dict[str, list[object]]:
    """Every command that sends a key, and those that read what it wrote."""
    questions = [{"question_id": n, "category": "writing", "turns": ["A?", "B?"]} for n in (1, 2)]
    asked = written(folder / "questions.jsonl", questions)
    base = [{"instruction": "A?", "output": "a", "generator": "g", "dataset": "d"}]
    outputs = written(folder / "set.jsonl", base)
    shared = ["--endpoints", endpoints]
    models = ["--answers-from", "one", "--judge", "two", *shared, "--allow-holes"]
    collect = ["feedback", "collect", "--prompts", prompts_file(folder, 2), "--pool", "one,two"]
    generate = ["generate", "dialogues", "--teacher", "one", "--user-model", "two", "--count", 1]
    mt = ["evaluate", "mt-bench", "--questions", asked, "--no-references", *models]
    alpaca = ["evaluate", "alpaca-eval", "--set", outputs, "--baseline", outputs, *models]
    results = [folder / "mt" / "results" / "two.json"]
    return {
        "check": ["endpoints", endpoints, "--check"],
        "list": ["endpoints", endpoints, "--json"],
        "collect": [*collect, "--judge", "two", *shared, "--out", folder / "collected"],
        "accept": [
            *collect,
            "--judge",
            "two",
            *shared,
            "--out",
            folder / "ac",
            "--accept-failures",
        ],
        "report": ["feedback", "report", folder / "ac", "--html", folder / "report.html"],
        "generate": [*generate, *shared, "--out", folder / "generated", "--accept-failures"],
        "mt": [*mt, "--out", folder / "mt", "--accept-failures"],
        "alpaca": [*alpaca, "--out", folder / "alpaca", "--accept-failures", "--json"],
        "compare": ["compare", *results, folder / "alpaca" / "results" / "two.json"],
        "radar": ["radar", *results, "--out", folder / "radar.png"],
    }


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_echoes_the_key_gets_it_into_nothing(name: str, tmp_path: Path) -> None:
    with serving(SERVERS[name]) as server:
        server.models = {"data": [{"id": f"x{KEY}"}, {"id": FILE_KEY}]}
        codes = {}
        for title, words in commands(tmp_path, endpoints_file(tmp_path, server.url)).items():
            codes[title] = run(tmp_path, *words).returncode
        keys = {asked.headers["authorization"] for asked in server.asked}
    assert keys == {f"Bearer {KEY}", f"Bearer {FILE_KEY}"}, codes
    assert codes["list"] == 0 and 70 not in codes.values() and 1 not in codes.values(), codes
    if name == "good":
        assert {code for title, code in codes.items() if title != "radar"} == {0}, codes
    assert_none_in_files(tmp_path)


MISTYPED = {
    "key as its name": f'key_env="{KEY}"',
    "key of the Hub as its name": f'key_env="{HUB}"',
    "key as a file": f'key_file="{KEY}"',
    "an unknown field": f'key="{KEY}"',
    "two": f'key_env="{KEY}"\nkey_file="{KEY}"',
    "a number": f'key_env=["{KEY}"]',
    "no TOML": f"key_env={KEY}",
    "an open quote": f'key_env="{KEY}',
    "a control character": f'key_env="{KEY}\\u0007"',
}


@pytest.mark.parametrize("name", MISTYPED)
def test_a_key_at_the_wrong_place_is_not_repeated(name: str, tmp_path: Path) -> None:
    file = tmp_path / "endpoints.toml"
    file.write_text(f'[endpoints.one]\nurl="https://a.example/v1"\nmodel="m"\n{MISTYPED[name]}\n')
    for more in ([], ["--check"], ["--json"]):
        assert run(tmp_path, "endpoints", file, *more).returncode == 4
    words = ["generate", "dialogues", "--teacher", "one", "--count", "1", "--endpoints", file]
    assert run(tmp_path, *words, "--out", tmp_path / "out").returncode == 4


def test_a_url_with_secrets_is_not_repeated_by_any_command(
    server: HostileServer, tmp_path: Path, start: Path
) -> None:
    url = f"{server.url.replace('://', f'://{USER}:{PASSWORD}@')}/x.jsonl?sig={SIGNATURE}"
    one = json.dumps({"messages": [{"role": "user", "content": "Why?"}]})
    server.files["/x.jsonl"] = (one + "\n").encode()
    out = ["--out", tmp_path / "out"]
    sample = ["--input", "sample", *out]
    given = ["--input", url, "--tokenizer", "sample", *out]
    model = ["--model_name_or_path", start, "--output_dir", tmp_path / "trained"]
    (tmp_path / "e.toml").write_text(f'[endpoints.a]\nurl="{url}"\nmodel="m"\n')
    commands: list[list[object]] = [
        ["prep", *given],
        ["binarize", *given],
        ["prep", *given, "--dry-run"],
        ["prep", *sample, "--tokenizer", url],
        ["prep", *sample, "--decontaminate", f"x={url}:q"],
        ["prep", *sample, "--set", f'template.name="{url}"'],
        ["prep", url, *sample],
        ["prep", "--input", "sample", "--out", url, "--set", "seed=x"],
        ["train", "sft", "--shards", url, *model],
        ["train", "sft", "--shards", tmp_path / "none", "--model_name_or_path", url],
        ["train", "sft", "--config", url],
        ["train", "sft", "--shards", url, *model, "--teacher", url],
        ["ref-logprobs", url, "--model", start],
        ["estimate", url, "--config", "tiny-sft"],
        ["verify", url],
        ["chat", url],
        ["merge", url, tmp_path / "merged"],
        ["recipe", "show", url],
        ["endpoints", tmp_path / "e.toml"],
        ["endpoints", url],
        ["compare", url],
        ["radar", url, "--out", tmp_path / "r.png"],
        ["feedback", "report", url],
        ["feedback", "collect", "--prompts", url, "--judge", "a", "--endpoints", url, *out],
        ["generate", "dialogues", "--teacher", "a", "--count", "1", "--endpoints", url, *out],
        ["evaluate", "score", url, "--out", tmp_path / "s.json"],
        ["evaluate", "leaderboard", "--model", url, "--tasks", "a", *out],
    ]
    for words in commands:
        done = run(tmp_path, *words)
        assert done.returncode not in (1, 70), (words, done)
    assert any("sig=" in path for path in server.asked)
    assert_none_in_files(tmp_path, ["e.toml"])
