"""Replies that are made to crash a run. They fail one call; they neither end nor hang the run."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asking import call, endpoint_at, one, run, texts
from faulty_server import GOOD, answered, completion, refused, serving
from zephyr_fast.endpoint.budget import Cost
from zephyr_fast.endpoint.call import Request, request_of
from zephyr_fast.endpoint.client import Client
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Settings, collect
from zephyr_fast.endpoint.reader import Reply

QUICK: dict[str, Any] = {"retry_seconds": 0.01, "attempts": 3}


DATES = ["Mon, 01 Jan 2020 00:00:00 +999999999999999", "Mon, 01 Jan 0001 00:00:00 +2359"]


@pytest.mark.parametrize("date", DATES)
def test_a_date_that_no_clock_has_is_no_time_to_wait(tmp_path: Path, date: str) -> None:
    busy = refused("429 Busy", "later", f"Retry-After: {date}")
    with serving(busy, GOOD) as server:
        _, outcomes = run([call()], endpoint_at(server.url, **QUICK), tmp_path / "log")
    assert texts(outcomes) == ["fine"]


@pytest.mark.parametrize("listed", [5, "names", {"id": "a"}, [5, None, {"id": 5}]])
def test_a_list_of_models_that_is_none_names_no_model(tmp_path: Path, listed: object) -> None:
    with serving(refused("404 Not Found", "no such model")) as server:
        server.models = {"data": listed}
        report, _ = run([call()], endpoint_at(server.url), tmp_path / "log")
    assert report.off["teacher"].detail == "no such model (model `large-chat`)"


def test_a_log_prob_of_400_digits_is_none(tmp_path: Path) -> None:
    held = completion("3")
    top = [{"token": "4", "logprob": -1.25}]
    held["choices"][0]["logprobs"] = {
        "content": [{"token": "3", "logprob": -(10**400), "top_logprobs": top}]
    }
    with serving(answered(held)) as server:
        report, _ = run([call(top_logprobs=1)], endpoint_at(server.url), tmp_path / "log")
    assert report.off["teacher"].reason == "unsupported_logprobs"


class Broken:
    """A source with a fault: it raises what nobody expects, after it has been asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def post(self, request: Request, endpoint: Endpoint, deadline: float) -> Reply:
        self.asked += 1
        await asyncio.sleep(0.01)
        raise RuntimeError("a fault of the program")

    async def models(self, endpoint: Endpoint) -> list[str]:
        return []


def test_calls_that_wait_for_the_budget_go_on_after_a_crash(tmp_path: Path) -> None:
    endpoint = endpoint_at("http://127.0.0.1:9/v1")
    cap = Cost(None, request_of(call("0"), endpoint).tokens_max)

    async def ask_all(log: CallLog) -> list[object]:
        client = Client({"teacher": endpoint}, log, cap, Broken())
        calls = [client.ask(call(str(number))) for number in range(3)]
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 300)

    with CallLog(tmp_path / "log") as log:
        ended = asyncio.run(ask_all(log))
    assert [type(error).__name__ for error in ended] == ["RuntimeError", "Abandoned", "Abandoned"]


def test_a_crash_stops_the_run_and_is_raised(tmp_path: Path) -> None:
    endpoint, source = endpoint_at("http://127.0.0.1:9/v1", concurrency=2), Broken()
    plans = [one(call(str(i))) for i in range(100)]
    with CallLog(tmp_path / "log") as log, pytest.raises(RuntimeError, match="a fault of the"):
        collect(plans, {"teacher": endpoint}, log, Settings(source=source))
    assert source.asked <= 2
