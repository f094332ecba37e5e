"""What a reply costs: the server's own count, or the whole reserve wherever it may be billed."""

import json
from pathlib import Path
from typing import Any

import pytest

from asking import call, endpoint_at, run
from faulty_server import Action, answered, completion, raw, refused, serving
from zephyr_fast.endpoint.budget import Cost
from zephyr_fast.endpoint.call import request_of
from zephyr_fast.endpoint.client import cost_of
from zephyr_fast.endpoint.reader import Reply, read

ENDPOINT = endpoint_at("http://127.0.0.1:9/v1")
RESERVE = Cost(1_000_000, 1_000)
USAGE = {"prompt_tokens": 10, "completion_tokens": 5}
USED = Cost(10 * 1_000 + 5 * 2_000, 15)
FREE = Cost(0, 0)


def cost(status: int, body: bytes | dict[str, Any]) -> Cost:
    """The cost of a reply to a call that had reserved `RESERVE`."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    outcome = read(request_of(call(), ENDPOINT), ENDPOINT, Reply(status, content))
    return cost_of(outcome, ENDPOINT, RESERVE)


FILTERED = {"error": {"code": "content_filter", "message": "no"}}
REPLIES: dict[str, tuple[int, bytes | dict[str, Any], Cost]] = {
    "an error in 200 with usage": (200, {"error": {"message": "no"}, "usage": USAGE}, USED),
    "an error in 200": (200, {"error": {"message": "no", "code": 429}}, RESERVE),
    "408": (408, b"timeout", RESERVE),
    "500": (500, b"oops", RESERVE),
    "502": (502, b"<html>", RESERVE),
    "504": (504, b"gateway timeout", RESERVE),
    "524": (524, b"a timeout occurred", RESERVE),
    "504 with usage": (504, {"usage": USAGE}, USED),
    "a filter": (400, FILTERED, RESERVE),
    "a filter with usage": (400, FILTERED | {"usage": USAGE}, USED),
    "429": (429, b"slow down", FREE),
    "503": (503, b"overloaded", FREE),
    "400": (400, {"error": {"message": "unknown field"}}, FREE),
    "413": (413, b"too large", FREE),
}


@pytest.mark.parametrize(("status", "body", "expected"), REPLIES.values(), ids=REPLIES)
def test_a_reply_that_may_be_billed_is_not_free(
    status: int, body: bytes | dict[str, Any], expected: Cost
) -> None:
    assert cost(status, body) == expected


BAD_USAGE = [
    None,
    [],
    {},
    USAGE | {"prompt_tokens": 0, "completion_tokens": 0},
    USAGE | {"prompt_tokens": 0},
    USAGE | {"prompt_tokens": -1},
    USAGE | {"completion_tokens": -1},
    USAGE | {"completion_tokens": 1 << 40},
    USAGE | {"prompt_tokens": 1 << 40},
    USAGE | {"prompt_tokens": True},
    USAGE | {"completion_tokens": 5.0},
    USAGE | {"completion_tokens": "5"},
    {"prompt_tokens": 10},
]


@pytest.mark.parametrize("usage", BAD_USAGE)
def test_a_usage_that_cannot_be_costs_the_reserve(usage: object) -> None:
    assert cost(200, completion() | {"usage": usage}) == RESERVE


@pytest.mark.parametrize(
    ("total", "output"), [(15, 5), (5_000, 4_990), (3, 5), (None, 5), ("9", 5), (1 << 40, 5)]
)
def test_tokens_that_only_the_total_has_count_as_output(total: object, output: int) -> None:
    found = cost(200, completion() | {"usage": USAGE | {"total_tokens": total}})
    assert found == (10 * 1_000 + output * 2_000, 10 + output)


TIMEOUTS: list[Action] = [raw("504 Timeout", b""), refused("408 Timeout")]


@pytest.mark.parametrize("timeout", TIMEOUTS)
def test_every_attempt_that_may_be_billed_counts(tmp_path: Path, timeout: Action) -> None:
    with serving(timeout, timeout, answered(completion())) as server:
        endpoint = endpoint_at(server.url, retry_seconds=0.01)
        report, _ = run([call()], endpoint, tmp_path / "log")
    assert report.spent.tokens == 15 + 2 * request_of(call(), endpoint).tokens_max
