"""`zephyr-fast endpoints FILE`: what servers that ignore parts of a request are found to do."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from children import PYTHONPATH
from faulty_server import Action, Asked, answered, completion, refused, serving
from honest_server import honest
from zephyr_fast.endpoint import probe
from zephyr_fast.endpoint.endpoints import load
from zephyr_fast.endpoint.probe import check

FILE = '[endpoints.teacher]\nurl = "{url}"\nmodel = "large-chat"\nretry_seconds = 0.01\n'
PRICES = "usd_per_million_input = 1\nusd_per_million_output = 2\nrequests_per_minute = 60\n"


def file_of(folder: Path, url: str) -> Path:
    path = folder / "endpoints.toml"
    path.write_text(FILE.format(url=url) + PRICES)
    return path


def verdicts(path: Path) -> dict[str, str]:
    (endpoint,) = load(path).values()
    return {finding.feature: finding.verdict for finding in check(endpoint)}


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "zephyr_fast", "endpoints", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
    )


FEATURES = (
    "answers",
    "usage",
    "max_tokens",
    "system role",
    "n",
    "logprobs",
    "sampling",
    "seed",
    "JSON",
)


@pytest.fixture
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks at once: the limit of the file would space a dozen calls over a dozen seconds."""
    monkeypatch.setitem(globals(), "PRICES", "")


@pytest.mark.usefixtures("unlimited")
def test_an_honest_server_is_found_to_do_everything(tmp_path: Path) -> None:
    with serving(honest()) as server:
        assert verdicts(file_of(tmp_path, server.url)) == dict.fromkeys(FEATURES, "yes")


IGNORED = {
    "n": (["n"], {"n": "no"}),
    "logprobs": (["logprobs", "top_logprobs"], {"logprobs": "no"}),
    "seed": (["seed"], {"seed": "no"}),
    "temperature": (["temperature"], {"sampling": "no", "seed": "unclear"}),
    "max_tokens": (["max_tokens"], {"max_tokens": "no"}),
    "JSON": (["response_format"], {"JSON": "no"}),
}


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize(("ignored", "expected"), IGNORED.values(), ids=IGNORED)
def test_what_a_server_ignores_is_found(
    tmp_path: Path, ignored: list[str], expected: dict[str, str]
) -> None:
    with serving(honest(ignored)) as server:
        found = verdicts(file_of(tmp_path, server.url))
    assert found == dict.fromkeys(FEATURES, "yes") | expected


@pytest.mark.usefixtures("unlimited")
def test_a_server_that_says_one_thing_to_everything_is_seen_through(tmp_path: Path) -> None:
    with serving(answered(completion(model="other") | {"usage": None})) as server:
        found = verdicts(file_of(tmp_path, server.url))
    assert found == dict.fromkeys(FEATURES, "no") | {
        "answers": "unclear",
        "max_tokens": "unclear",
        "system role": "yes",
        "seed": "unclear",
    }


@pytest.mark.usefixtures("unlimited")
def test_the_command_prints_what_it_found_and_fails_where_nothing_answers(tmp_path: Path) -> None:
    with serving(honest(["n"])) as server:
        path = file_of(tmp_path, server.url)
        shown = command(str(path), "--check")
        assert shown.returncode == 0, shown.stderr
        assert (
            "  n            no       unsupported_n: requested 2 choices, received 1\n"
            in shown.stdout
        )
        found = json.loads(command(str(path), "--check", "--json").stdout)
        assert [one["feature"] for one in found["teacher"]] == list(FEATURES)
    with serving(refused("401 Unauthorized", "bad key\x1b[2J")) as server:
        failed = command(str(file_of(tmp_path, server.url)), "--check")
    assert failed.returncode == 11 and "no answer from teacher: auth: bad key" in failed.stderr
    assert "\x1b" not in failed.stdout + failed.stderr


async def silence(_: Asked, __: asyncio.StreamWriter) -> bool:
    await asyncio.sleep(60)
    return False


