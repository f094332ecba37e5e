"""Feedback on answers becomes raw UltraFeedback rows that `binarize` reads, from a real server."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from answering_server import answering, digest_of
from answering_server import completion as reply
from collecting import MODELS, endpoints_file, prompts_file, read, written
from faulty_server import Asked, answered, completion, refused, serving
from zephyr_fast import _core, binarize
from zephyr_fast.cli import cli
from zephyr_fast.cli.errors import exit_code
from zephyr_fast.dataset.ledger import scan_ledger

POOL = ",".join(MODELS)
ARGILLA = {"binarize.preset": "argilla"}
ASPECTS = {"helpfulness", "honesty", "instruction_following", "truthfulness"}


def run(*words: object, code: int = 0) -> str:
    """Runs the command line in this process; gives its output."""
    found: dict[str, int | None] = {}

    def command() -> int | None:
        return cli(args=[str(word) for word in words], standalone_mode=False)

    runner = CliRunner()
    with runner.isolation() as (out, error, _):
        found["code"] = exit_code(command) or 0
        printed = (out.getvalue() + (error.getvalue() if error else b"")).decode()
    assert found["code"] == code, printed
    return printed


def collect(tmp_path: Path, url: str, count: int, *words: object, code: int = 0) -> str:
    return run(
        "feedback", "collect", "--prompts", prompts_file(tmp_path, count), "--judge", "judge",
        "--endpoints", endpoints_file(tmp_path, url), "--out", tmp_path / "out", *words, code=code,
    )  # fmt: skip


def test_rows_have_the_shape_that_binarize_reads(tmp_path: Path) -> None:
    with serving(answering()) as server:
        said = collect(tmp_path, server.url, 20, "--pool", POOL)
        asked = len(server.asked)
    assert asked == 20 * (4 + 4 + 4), "answers, aspects and critiques"
    assert "20 rows have two or more scores" in said
    rows = read(tmp_path / "out" / "rows.jsonl")
    assert [row["id"] for row in rows] == [f"p{n}" for n in range(20)]
    for row in rows:
        assert len(set(row["models"])) == 4 == len(row["completions"])
        for one in row["completions"]:
            assert set(one["annotations"]) == ASPECTS
            given = [note["Rating"] for note in one["annotations"].values()]
            assert all(rating in "12345" for rating in given)
            assert one["fine-grained_score"] == sum(map(int, given)) / 4
            assert 1 <= one["overall_score"] <= 10
            assert one["critique"].endswith(f"Overall Score: {one['overall_score']:g}")
            assert one["principle"] and one["custom_system_prompt"]
            note = one["annotations"]["honesty"]
            assert note["Rationale"] == "3 claims, 2 of them good"
    assert len({tuple(row["models"]) for row in rows}) > 10, "drawn for each prompt"
    out = tmp_path / "prefs"
    binarize(input=tmp_path / "out" / "rows.jsonl", out=out, tokenizer="sample", overrides=ARGILLA)
    ledger = scan_ledger(out).collect()
    assert len(ledger) == 20 and set(ledger["source_id"]) == {f"p{n}" for n in range(20)}
    assert set(ledger["outcome"]) <= {"written", "dropped"}
    assert (ledger["outcome"] == "written").sum() >= 18, "ties of best and second are dropped"


def test_ratings_belong_to_the_answers_and_not_to_their_positions(tmp_path: Path) -> None:
    """The server rates by an answer's text, so a mistake in the order would show."""
    with serving(answering()) as server:
        collect(tmp_path, server.url, 12, "--pool", POOL, "--swap")
        prompts = {
            asked.fields["messages"][-1]["content"]
            for asked in server.asked
            if "Criterion: helpfulness" in asked.fields["messages"][-1]["content"]
        }
    orders = set()
    for row in read(tmp_path / "out" / "rows.jsonl"):
        (head,) = {one[:400] for one in prompts if row["instruction"] in one}
        for one in row["completions"]:
            wanted = str(1 + digest_of(one["response"], head) % 5)
            assert one["annotations"]["helpfulness"]["Rating"] == wanted
        shown = [
            verdict["order"]
            for verdict in row["_provenance"]["verdicts"]
            if verdict["aspect"] == "helpfulness"
        ]
        assert len(shown) == 2 and shown[0] == shown[1][::-1]
        orders.add(tuple(shown[0]))
    assert len(orders) > 6, "each prompt has an order of its own"


