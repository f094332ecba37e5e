"""One call against one server: an answer, the log, and a rerun that sends nothing."""

from pathlib import Path

from asking import call, endpoint_at, run, texts
from faulty_server import GOOD, serving


def test_a_call_is_answered_logged_and_never_sent_again(tmp_path: Path) -> None:
    with serving(GOOD) as server:
        for expected in (1, 0):
            report, outcomes = run([call()], endpoint_at(server.url), tmp_path / "calls.jsonl")
            assert report.counts.answered == expected and report.plans_complete == 1
            assert texts(outcomes) == ["fine"]
            report.raise_if_open()
        (asked,) = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.fields == {
        "model": "large-chat",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 20,
    }
    assert report.spent == (10 * 1_000 + 5 * 2_000, 15)
