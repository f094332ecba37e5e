"""Replies of servers that are almost compatible: other words for the end of a text, texts that are
none, other encodings. Each ends as an answer or as a failure with its reason, never as half a text.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from asking import call, endpoint_at, run, texts
from faulty_server import GOOD, answered, completion, raw, serving
from zephyr_fast.endpoint.call import Answer, Failure
from zephyr_fast.endpoint.log import CallLog

QUICK: dict[str, Any] = {"retry_seconds": 0.01, "attempts": 3}


def said(message: dict[str, Any], finish: object = "stop") -> bytes:
    """A reply with one choice."""
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return answered(completion() | {"choices": [choice]})


CUT = ["length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens"]


@pytest.mark.parametrize("finish", CUT)
def test_a_cut_text_is_cut_in_the_words_of_any_server(tmp_path: Path, finish: str) -> None:
    with serving(said({"content": "half of a"}, finish)) as server:
        _, (outcome,) = run([call()], endpoint_at(server.url), tmp_path / "log")
    assert isinstance(outcome, Answer) and outcome.choices[0].is_cut


@pytest.mark.parametrize(
    "finish", ["error", "abort", "cancelled", "insufficient_system_resource", "network_error"]
)
def test_a_text_that_the_server_gave_up_is_asked_again(tmp_path: Path, finish: str) -> None:
    with serving(said({"content": "half of a"}, finish), GOOD) as server:
        _, outcomes = run([call()], endpoint_at(server.url, **QUICK), tmp_path / "log")
        assert texts(outcomes) == ["fine"] and len(server.asked) == 2


@pytest.mark.parametrize("finish", ["stop", "eos", "end_turn", None, 3])
def test_other_ends_are_whole_texts(tmp_path: Path, finish: object) -> None:
    with serving(said({"content": "all of it"}, finish)) as server:
        _, (outcome,) = run([call()], endpoint_at(server.url), tmp_path / "log")
    assert isinstance(outcome, Answer) and not outcome.choices[0].is_cut


TOOLS = [{"id": "1", "type": "function", "function": {"name": "search", "arguments": "{}"}}]
FINAL: dict[str, tuple[bytes, str, str]] = {
    "only reasoning": (
        said({"content": None, "reasoning_content": "The user …"}, "length"),
        "empty",
        "a choice has only reasoning (finish_reason: length)",
    ),
    "only spaces": (said({"content": " \n\t"}), "empty", "a choice has no text"),
    "a tool": (said({"content": None, "tool_calls": TOOLS}, "tool_calls"), "tool_call", "a tool"),
    "words and a tool": (said({"content": "Let me look.", "tool_calls": TOOLS}), "tool_call", ""),
    "a tool by its end": (said({"content": "Let me look."}, "function_call"), "tool_call", ""),
    "a filter": (said({"content": "I"}, "SAFETY"), "refused", "I"),
}


@pytest.mark.parametrize(("reply", "reason", "says"), FINAL.values(), ids=FINAL)
def test_a_text_that_is_none_is_a_failure_and_not_asked_again(
    tmp_path: Path, reply: bytes, reason: str, says: str
) -> None:
    with serving(reply) as server:
        for _ in range(2):
            _, (outcome,) = run([call()], endpoint_at(server.url), tmp_path / "log")
            assert isinstance(outcome, Failure) and outcome.reason == reason
            assert says in outcome.detail
        assert len(server.asked) == 1


def test_a_space_is_a_text_where_its_log_probs_are_read(tmp_path: Path) -> None:
    fields = completion(" ")
    token = {"token": " ", "logprob": -1.0, "top_logprobs": [{"token": "7", "logprob": -1.5}]}
    fields["choices"][0]["logprobs"] = {"content": [token]}
    with serving(answered(fields)) as server:
        _, outcomes = run([call(top_logprobs=5)], endpoint_at(server.url), tmp_path / "log")
    assert texts(outcomes) == [" "]


def test_a_byte_order_mark_and_a_body_that_is_packed_are_read(tmp_path: Path) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(completion()).encode()
    packed = raw("200 OK", gzip.compress(body), "Content-Encoding: gzip")
    for number, reply in enumerate((raw("200 OK", body), packed)):
        with serving(reply) as server:
            _, outcomes = run([call()], endpoint_at(server.url), tmp_path / str(number))
        assert texts(outcomes) == ["fine"]


STREAM = b'data: {"choices": [{"delta": {"content": "fi"}}]}\n\ndata: [DONE]\n\n'
NEVER: dict[str, tuple[bytes, str, str]] = {
    "a stream": (raw("200 OK", STREAM, "Content-Type: text/event-stream"), "invalid_json", "data:"),
    "UTF-16": (raw("200 OK", json.dumps(completion()).encode("utf-16")), "invalid_json", "utf-8"),
    "brotli": (raw("200 OK", b"x", "Content-Encoding: br"), "bad_response", "encoded as br"),
    "another form of error": (
        answered({"code": 40001, "message": "balance is empty"}),
        "no_choices",
        "balance is empty",
    ),
    "a page": (raw("200 OK", b"<html>welcome</html>"), "invalid_json", "<html>welcome"),
}


@pytest.mark.parametrize(("reply", "reason", "says"), NEVER.values(), ids=NEVER)
def test_an_endpoint_that_never_answers_is_switched_off_after_ten_calls(
    tmp_path: Path, reply: bytes, reason: str, says: str
) -> None:
    calls = [call(str(number)) for number in range(60)]
    with serving(reply) as server:
        endpoint = endpoint_at(server.url, **QUICK, concurrency=2)
        report, _ = run(calls, endpoint, tmp_path / "log")
        assert len(server.asked) <= (10 + 10) * 3, "those that ten workers have begun"
    assert report.off["teacher"].reason == reason and says in report.off["teacher"].detail
    assert report.plans_open == 60


def test_an_endpoint_that_answers_now_and_then_stays_on(tmp_path: Path) -> None:
    page = raw("200 OK", b"<html>welcome</html>")
    calls = [call(str(number)) for number in range(40)]
    with serving(GOOD, page) as server:
        endpoint = endpoint_at(server.url, retry_seconds=0.01, attempts=1, concurrency=1)
        report, _ = run(calls, endpoint, tmp_path / "log")
        assert len(server.asked) == 40
    assert not report.off and report.counts.left_open == {"invalid_json": 39}


def test_the_log_has_the_ends_of_texts_as_the_server_wrote_them(tmp_path: Path) -> None:
    with serving(said({"content": "half of a"}, "MAX_TOKENS")) as server:
        run([call()], endpoint_at(server.url), tmp_path / "log")
        _, (outcome,) = run([call()], endpoint_at(server.url), tmp_path / "log")
    assert isinstance(outcome, Answer) and outcome.choices[0].finish == "MAX_TOKENS"
    with CallLog(tmp_path / "log", read_only=True) as log:
        assert len(log) == 1