SILENT: dict[str, tuple[Action, str]] = {
    "a server that is always busy": (
        refused("429 Too Many Requests", "slow down"),
        "no answer in time; last: rate_limited 429 slow down",
    ),
    "a server that asks to wait for an hour": (
        refused("429 Too Many Requests", "slow down", "Retry-After: 3600"),
        "no answer in time; last: rate_limited 429 slow down",
    ),
    "a server that says nothing": (silence, "no answer in time; last: timeout TimeoutError"),
    "a server that rejects the key": (refused("401 Unauthorized", "bad key"), "auth: bad key"),
}


@pytest.mark.usefixtures("unlimited")
@pytest.mark.parametrize(("reply", "says"), SILENT.values(), ids=SILENT)
def test_an_endpoint_that_does_not_answer_is_given_up_after_the_first_feature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: Action, says: str
) -> None:
    monkeypatch.setattr(probe, "SECONDS_MAX", 1.0)  # with the default `attempt_seconds` of 600
    with serving(reply) as server:
        (endpoint,) = load(file_of(tmp_path, server.url)).values()
        begun = time.monotonic()
        first, *others = check(endpoint)
        assert time.monotonic() - begun < 10, "not once for each feature"
    assert (first.feature, first.verdict, first.detail) == ("answers", "no", says)
    assert [finding.feature for finding in others] == list(FEATURES[1:])
    assert {finding.verdict for finding in others} == {"unclear"}
    assert {finding.detail for finding in others} == {
        "not checked, because the endpoint does not answer"
    }


@pytest.mark.usefixtures("unlimited")
def test_a_model_that_writes_an_empty_text_is_still_checked(tmp_path: Path) -> None:
    with serving(answered(completion(""))) as server:
        found = verdicts(file_of(tmp_path, server.url))
        assert len(server.asked) == 15
    assert found["answers"] == "no" and found["n"] == "no"


def test_without_check_nothing_is_sent(tmp_path: Path) -> None:
    with serving(honest()) as server:
        path = file_of(tmp_path, server.url)
        shown = command(str(path))
        assert "teacher: large-chat at http://127.0.0.1" in shown.stdout
        assert "60 requests a minute" in shown.stdout and "$1 in and $2 out" in shown.stdout
        planned = command(str(path), "--check", "--dry-run")
        assert planned.stdout.startswith("teacher: 15 calls, about "), planned.stdout
        assert "at least 15 s" in planned.stdout
        assert json.loads(command(str(path), "--dry-run", "--json").stdout)[0]["calls"] == 15
        assert "at most $0." in planned.stdout and "retries are not included" in planned.stdout
        path.write_text(path.read_text().replace("usd_per", "# usd_per"))
        unpriced = command(str(path), "--dry-run").stdout
        assert "cost unknown (no prices)" in unpriced and "$" not in unpriced
        (row,) = json.loads(command(str(path), "--dry-run", "--json").stdout)
        assert row["nanousd"] is None and row["nanousd_max"] is None
        wrong = command(str(path), "--only", "judge")
        assert wrong.returncode == 4 and "known: teacher" in wrong.stderr
        assert server.asked == []


def test_without_the_extra_files_are_listed_and_a_check_says_what_to_install(
    tmp_path: Path,
) -> None:
    blocked = "import sys; sys.modules['aiohttp'] = None; from zephyr_fast.cli import main; main()"
    path = str(file_of(tmp_path, "http://127.0.0.1:9/v1"))
    for words, code in ([path], 0), ([path, "--check"], 4), ([path, "--dry-run"], 4):
        ended = subprocess.run(
            [sys.executable, "-c", blocked, "endpoints", *words],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": PYTHONPATH},
        )
        assert ended.returncode == code, ended.stderr
        says = "the `endpoints` extra is missing: run pip install '.[endpoints]' in a checkout"
        assert (code == 0) != (says in ended.stderr)