def test_a_rerun_sends_nothing_and_a_replay_needs_no_server(tmp_path: Path) -> None:
    with serving(answering()) as server:
        collect(tmp_path, server.url, 5, "--pool", POOL)
        rows = (tmp_path / "out" / "rows.jsonl").read_bytes()
        sent = len(server.asked)
        assert "0 answered now" in collect(tmp_path, server.url, 5, "--pool", POOL)
        assert len(server.asked) == sent
        url = server.url
    summary = json.loads((tmp_path / "out" / "_log" / "summary.json").read_text())
    for name in ("rows.jsonl", "_log/summary.json"):
        (tmp_path / "out" / name).unlink()
    collect(tmp_path, url, 5, "--pool", POOL, "--replay")
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == rows
    assert json.loads((tmp_path / "out" / "_log" / "summary.json").read_text()) == summary


def test_a_replay_without_a_log_leaves_no_directory(tmp_path: Path) -> None:
    said = collect(tmp_path, "http://127.0.0.1:9/v1", 1, "--pool", POOL, "--replay", code=4)
    assert "no log to replay" in said and not (tmp_path / "out").exists()


def test_a_replay_of_half_a_log_writes_no_rows(tmp_path: Path) -> None:
    with serving(answering()) as server:
        collect(tmp_path, server.url, 3, "--pool", POOL)
        log = tmp_path / "out" / "_log" / "calls.jsonl"
        lines = log.read_bytes().splitlines(keepends=True)
        log.write_bytes(b"".join(lines[: len(lines) // 2]))
        (tmp_path / "out" / "rows.jsonl").unlink()
        said = collect(tmp_path, server.url, 3, "--pool", POOL, "--replay", code=11)
    assert "not complete" in said and not (tmp_path / "out" / "rows.jsonl").exists()


def test_other_settings_do_not_continue_in_a_directory(tmp_path: Path) -> None:
    with serving(answering()) as server:
        collect(tmp_path, server.url, 2, "--pool", POOL)
        before = len(server.asked)
        for words, named in (
            (("--pool", POOL, "--k", 3), "k"),
            (("--pool", POOL, "--seed", 2), "seed"),
            (("--pool", "alpha,beta"), "endpoints, k, pool"),
            (("--pool", POOL, "--swap"), "swap"),
        ):
            said = collect(tmp_path, server.url, 2, *words, code=5)
            assert f"a run with another {named}" in said
        assert len(server.asked) == before
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "letter.txt").write_text("mine")
    said = run(
        "feedback", "collect", "--prompts", tmp_path / "prompts.jsonl", "--judge", "judge",
        "--pool", POOL, "--endpoints", tmp_path / "endpoints.toml", "--out", tmp_path / "strange",
        code=5,
    )  # fmt: skip
    assert "holds other files" in said


def test_a_family_can_be_added_later(tmp_path: Path) -> None:
    words = ["--prompts", prompts_file(tmp_path, 2), "--pool", "alpha,beta", "--judge", "judge"]
    with serving(answering()) as server:
        collect(tmp_path, server.url, 2, *words[2:4])
        rows, sent = (tmp_path / "out" / "rows.jsonl").read_bytes(), len(server.asked)
        file = endpoints_file(tmp_path, server.url, family="mine")
        run("feedback", "collect", *words, "--endpoints", file, "--out", tmp_path / "out")
        assert len(server.asked) == sent
    assert (tmp_path / "out" / "rows.jsonl").read_bytes() == rows
    settings = json.loads((tmp_path / "out" / "_log" / "settings.json").read_text())
    assert set(settings["families"].values()) == {"mine"}


def test_a_verdict_that_cannot_be_read_is_no_score(tmp_path: Path) -> None:
    with serving(answering(ignores_form=4)) as server:
        collect(tmp_path, server.url, 30, "--pool", POOL)
    rows = read(tmp_path / "out" / "rows.jsonl")
    summary = json.loads((tmp_path / "out" / "_log" / "summary.json").read_text())
    faults = summary["faults"]["judge"]
    assert set(faults) == {"no_section", "repeated_section", "no_verdict", "several_verdicts"}
    seen = 0
    for row in rows:
        for number, one in enumerate(row["completions"]):
            overall, *aspects = (
                [
                    verdict["scores"][verdict["order"].index(number)]
                    for verdict in row["_provenance"]["verdicts"]
                    if verdict["aspect"] in kind and number in verdict["order"]
                ]
                for kind in ({"overall"}, ASPECTS)
            )
            assert (one["overall_score"] is None) == (None in overall)
            given = [note["Rating"] for note in one["annotations"].values()]
            is_unrated = None in aspects[0]
            assert is_unrated == (given == [None] * 4) and is_unrated == (None in given)
            assert is_unrated == (one["fine-grained_score"] is None)
            seen += is_unrated
    assert seen
    binarize(
        input=tmp_path / "out" / "rows.jsonl",
        out=tmp_path / "prefs",
        tokenizer="sample",
        overrides=ARGILLA,
    )


def test_expected_verdicts_come_from_log_probs(tmp_path: Path) -> None:
    with serving(answering()) as server:
        collect(tmp_path, server.url, 6, "--pool", "alpha,beta", "--verdict", "expected")
        asked = [asked.fields for asked in server.asked]
    assert len(asked) == 6 * 2 * (1 + 5)
    assert {one["max_tokens"] for one in asked if one.get("logprobs")} == {1}
    for row in read(tmp_path / "out" / "rows.jsonl"):
        assert row["_provenance"]["method"] == "expected"
        for one in row["completions"]:
            assert one["critique"] is None
            rating = float(one["annotations"]["honesty"]["Rating"])
            # 0.6 on one of five digits and 0.02 on each other one.
            assert any(
                rating == pytest.approx((0.6 * n + 0.02 * (15 - n)) / 0.68) for n in range(1, 6)
            )
            overall = one["overall_score"]
            assert any(
                overall == pytest.approx(1 + (0.6 * n + 0.02 * (45 - n)) / 0.78) for n in range(10)
            )


def test_a_student_answers_on_policy(tmp_path: Path) -> None:
    with serving(answering()) as server:
        collect(
            tmp_path, server.url, 8, "--pool", "alpha", "--student", "beta", "--samples", 2
        )  # fmt: skip
        students = [one.fields for one in server.asked if one.fields["model"] == "beta-chat"]
    assert len(students) == 16 and all(len(one["messages"]) == 1 for one in students)
    for row in read(tmp_path / "out" / "rows.jsonl"):
        assert sorted(row["models"]) == ["alpha", "beta", "beta"]
        for one, answer in zip(row["completions"], row["_provenance"]["answers"], strict=True):
            assert bool(one["custom_system_prompt"]) == (one["model"] == "alpha")
            assert answer["model"] == f"{one['model']}-chat"


def test_a_student_that_is_also_in_the_pool_answers_once_more(tmp_path: Path) -> None:
    """The same call would be answered once, and its text counted as two answers."""
    words = ("--pool", "alpha,beta", "--student", "alpha", "--samples", 2, "--principles", "none")
    with serving(answering()) as server:
        collect(tmp_path, server.url, 8, *words)
        asked = [one.fields for one in server.asked if one.fields["model"] == "alpha-chat"]
    assert len(asked) == 24
    for row in read(tmp_path / "out" / "rows.jsonl"):
        assert sorted(row["models"]) == ["alpha", "alpha", "alpha", "beta"]
        answers = row["_provenance"]["answers"]
        assert len({one["key"] for one in answers}) == 4
        assert sorted(one["sample"] for one in answers) == [0, 0, 1, 2]


def test_the_student_may_be_the_judge(tmp_path: Path) -> None:
    with serving(answering()) as server:
        collect(tmp_path, server.url, 4, "--pool", "alpha,beta", "--student", "judge")
    for row in read(tmp_path / "out" / "rows.jsonl"):
        assert sorted(row["models"]) == ["alpha", "beta", "judge"]


def test_a_model_that_refuses_leaves_the_others(tmp_path: Path) -> None:
    refusal = refused("400 Bad Request", "content_filter", code="content_filter")
    fine = answering()

    async def picky(asked: Any, writer: Any) -> bool:
        if asked.fields["model"] == "alpha-chat":
            writer.write(refusal)
            return True
        assert not isinstance(fine, bytes)
        return await fine(asked, writer)

    with serving(picky) as server:
        said = collect(tmp_path, server.url, 3, "--pool", "alpha,beta,gamma")
    assert "answers of `alpha` that are missing: refused: 3" in said
    for row in read(tmp_path / "out" / "rows.jsonl"):
        assert sorted(row["models"]) == ["beta", "gamma"]
        assert row["_provenance"]["failed"] == [{"model": "alpha", "reason": "refused"}]


def test_equal_answers_are_reported(tmp_path: Path) -> None:
    judge = answering()

    async def same(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        if asked.fields["model"] == "judge-chat" and not isinstance(judge, bytes):
            return await judge(asked, writer)
        writer.write(answered(completion("the same")))
        return True

    with serving(same) as server:
        said = collect(tmp_path, server.url, 2, "--pool", "alpha,beta")
    assert "2 rows have only equal answers" in said


def test_a_dry_run_counts_what_the_run_then_sends(tmp_path: Path) -> None:
    with serving(answering()) as server:
        words = ("--pool", POOL, "--swap", "--json")
        forecast = json.loads(collect(tmp_path, server.url, 7, *words, "--dry-run"))
        assert not server.asked and not (tmp_path / "out").exists()
        collect(tmp_path, server.url, 7, *words)
        assert sum(one["calls"] for one in forecast) == len(server.asked) == 7 * (4 + 8 + 4)
        again = json.loads(collect(tmp_path, server.url, 7, *words, "--dry-run"))
        assert not sum(one["calls"] for one in again)


def test_a_budget_stops_the_run_and_a_higher_one_finishes_it(tmp_path: Path) -> None:
    with serving(answering()) as server:
        words = ("--pool", POOL, "--max-tokens", 50, "--judge-max-tokens", 200)
        said = collect(tmp_path, server.url, 10, *words, "--budget", 0.02, code=10)
        assert "of $0.0200 are spent" in said and not (tmp_path / "out" / "rows.jsonl").exists()
        sent = len(server.asked)
        collect(tmp_path, server.url, 10, *words, "--budget", 2)
        assert len(server.asked) - sent < 120 and len(server.asked) == 120


def test_an_endpoint_that_answers_as_several_models_is_a_warning(tmp_path: Path) -> None:
    async def fallback(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        fields = reply(asked.fields)
        if "Question number 1?" in str(asked.fields) and fields["model"] == "alpha-chat":
            fields["model"] = "small\x1b[2J"
        writer.write(answered(fields))
        return True

    with serving(fallback) as server:
        said = collect(tmp_path, server.url, 3, "--pool", "alpha,beta")
        assert "answered as several" not in collect(tmp_path, server.url, 3, "--pool", "alpha,beta")
    assert said.count("answered as several models") == 1
    assert "`alpha` answered as several models (alpha-chat: 2, small\\x1b[2J: 1)" in said


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    for words, named in (
        (("--pool", "alpha"), "2 to 9 answers"),
        (("--pool", "alpha,beta", "--k", 3), "`--k` must be"),
        (("--pool", "alpha,beta", "--samples", 2), "requires `--student`"),
        (("--pool", "alpha,beta", "--verdict", "expected", "--swap"), "`--swap` has no effect"),
        (("--pool", "alpha,beta", "--mass-min", 0.1), "--mass-min has no effect"),
        (("--pool", "alpha,,beta"), "different names"),
        (
            ("--pool", "alpha", "--k", 0, "--student", "beta", "--samples", 2),
            "`--pool` has no effect with `--k 0`",
        ),
        (("--pool", "alpha,beta", "--temperature", "nan"), "nan is not a number"),
        (("--pool", "alpha,beta", "--budget", "nan"), "nan is not a number"),
        (("--pool", "alpha,beta", "--mass-min", "nan"), "nan is not a number"),
        (("--pool", "alpha,beta", "--max-tokens", 10**30), "not in the range"),
    ):
        said = collect(tmp_path, "http://127.0.0.1:9/v1", 1, *words, code=2)
        assert named in said
    said = collect(tmp_path, "http://127.0.0.1:9/v1", 1, "--pool", "alpha,zeta", code=4)
    assert "no endpoint `zeta`" in said
    assert not (tmp_path / "out").exists()


def test_prompts_are_read_or_refused(tmp_path: Path) -> None:
    from zephyr_fast.collection import prompts

    twice = written(
        tmp_path / "a.jsonl", [{"prompt": "One?"}, {"instruction": "One?"}, {"prompt": "Two?"}]
    )
    found = prompts.load([twice])
    assert [one.text for one in found.rows] == ["One?", "Two?"] and found.repeated == 1
    assert [one.text for one in prompts.load([twice], limit=1).rows] == ["One?"]
    for rows, named in (
        ([{"text": "One?"}], "has no `instruction`"),
        ([{"prompt": " "}], "has no `instruction`"),
        ([{"prompt": "a", "instruction": "b"}], "differ"),
        ([{"prompt": ["a"]}], "is not a text"),
        ([{"id": "x", "prompt": "a"}, {"id": "x", "prompt": "b"}], ":2: the id"),
        ([["a"]], "not a JSON object"),
        ([{"prompt": "\ud800"}], "lone surrogate"),
        ([], "no prompts"),
    ):
        with pytest.raises(_core.InputError, match=named):
            prompts.load([written(tmp_path / "b.jsonl", rows)])


def test_the_text_of_prep_can_be_used_as_prompts(tmp_path: Path) -> None:
    from zephyr_fast import prep
    from zephyr_fast.collection import prompts

    prep(input="sample", out=tmp_path / "shards")
    found = prompts.load([tmp_path / "shards" / "text"], limit=3)
    assert len(found.rows) == 3 and all(len(one.id) == 64 for one in found.rows)


def test_feedback_without_two_scores_is_no_success(tmp_path: Path) -> None:
    with serving(answered(completion("我不会打分。"))) as server:
        said = collect(tmp_path, server.url, 3, "--pool", "alpha,beta", code=3)
        assert "none of the 3 rows in" in said and "(no_section: 24, no_verdict: 6)" in said
    assert len(read(tmp_path / "out" / "rows.jsonl")) == 3
