"""Batch files out and in, what a run will take, and a replay without a server."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from asking import call, endpoint_at, one, run, texts
from asking_child import dialogues
from faulty_server import completion, serving
from honest_server import honest
from zephyr_fast._core import InputError, IntegrityError
from zephyr_fast.endpoint import batch
from zephyr_fast.endpoint.budget import Caps, Cost
from zephyr_fast.endpoint.call import request_of
from zephyr_fast.endpoint.errors import BudgetError
from zephyr_fast.endpoint.forecast import forecast
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import collect, replay

ENDPOINT = endpoint_at("http://127.0.0.1:9/v1")
ENDPOINTS = {"teacher": ENDPOINT}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answer_all(exported: Path, results: Path, skip: int = 0) -> None:
    """What a provider writes: an answer to each line, in any order."""
    asked = lines(exported)[skip:]
    random.Random(0).shuffle(asked)
    with results.open("w") as file:
        for line in asked:
            text = "to " + line["body"]["messages"][-1]["content"]
            response = {"status_code": 200, "body": completion(text)}
            file.write(json.dumps({"custom_id": line["custom_id"], "response": response}) + "\n")


def test_dialogues_go_through_batches_step_by_step(tmp_path: Path) -> None:
    with CallLog(tmp_path / "log") as log:
        for step in range(2):
            file, results = tmp_path / f"{step}.jsonl", tmp_path / f"{step}.out"
            assert batch.export(dialogues(10), ENDPOINTS, "teacher", log, file) == 10
            first = lines(file)[0]
            assert first["method"] == "POST" and first["url"] == "/v1/chat/completions"
            assert len(first["body"]["messages"]) == 1 + 2 * step
            answer_all(file, results)
            imported = batch.results(dialogues(10), ENDPOINTS, log, [results])
            assert imported == batch.Imported(10, failed=0, left_open=0, unknown=0, ignored=0)
            again = batch.results(dialogues(10), ENDPOINTS, log, [results])
            assert again == batch.Imported(0, failed=0, left_open=0, unknown=0, ignored=10)
        rows = list(replay(dialogues(10), ENDPOINTS, log))
        assert rows[3] == json.dumps([3, "to question 3", "to go on"])
        assert log.spent.tokens == 20 * 15


def test_calls_in_a_batch_are_not_sent_until_they_come_back_or_are_released(
    tmp_path: Path,
) -> None:
    plans = [call("a"), call("b"), call("c")]
    file = tmp_path / "batch.jsonl"
    with CallLog(tmp_path / "log") as log:
        batch.export(map(one, plans[:2]), ENDPOINTS, "teacher", log, file)
        assert batch.export(map(one, plans), ENDPOINTS, "teacher", log, tmp_path / "2") == 1
        reserved = log.spent.tokens or 0
    with serving(honest()) as server:
        endpoint = endpoint_at(server.url)
        report, _ = run(plans, endpoint, tmp_path / "log")
        assert server.asked == [] and report.counts.left_open == {"in_batch": 3}
        with CallLog(tmp_path / "log") as log:
            assert batch.release(log, "batch.jsonl") == 2
            assert 0 < (log.spent.tokens or 0) < reserved
        report, outcomes = run(plans, endpoint, tmp_path / "log")
        assert len(server.asked) == 2 and outcomes[2] is None


def test_failed_and_expired_lines_leave_their_calls_open_and_keep_the_others(
    tmp_path: Path,
) -> None:
    plans = [call(text) for text in "abcd"]
    file, results = tmp_path / "batch.jsonl", tmp_path / "out"
    with CallLog(tmp_path / "log") as log:
        batch.export(map(one, plans), ENDPOINTS, "teacher", log, file)
        answer_all(file, results, skip=2)
        failed, expired = lines(file)[:2]
        bad = [
            {"custom_id": failed["custom_id"], "response": {"status_code": 500, "body": {}}},
            {"custom_id": expired["custom_id"], "error": {"code": "batch_expired"}},
            {"custom_id": "nobody's", "error": {}},
        ]
        errors = tmp_path / "errors"
        errors.write_text("".join(json.dumps(line) + "\n" for line in bad))
        imported = batch.results(map(one, plans), ENDPOINTS, log, [errors, results])
        assert imported == batch.Imported(2, failed=0, left_open=2, unknown=1, ignored=0)
        reserve = request_of(plans[0], ENDPOINT).tokens_max
        assert log.spent.tokens == 30 + reserve, "the call with status 500 may be billed"
        assert not log.batched
        second = tmp_path / "second.jsonl"
        assert batch.export(map(one, plans), ENDPOINTS, "teacher", log, second) == 2
        assert sum(o is not None for o in replay(map(one, plans), ENDPOINTS, log)) == 2


@pytest.mark.parametrize("order", [("results", "errors"), ("errors", "results")])
def test_an_answer_counts_whatever_else_the_files_say(tmp_path: Path, order: list[str]) -> None:
    plans = [call("a"), call("b")]
    with CallLog(tmp_path / "log") as log:
        batch.export(map(one, plans), ENDPOINTS, "teacher", log, tmp_path / "batch")
        answer_all(tmp_path / "batch", tmp_path / "results")
        failed = [{"custom_id": key, "error": {"code": "batch_expired"}} for key in log.batched]
        (tmp_path / "errors").write_text("".join(json.dumps(line) + "\n" for line in failed))
        files = [tmp_path / name for name in order]
        imported = batch.results(map(one, plans), ENDPOINTS, log, files)
        assert imported == batch.Imported(2, failed=0, left_open=0, unknown=0, ignored=2)
        assert texts(replay(map(one, plans), ENDPOINTS, log)) == ["to a", "to b"]


def test_of_two_answers_in_files_the_first_counts(tmp_path: Path) -> None:
    with CallLog(tmp_path / "log") as log:
        batch.export([one(call())], ENDPOINTS, "teacher", log, tmp_path / "batch")
        (key,) = log.batched
        answers = [
            {"custom_id": key, "response": {"status_code": 200, "body": completion(text)}}
            for text in ("first", "second")
        ]
        (tmp_path / "out").write_text("".join(json.dumps(line) + "\n" for line in answers))
        imported = batch.results([one(call())], ENDPOINTS, log, [tmp_path / "out"])
        assert imported == batch.Imported(1, failed=0, left_open=0, unknown=0, ignored=1)
        assert texts(replay([one(call())], ENDPOINTS, log)) == ["first"]


@pytest.mark.parametrize("status", ["200", 200.0, None])
def test_a_result_without_a_status_costs_its_reserve(tmp_path: Path, status: object) -> None:
    with CallLog(tmp_path / "log") as log:
        file, results = tmp_path / "batch.jsonl", tmp_path / "out"
        batch.export([one(call())], ENDPOINTS, "teacher", log, file)
        reserve = log.spent
        response = {"status_code": status, "body": completion("fine")}
        key = lines(file)[0]["custom_id"]
        results.write_text(json.dumps({"custom_id": key, "response": response, "error": None}))
        imported = batch.results([one(call())], ENDPOINTS, log, [results])
        assert imported == batch.Imported(0, failed=0, left_open=1, unknown=0, ignored=0)
        assert log.spent == reserve and not log.batched, "the provider may have billed it"


def test_results_of_a_batch_that_was_released_are_used_and_paid(tmp_path: Path) -> None:
    plans = [call("a"), call("b"), call("c")]
    with CallLog(tmp_path / "log") as log:
        batch.export(map(one, plans), ENDPOINTS, "teacher", log, tmp_path / "batch")
        answer_all(tmp_path / "batch", tmp_path / "results", skip=1)
        (first, *_) = lines(tmp_path / "batch")
        failed = {"custom_id": first["custom_id"], "error": {"code": "batch_expired"}}
        (tmp_path / "errors").write_text(json.dumps(failed) + "\n")
        batch.release(log, "batch")
        lost = log.sent(request_of(plans[1], ENDPOINT).key, "teacher", Cost(1_000, 100))
        files = [tmp_path / "results", tmp_path / "errors"]
        for answered in (2, 0):
            imported = batch.results(map(one, plans), ENDPOINTS, log, files)
            ignored = 3 - answered
            assert imported == batch.Imported(answered, 0, 0, unknown=0, ignored=ignored)
        assert texts(replay(map(one, plans), ENDPOINTS, log)) == [None, "to b", "to c"]
        assert lost == 2 and log.spent.tokens == 2 * 15 + 100, "the lost attempt stays spent"


def test_an_export_never_passes_the_budget_and_never_replaces_a_file(tmp_path: Path) -> None:
    with CallLog(tmp_path / "log") as log:
        with pytest.raises(BudgetError):
            batch.export(
                map(one, [call("a"), call("b")]),
                ENDPOINTS,
                "teacher",
                log,
                tmp_path / "out",
                Caps(tokens=60),
            )
        assert not (tmp_path / "out").exists() and log.spent == (0, 0)
        (tmp_path / "out").write_text("mine")
        with pytest.raises(InputError, match="exists"):
            batch.export([one(call())], ENDPOINTS, "teacher", log, tmp_path / "out")
        assert log.spent == (0, 0) and not log.batched


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", os.fsdecode(b"a\xff"), "a b", "x" * 201])
def test_a_name_that_the_log_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with CallLog(tmp_path / "log") as log:
        with pytest.raises(InputError, match="only letters, digits"):
            batch.export([one(call())], ENDPOINTS, "teacher", log, tmp_path / name)
        assert log.spent == (0, 0) and not log.batched
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_a_batch_in_the_log_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with CallLog(tmp_path / "log") as log:
        log.sent("ab" * 32, "teacher", Cost(1, 1), batch="a.jsonl")
    held = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(held.replace(b"a.jsonl", b'a\\"b.jsonl'))
    with pytest.raises(IntegrityError, match="`:1 is not a line"):
        CallLog(tmp_path / "log")


def test_a_result_file_that_is_none_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text('{"custom_id": "a"}\nhello\n')
    with CallLog(tmp_path / "log") as log, pytest.raises(InputError, match=r"out`:2 is not a line"):
        batch.results([one(call())], ENDPOINTS, log, [tmp_path / "out"])


def test_a_forecast_of_dialogues_is_within_15_percent_of_the_run(tmp_path: Path) -> None:
    with serving(honest()) as server, CallLog(tmp_path / "log") as log:
        endpoints = {"teacher": endpoint_at(server.url)}
        (blind,) = forecast(dialogues(100), endpoints, log)
        assert blind.calls == 200 and blind.output_tokens == 200 * 20
        collect(dialogues(10), endpoints, log)
        before = log.spent
        (planned,) = forecast(dialogues(100), endpoints, log)
        assert (planned.calls, planned.calls_answered) == (180, 20)
        asked = len(server.asked)
        collect(dialogues(100), endpoints, log)
        assert len(server.asked) - asked == planned.calls
        taken = (log.spent.tokens or 0) - (before.tokens or 0)
        paid = (log.spent.nanousd or 0) - (before.nanousd or 0)
    assert abs(planned.input_tokens + planned.output_tokens - taken) <= 0.15 * taken
    assert planned.nanousd is not None and planned.nanousd_max is not None
    assert abs(planned.nanousd - paid) <= 0.15 * paid
    assert paid <= planned.nanousd_max


def test_a_replay_without_a_server_gives_the_same_rows(tmp_path: Path) -> None:
    with serving(honest()) as server, CallLog(tmp_path / "log") as log:
        collect(dialogues(20), {"teacher": endpoint_at(server.url)}, log)
        rows = list(replay(dialogues(20), ENDPOINTS, log))
    with CallLog(tmp_path / "log", read_only=True) as log:
        assert list(replay(dialogues(21), ENDPOINTS, log)) == [*rows, None]
    assert all(isinstance(row, str) for row in rows)


def test_the_same_texts_come_from_a_log_that_was_written_in_another_order(tmp_path: Path) -> None:
    with serving(honest()) as server:
        calls = [call(str(i)) for i in range(30)]
        _, ordered = run(calls, endpoint_at(server.url), tmp_path / "a")
        run(calls[::-1], endpoint_at(server.url, concurrency=3), tmp_path / "b")
        _, reversed_ = run(calls, endpoint_at(server.url), tmp_path / "b")
    assert texts(ordered) == texts(reversed_)
