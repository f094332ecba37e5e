"""Replies that look like answers and are none: no text, half a text, or a number that no model
gave. Taken for answers, they would be wrong without a word.
"""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from asking import call, endpoint_at, run, texts
from faulty_server import GOOD, answered, completion, raw, serving
from zephyr_fast.endpoint.call import Answer, Failure, Outcome, request_of
from zephyr_fast.endpoint.reader import Reply, read

ENDPOINT = endpoint_at("http://127.0.0.1:9/v1")


def outcome_of(fields: object, **asked: Any) -> Outcome:
    """What is read from a reply with these fields."""
    reply = Reply(200, json.dumps(fields).encode())
    return read(request_of(call(**asked), ENDPOINT), ENDPOINT, reply)


def with_choice(usage: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A reply whose one choice has these fields."""
    choice = {"message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
    return completion() | {"choices": [choice | fields]} | ({"usage": usage} if usage else {})


def said(content: object, **more: Any) -> dict[str, Any]:
    """A reply whose message has this content."""
    return with_choice(message={"role": "assistant", "content": content} | more)


FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "marks without a width": (said("\u200b\u2060\ufeff"), "empty"),
    "controls": (said("\x00\x1b\x7f"), "empty"),
    "letters that show nothing": (said("\u3164\u2800 \u115f"), "empty"),
    "reasoning and nothing after it": (said("<think>It is 4.</think>\n\u200b"), "empty"),
    "reasoning without an end": (said("<think>It is 4, or"), "empty"),
    "reasoning in other marks": (said("[THINK]It is 4.[/THINK]"), "empty"),
    "a list of parts": (said([{"type": "text", "text": "fine"}]), "invalid_json"),
    "an empty list of parts": (said([]), "invalid_json"),
    "a number": (said(4), "invalid_json"),
    "an error of a choice": (with_choice(error={"code": 502, "message": "lost"}), "server_error"),
    "a call in the old form": (said("Let me look.", function_call={"name": "f"}), "tool_call"),
    "a call that is broken": (
        with_choice(finish_reason="malformed_function_call"),
        "server_error",
    ),
    "a guardrail": (with_choice(finish_reason="guardrail_intervened"), "refused"),
    "personal data": (with_choice(finish_reason="SPII"), "refused"),
}


@pytest.mark.parametrize(("fields", "reason"), FAILURES.values(), ids=FAILURES)
def test_a_reply_without_an_answer_is_a_failure(fields: dict[str, Any], reason: str) -> None:
    outcome = outcome_of(fields)
    assert isinstance(outcome, Failure) and outcome.reason == reason


@pytest.mark.parametrize(
    "text", ["a < b [1]", "<think>3?</think> It is 4.", "◁ left", "é", "\U0001fae9", "\ue000", "?"]
)
def test_texts_with_marks_are_unchanged(text: str) -> None:
    outcome = outcome_of(said(text))
    assert isinstance(outcome, Answer) and outcome.text == text


ALL_USED = {"prompt_tokens": 10, "completion_tokens": 20}
ENDS: dict[str, tuple[dict[str, Any], bool]] = {
    "an object": (with_choice(finish_reason={"type": "length", "length": 20}), True),
    "an object, at a stop": (with_choice(ALL_USED, finish_reason={"type": "stop"}), False),
    "none, all tokens used": (with_choice(ALL_USED, finish_reason=None), True),
    "a number, all tokens used": (with_choice(ALL_USED, finish_reason=2), True),
    "none": (with_choice(finish_reason=None), False),
    "a stop, all tokens used": (with_choice(ALL_USED), False),
    "a full context": (with_choice(finish_reason="model_context_window_exceeded"), True),
    "a limit": (with_choice(finish_reason="ERROR_LIMIT"), True),
}


@pytest.mark.parametrize(("fields", "is_cut"), ENDS.values(), ids=ENDS)
def test_a_cut_text_is_found_without_the_word_length(fields: dict[str, Any], is_cut: bool) -> None:
    outcome = outcome_of(fields)  # of a call of at most 20 tokens
    assert isinstance(outcome, Answer) and outcome.choices[0].is_cut == is_cut


def scored(*logprobs: float) -> dict[str, Any]:
    """A reply of one token, with these log-probs of the digits from 0 on."""
    top = [{"token": str(digit), "logprob": value} for digit, value in enumerate(logprobs)]
    return with_choice(logprobs={"content": [top[0] | {"top_logprobs": top}]})


IMPOSSIBLE = {
    "raw scores": (21.5, 19.25, 3.0),
    "probabilities": (0.7, 0.2, 0.1),
    "a zero for each token": (0.0, 0.0, 0.0),
    "more than all": (math.log(0.9), math.log(0.9)),
}


@pytest.mark.parametrize("logprobs", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_numbers_that_are_no_log_probs_are_not_taken_for_them(logprobs: list[float]) -> None:
    outcome = outcome_of(scored(*logprobs), top_logprobs=5)
    assert isinstance(outcome, Failure) and outcome.reason == "unsupported_logprobs"
    assert "not those of probabilities" in outcome.detail


@pytest.mark.parametrize("logprobs", [(0.0, -9999.0), (-0.69, -0.69), (0.001, -7.0), (-2.0,)])
def test_log_probs_may_be_rounded_and_incomplete(logprobs: list[float]) -> None:
    assert isinstance(outcome_of(scored(*logprobs), top_logprobs=5), Answer)


USAGES: dict[str, Any] = {
    "no output": {"prompt_tokens": 10, "completion_tokens": 0},
    "negative": {"prompt_tokens": 10, "completion_tokens": -5},
    "more than a model can": {"prompt_tokens": 10, "completion_tokens": 10**11},
    "a total that is more": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 10**11},
    "fractions": {"prompt_tokens": 10.5, "completion_tokens": 5},
    "texts": {"prompt_tokens": "10", "completion_tokens": "5"},
}


@pytest.mark.parametrize("usage", USAGES.values(), ids=USAGES)
def test_an_impossible_usage_is_not_what_a_call_cost(tmp_path: Path, usage: Any) -> None:
    with serving(answered(completion(usage=usage))) as server:
        report, outcomes = run([call()], endpoint_at(server.url), tmp_path / "log")
    assert texts(outcomes) == ["fine"]
    reserve = len("hello") + len("user") + 16 + 20
    known = 15 if "total_tokens" in usage else reserve
    assert report.spent.tokens == known


def test_names_that_are_not_unicode_can_be_written() -> None:
    outcome = outcome_of(completion(model="large\ud800", system_fingerprint="\udfff"))
    assert isinstance(outcome, Answer)
    assert (outcome.model, outcome.fingerprint) == ("large\\ud800", "\\udfff")


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": [-Infinity]}'])
def test_json_with_constants_of_javascript_is_not_json(text: str) -> None:
    outcome = outcome_of(said(text), json_object=True)
    assert isinstance(outcome, Failure) and outcome.reason == "not_json"


BODY = json.dumps(completion()).encode()
FRAMES = {
    "HTTP/1.0 to its end": (b"HTTP/1.0 200 OK\r\n\r\n" + BODY, ["fine"]),
    "HTTP/1.0, cut": (b"HTTP/1.0 200 OK\r\n\r\n" + BODY[:-9], [None]),
    "a length that is too short": (raw("200 OK", BODY, length=len(BODY) - 1), [None]),
    "chunks and garbage": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\ngarbage\r\n\r\n"
        % (len(BODY), BODY),
        [None],
    ),
    "half of a packed body": (
        raw("200 OK", gzip.compress(BODY)[:-9], "Content-Encoding: gzip"),
        [None],
    ),
    "a packed body that says it is plain": (raw("200 OK", gzip.compress(BODY)), [None]),
    "NaN": (raw("200 OK", BODY.replace(b"10,", b"NaN,")), [None]),
}


@pytest.mark.parametrize(("reply", "expected"), FRAMES.values(), ids=FRAMES)
def test_a_body_is_whole_or_no_answer(
    tmp_path: Path, reply: bytes, expected: list[str | None]
) -> None:
    async def closing(_: object, writer: Any) -> bool:
        writer.write(reply)
        await writer.drain()
        return False

    with serving(closing) as server:
        endpoint = endpoint_at(server.url, attempts=2, retry_seconds=0.01)
        _, outcomes = run([call()], endpoint, tmp_path / "log")
    assert texts(outcomes) == expected


def test_what_follows_a_reply_is_not_the_next_one(tmp_path: Path) -> None:
    """The second reply in the same packet belongs to no call."""
    twice = answered(completion("first")) + answered(completion("nobody's"))
    with serving(twice, GOOD) as server:
        endpoint = endpoint_at(server.url, concurrency=1)
        _, outcomes = run([call("a"), call("b")], endpoint, tmp_path / "log")
    assert texts(outcomes) == ["first", "fine"]
