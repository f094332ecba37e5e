"""Every way in which a server fails, and what must become of the call: a real server, real
sockets, one scenario each. The faults of connections are in `test_connections.py`.
"""

import gzip
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from asking import call, endpoint_at, run, texts
from faulty_server import GOOD, Action, answered, completion, raw, refused, serving
from zephyr_fast.endpoint.call import Failure
from zephyr_fast.endpoint.errors import EndpointError
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Settings

QUICK = {"retry_seconds": 0.01, "attempts": 3}


def soon() -> str:
    """A date of the next second, as headers have it."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)


RETRIED: dict[str, Action] = {
    "429 with Retry-After in seconds": refused("429 Busy", "slow down", "Retry-After: 0.05"),
    "429 without a header": refused("429 Busy", "slow down"),
    "500": refused("500 Oops"),
    "502 with html": raw("502 Bad Gateway", b"<html>bad gateway</html>"),
    "503": refused("503 Overloaded"),
    "504": raw("504 Timeout", b""),
    "529": refused("529 Overloaded"),
    "408": refused("408 Timeout"),
    "409": refused("409 Conflict"),
    "425": refused("425 Too Early"),
    "html in 200": raw("200 OK", b"<html>welcome</html>", "Content-Type: text/html"),
    "empty 200": raw("200 OK", b""),
    "half JSON in 200": raw("200 OK", json.dumps(completion()).encode()[:80]),
    "error object in 200": answered({"error": {"message": "overloaded", "code": 503}}),
    "choices null": answered(completion() | {"choices": None}),
    "choices empty": answered(completion() | {"choices": []}),
    "NaN": raw("200 OK", json.dumps(completion(created=float("nan"))).encode()),
    "Latin-1": raw("200 OK", '{"choices": "é"}'.encode("latin-1")),
    "JSON that is no object": answered([1]),
    "JSON that is nested too deep": raw("200 OK", b"[" * 100_000),
    "an encoding nobody asked for": raw("200 OK", b"x", "Content-Encoding: br"),
    "gzip that is none": raw("200 OK", b"x", "Content-Encoding: gzip"),
    "gzip that is cut": raw(
        "200 OK", gzip.compress(json.dumps(completion()).encode())[:-9], "Content-Encoding: gzip"
    ),
}


@pytest.mark.parametrize("bad", RETRIED.values(), ids=RETRIED)
def test_a_passing_fault_is_retried_and_answered(tmp_path: Path, bad: Action) -> None:
    with serving(bad, bad, GOOD) as server:
        report, outcomes = run([call()], endpoint_at(server.url, **QUICK), tmp_path / "log")
        assert texts(outcomes) == ["fine"] and len(server.asked) == 3
    assert report.counts.answered == 1 and report.counts.attempts == 3


def test_a_fault_that_stays_leaves_the_call_open_and_a_rerun_sends_it(tmp_path: Path) -> None:
    with serving(*[refused("500 Oops", "disk on fire")] * 3, GOOD) as server:
        endpoint = endpoint_at(server.url, **QUICK)
        report, outcomes = run([call()], endpoint, tmp_path / "log")
        assert outcomes == [None] and report.counts.left_open == {"server_error": 1}
        with pytest.raises(EndpointError, match="1 rows are not complete"):
            report.raise_if_open()
        report, outcomes = run([call()], endpoint, tmp_path / "log")
        assert texts(outcomes) == ["fine"] and len(server.asked) == 4


def test_retry_after_may_be_a_date(tmp_path: Path) -> None:
    with serving(refused("429 Busy", "slow", f"Retry-After: {soon()}"), GOOD) as server:
        _, outcomes = run([call()], endpoint_at(server.url, **QUICK), tmp_path / "log")
        assert texts(outcomes) == ["fine"] and len(server.asked) == 2


def test_retry_after_beyond_the_deadline_ends_the_run_at_once(tmp_path: Path) -> None:
    late = refused("429 Busy", "tomorrow", "Retry-After: 86400")
    with serving(late) as server:
        endpoint = endpoint_at(server.url, concurrency=1)
        report, _ = run([call(str(i)) for i in range(20)], endpoint, tmp_path / "log")
        assert len(server.asked) == 1
    assert report.counts.left_open == {"deadline": 20} and report.plans_open == 20


def test_a_pause_of_a_day_makes_no_row_a_final_failure_that_was_not_sent(tmp_path: Path) -> None:
    late = refused("429 Busy", "tomorrow", "Retry-After: 86400")
    with serving(late) as server:
        endpoint = endpoint_at(server.url, concurrency=1)
        settings = Settings(accept_failures=True)
        calls = [call(str(i)) for i in range(20)]
        report, outcomes = run(calls, endpoint, tmp_path / "log", settings)
        assert len(server.asked) == 1
    assert report.counts.failed == {"deadline": 1} and outcomes[1:] == [None] * 19
    assert report.counts.left_open == {"deadline": 19}


FINAL: dict[str, tuple[Action, str]] = {
    "413": (refused("413 Too Large"), "too_long"),
    "context length": (
        refused("400 Bad Request", "too much", code="context_length_exceeded"),
        "too_long",
    ),
    "content filter as 400": (refused("400 Bad", "filtered", code="content_filter"), "refused"),
    "content filter as a finish": (answered(completion("…", finish="content_filter")), "refused"),
    "content null": (answered(completion(None)), "empty"),
    "content empty": (answered(completion("", finish="length")), "empty"),
    "lone surrogate": (answered(completion("a\ud800b")), "invalid_unicode"),
}


@pytest.mark.parametrize(("bad", "reason"), FINAL.values(), ids=FINAL)
def test_a_final_failure_is_kept_and_never_asked_again(
    tmp_path: Path, bad: Action, reason: str
) -> None:
    with serving(bad) as server:
        for failed in (1, 0):
            report, (outcome,) = run([call()], endpoint_at(server.url, **QUICK), tmp_path / "log")
            assert isinstance(outcome, Failure) and outcome.reason == reason
            assert sum(report.counts.failed.values()) == failed
        assert len(server.asked) == 1


OPEN: dict[str, tuple[Action, str]] = {
    "400": (refused("400 Bad Request", "unknown field"), "bad_request"),
    "422 with detail": (answered({"detail": "no"}, status="422 Bad"), "bad_request"),
    "302": (raw("302 Found", b"", "Location: http://127.0.0.1:9/v1"), "redirected"),
    "gzip bomb": (
        raw("200 OK", gzip.compress(bytes(200_000_000), 1), "Content-Encoding: gzip"),
        "too_large",
    ),
    "a long body": (raw("200 OK", bytes(5 << 20)), "too_large"),
}


@pytest.mark.parametrize(("bad", "reason"), OPEN.values(), ids=OPEN)
def test_what_no_retry_mends_is_asked_once_and_left_open(
    tmp_path: Path, bad: Action, reason: str
) -> None:
    with serving(bad) as server:
        report, outcomes = run([call()], endpoint_at(server.url, **QUICK), tmp_path / "log")
        assert outcomes == [None] and report.counts.left_open == {reason: 1}
        assert len(server.asked) == 1


OFF: dict[str, tuple[Action, str, str]] = {
    "401": (refused("401 Unauthorized", "bad key"), "auth", "bad key"),
    "403": (refused("403 Forbidden"), "auth", "no"),
    "402": (refused("402 Pay"), "quota", "no"),
    "429 of a quota": (
        refused("429 Busy", "exceeded", code="insufficient_quota"),
        "quota",
        "exceeded",
    ),
    "404": (refused("404 Not Found", "no such model"), "not_found", "small-chat, large-chat"),
    "one choice instead of two": (GOOD, "unsupported_n", "requested 2 choices, received 1"),
}


@pytest.mark.parametrize(("bad", "reason", "says"), OFF.values(), ids=OFF)
def test_a_fault_of_the_endpoint_switches_it_off(
    tmp_path: Path, bad: Action, reason: str, says: str
) -> None:
    calls = [call(str(i), n=2) for i in range(30)]
    with serving(bad) as server:
        report, _ = run(calls, endpoint_at(server.url, concurrency=2), tmp_path / "log")
        assert len(server.asked) <= 2
    assert report.off["teacher"].reason == reason and says in report.off["teacher"].detail
    assert report.plans_open == 30 and set(report.counts.left_open) == {reason}
    with pytest.raises(
        EndpointError, match=f"; endpoint `teacher` was switched off: {reason}"
    ) as e:
        report.raise_if_open()
    assert "\n" not in str(e.value), "an error is one line"


def test_log_probs_that_were_asked_for_and_are_absent_switch_it_off(tmp_path: Path) -> None:
    with serving(GOOD) as server:
        report, _ = run([call(top_logprobs=5)], endpoint_at(server.url), tmp_path / "log")
    assert report.off["teacher"].reason == "unsupported_logprobs"


def test_log_probs_come_back_from_the_log_as_they_were(tmp_path: Path) -> None:
    held = completion("3")
    held["choices"][0]["logprobs"] = {
        "content": [
            {"token": "3", "logprob": -0.5, "top_logprobs": [{"token": "4", "logprob": -1.25}]}
        ]
    }
    with serving(answered(held)) as server:
        _, (outcome,) = run([call(top_logprobs=1)], endpoint_at(server.url), tmp_path / "log")
    assert outcome is not None and not isinstance(outcome, Failure)
    (token,) = outcome.choices[0].logprobs or ()
    assert (token.token, token.logprob, token.top) == ("3", -0.5, (("4", -1.25),))


def test_requests_that_are_all_bad_switch_an_endpoint_off(tmp_path: Path) -> None:
    with serving(refused("400 Bad Request", "unknown field `seed`")) as server:
        endpoint = endpoint_at(server.url, concurrency=1)
        report, _ = run([call(str(i)) for i in range(50)], endpoint, tmp_path / "log")
        assert len(server.asked) == 10
    assert "unknown field `seed`" in report.off["teacher"].detail


def test_another_host_that_a_redirect_names_is_not_asked(tmp_path: Path) -> None:
    with serving(GOOD) as other:
        moved = raw("307 Moved", b"", f"Location: {other.url}/chat/completions")
        with serving(moved) as server:
            run([call()], endpoint_at(server.url), tmp_path / "log")
        assert other.asked == []


def test_a_cut_answer_says_so(tmp_path: Path) -> None:
    with serving(answered(completion("half of a", finish="length"))) as server:
        _, (outcome,) = run([call()], endpoint_at(server.url), tmp_path / "log")
    assert outcome is not None and not isinstance(outcome, Failure)
    assert outcome.choices[0].is_cut


def test_an_answer_without_usage_costs_its_reserve(tmp_path: Path) -> None:
    with serving(answered(completion() | {"usage": None})) as server:
        report, _ = run([call("hello")], endpoint_at(server.url), tmp_path / "log")
    tokens_in = len("hello") + len("user") + 16
    assert report.spent == (tokens_in * 1_000 + 20 * 2_000, tokens_in + 20)


@pytest.mark.parametrize("strict", [False, True])
def test_another_model_in_the_reply_is_noted_or_refused(tmp_path: Path, strict: bool) -> None:
    with serving(answered(completion(model="tiny-chat"))) as server:
        endpoint = endpoint_at(server.url, strict_model=strict)
        report, _ = run([call()], endpoint, tmp_path / "log")
    if strict:
        assert report.off["teacher"].reason == "wrong_model"
    else:
        assert report.counts.models == {"teacher": {"tiny-chat": 1}}


@pytest.mark.parametrize("text", ["[1]", "no json"])
def test_a_text_that_is_not_the_json_that_was_asked_for_is_a_failure(
    tmp_path: Path, text: str
) -> None:
    with serving(answered(completion(text))) as server:
        _, (outcome,) = run([call(json_object=True)], endpoint_at(server.url), tmp_path / "log")
    assert isinstance(outcome, Failure) and outcome.reason == "not_json"


def test_failures_that_are_accepted_become_final(tmp_path: Path) -> None:
    with serving(refused("500 Oops")) as server:
        endpoint = endpoint_at(server.url, **QUICK)
        settings = Settings(accept_failures=True)
        _, (outcome,) = run([call()], endpoint, tmp_path / "log", settings)
        assert isinstance(outcome, Failure) and outcome.reason == "server_error"
        run([call()], endpoint, tmp_path / "log", settings)
        assert len(server.asked) == 3
    with CallLog(tmp_path / "log", read_only=True) as log:
        assert len(log) == 1
