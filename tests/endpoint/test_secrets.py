"""An API key is in no file, output, error or traceback; files of endpoints are read strictly."""

import json
import logging
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from click.testing import CliRunner

from asking import call, endpoint_at, run
from children import PYTHONPATH
from faulty_server import GOOD, Action, answered, completion, raw, refused, serving
from zephyr_fast._core import InputError
from zephyr_fast.cli import cli
from zephyr_fast.endpoint.call import Failure
from zephyr_fast.endpoint.endpoints import described, load
from zephyr_fast.endpoint.secret import Secret

CANARY = "sk-canary-5f2a91c0d7"

FILE = """
[endpoints.teacher]
url = "{url}"
model = "large-chat"
key_env = "CANARY_KEY"
attempts = 2
retry_seconds = 0.01
deadline_seconds = 5
attempt_seconds = 2
"""


def with_logprobs(token: str, other: str) -> Action:
    held = completion("fine")
    top = [{"token": other, "logprob": -1.0}]
    held["choices"][0]["logprobs"] = {
        "content": [{"token": token, "logprob": -0.5, "top_logprobs": top}]
    }
    return answered(held)


CUT = CANARY[:-1]
"""What is left of the key if a text is cut within it."""

ECHOES: dict[str, Action] = {
    "an answer": answered(completion(f"your key is {CANARY}")),
    "an error": refused("400 Bad", f"bad key {CANARY}"),
    "an error of the key": refused("401 Unauthorized", f"bad key {CANARY}"),
    "html": raw("500 Oops", f"<p>{CANARY}</p>".encode()),
    "broken JSON": raw("200 OK", f'{{"{CANARY}'.encode()),
    "a header": raw("200 OK", b"{}", f"X-Key: {CANARY}", "X-Long: " + "x" * 20_000),
    "a fingerprint": answered(completion() | {"system_fingerprint": CANARY}),
    "a log-prob's token": with_logprobs(CANARY, "fine"),
    "a token's alternative": with_logprobs("fine", CANARY),
    "an encoding": raw("200 OK", b"{}", f"Content-Encoding: {CANARY}"),
    "a model of the list": refused("404 Not Found", "no such model"),
    "a long error": raw("500 Oops", b"x" * (2_000 - len(CUT)) + CANARY.encode()),
    "long broken JSON": raw("200 OK", b"<" * (200 - len(CUT)) + CANARY.encode()),
    "a long name": answered(completion(model="m" * (200 - len(CUT)) + CANARY)),
    "a good answer": GOOD,
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_a_key_that_the_server_echoes_is_written_nowhere(tmp_path: Path, echo: Action) -> None:
    with serving(echo) as server:
        listed = [CANARY, "m" * (100 - len(CUT)) + CANARY]
        server.models = {"data": [{"id": name} for name in listed]}
        (tmp_path / "endpoints.toml").write_text(FILE.format(url=server.url))
        words = ["endpoints", str(tmp_path / "endpoints.toml"), "--check"]
        environment = {
            "CANARY_KEY": CANARY,
            "PYTHONPATH": PYTHONPATH,
            "PYTHONASYNCIODEBUG": "1",
            "ZEPHYR_FAST_TRACEBACK": "1",
            "TMPDIR": str(tmp_path),
        }
        ended = subprocess.run(
            [sys.executable, "-X", "dev", "-m", "zephyr_fast", *words],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | environment,
        )
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {CANARY}"}
        endpoint = endpoint_at(server.url, key=Secret(CANARY), attempts=2, retry_seconds=0.01)
        run([call()], endpoint, tmp_path / "calls.jsonl")
        run([call(top_logprobs=1)], endpoint, tmp_path / "logprobs.jsonl")
    assert ended.returncode in (0, 11), ended.stderr
    assert CUT not in ended.stdout + ended.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3 and not [f for f in files if CUT.encode() in f.read_bytes()]


def test_a_key_in_an_answer_is_a_failure_and_not_cut_out(tmp_path: Path) -> None:
    with serving(ECHOES["an answer"]) as server:
        endpoint = endpoint_at(server.url, key=Secret(CANARY))
        report, outcomes = run([call()], endpoint, tmp_path / "log")
    assert outcomes == [None] and report.counts.left_open == {"key_echoed": 1}


def test_a_placeholder_is_no_secret(tmp_path: Path) -> None:
    with serving(answered(completion("the box is EMPTY"))) as server:
        _, (outcome,) = run([call()], endpoint_at(server.url, key=Secret("EMPTY")), tmp_path / "l")
    assert outcome is not None and not isinstance(outcome, Failure)
    assert outcome.text == "the box is EMPTY"


def test_no_text_of_an_endpoint_shows_its_key(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = endpoint_at("http://127.0.0.1:9/v1", key=Secret(CANARY))
    with caplog.at_level(logging.DEBUG):
        logging.getLogger().debug("%r %s", endpoint, endpoint)
    try:
        raise ValueError(endpoint)
    except ValueError:
        shown = traceback.format_exc()
    assert CANARY not in caplog.text + shown + repr(described(endpoint))
    with pytest.raises(TypeError):
        pickle.dumps(endpoint)


BAD_FILES = {
    "no table": ("", "has no `[endpoints.NAME]` table"),
    "not TOML": ("[", "endpoints.toml"),
    "unknown table": ("[other]\n", "unknown key `other`; known: endpoints"),
    "unknown key": ('[endpoints.a]\nurl="http://a"\nmodle="m"\n', "unknown key `modle`; known: at"),
    "no url": ('[endpoints.a]\nmodel="m"\n', "endpoint `a` has no `url`"),
    "user in url": ('[endpoints.a]\nurl="http://u:pass-word@a"\nmodel="m"\n', "no user, query"),
    "query in url": ('[endpoints.a]\nurl="http://a/?key=sesame12"\nmodel="m"\n', "no user, query"),
    "file url": ('[endpoints.a]\nurl="file:///etc"\nmodel="m"\n', "begins with http://"),
    "space in url": ('[endpoints.a]\nurl="http://a b"\nmodel="m"\n', "`url` has spaces"),
    "line end in url": ('[endpoints.a]\nurl="http://a\\nb"\nmodel="m"\n', "`url` has spaces"),
    "escape in url": ('[endpoints.a]\nurl="http://a\\u001b"\nmodel="m"\n', "`url` has spaces"),
    "another field for max_tokens": (
        '[endpoints.a]\nurl="http://a"\nmodel="m"\nmax_tokens_field="n"\n',
        "`max_tokens_field` is one of max_tokens, max_completion_tokens",
    ),
    "half a price": (
        '[endpoints.a]\nurl="http://a"\nmodel="m"\nusd_per_million_input=1\n',
        "needs both prices",
    ),
    "zero": ('[endpoints.a]\nurl="http://a"\nmodel="m"\nconcurrency=0\n', "at least 1"),
    "true": ('[endpoints.a]\nurl="http://a"\nmodel="m"\nattempts=true\n', "whole number"),
    "nan": ('[endpoints.a]\nurl="http://a"\nmodel="m"\ndeadline_seconds=nan\n', "is a number"),
    "unset key": ('[endpoints.a]\nurl="https://a"\nmodel="m"\nkey_env="NOT_SET"\n', "`NOT_SET` is"),
    "no key file": (
        '[endpoints.a]\nurl="https://a"\nmodel="m"\nkey_file="gone"\n',
        "cannot read an",
    ),
    "hostile name": ('[endpoints."a\\u001b"]\nurl="http://a"\nmodel="m"\n', "a name has letters"),
}


@pytest.mark.parametrize(("text", "says"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "endpoints.toml"
    path.write_text(text)
    with pytest.raises(InputError) as refused_file:
        load(path)
    message = str(refused_file.value)
    assert says in message and "pass-word" not in message and "sesame12" not in message


HIDING = ["https://a/v1", "http://127.0.0.1:8000/v1", "http://[::1]:8000", "HTTP://localhost/v1"]
OPEN = [
    "http://evil.example",
    "http://127.0.0.1.evil.example",
    "http://10.0.0.5",
    "HTTP://localhos",
]


@pytest.mark.parametrize("url", HIDING + OPEN)
@pytest.mark.parametrize("key", ['key_env="A_KEY"', 'key_file="key"'])
def test_a_key_is_sent_only_where_nobody_on_the_way_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, key: str
) -> None:
    monkeypatch.setenv("A_KEY", CANARY)
    (tmp_path / "key").write_text(CANARY)
    (tmp_path / "e.toml").write_text(f'[endpoints.a]\nurl="{url}"\nmodel="m"\n{key}\n')
    if url in HIDING:
        assert load(tmp_path / "e.toml")["a"].key is not None
        return
    with pytest.raises(InputError, match="a key is not sent over http://"):
        load(tmp_path / "e.toml")


NOT_IN_BODY = ["model", "messages", "n", "best_of", "stream", "logprobs", "top_logprobs"]


@pytest.mark.parametrize("field", [*NOT_IN_BODY, "max_tokens", "max_completion_tokens"])
def test_a_body_cannot_change_what_a_call_costs_or_returns(tmp_path: Path, field: str) -> None:
    (tmp_path / "e.toml").write_text(
        f'[endpoints.a]\nurl="http://a"\nmodel="m"\nbody={{{field}=8}}\n'
    )
    with pytest.raises(InputError, match=f"`body` may not set `{field}`"):
        load(tmp_path / "e.toml")


def test_the_source_of_a_key_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY_KEY", CANARY)
    (tmp_path / "e.toml").write_text(FILE.format(url="https://a/v1"))
    words = ["endpoints", str(tmp_path / "e.toml")]
    listed = CliRunner().invoke(cli, words, catch_exceptions=False).output
    assert "with the key from the environment variable `CANARY_KEY`" in listed
    (shown,) = json.loads(CliRunner().invoke(cli, [*words, "--json"]).output)
    assert shown["key"] is True and "`CANARY_KEY`" in shown["key_source"]
    assert CANARY not in listed + str(shown)


def test_a_file_is_read_with_its_key_and_exact_prices(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{CANARY}\n")
    (tmp_path / "endpoints.toml").write_text(
        '[endpoints.a]\nurl="https://a/v1/chat/completions"\nmodel="m"\nkey_file="key"\n'
        "usd_per_million_input=0.15\nusd_per_million_output=10\n[endpoints.a.body]\ntop_k=5\n"
    )
    (endpoint,) = load(tmp_path / "endpoints.toml").values()
    assert endpoint.key is not None and endpoint.key.reveal() == CANARY
    assert endpoint.url == "https://a/v1" and endpoint.nanousd(1_000_000, 1) == 150_010_000
    assert endpoint.body == {"top_k": 5}
