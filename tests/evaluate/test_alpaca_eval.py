"""AlpacaEval: published annotations give the published figures, and a run writes the same files
again without asking.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faulty_server import FaultyServer, serving
from judging_server import endpoints_file, judging, written
from real_data import real_path
from shell import refusal, shell
from zephyr_fast.endpoint.call import Choice, TokenLogprob
from zephyr_fast.evaluate.alpaca_eval import is_model_first, weight
from zephyr_fast.evaluate.asking import Reply
from zephyr_fast.evaluate.result import read_result
from zephyr_fast.evaluate.win_rate import win_rate
from zephyr_fast.judge.scale import Unread

PUBLISHED = {
    "zephyr-7b-beta.alpaca_eval_gpt4": (90.59775840597759, 1.0287080531312012, 803, 727),
    "zephyr-7b-alpha.alpaca_eval_gpt4": (85.7587064676617, 1.2285451680, 804, 688),
    "gpt4_gamed.weighted_gpt4_turbo": (3.7383373713788823, 0.6278799633668313, 805, 32),
}
COUNT = 12


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_annotations_give_the_published_figures(name: str, tmp_path: Path) -> None:
    file = real_path(f"eval/alpaca_eval_results/{name}.annotations.json.gz")
    done = shell("evaluate", "score", file, "--out", tmp_path / "r.json", "--allow-holes")
    assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "r.json")
    rate, stderr, n, wins = PUBLISHED[name]
    overall = result.figures["overall"]
    # The published digits are those of sums in floating point, ours of exact ones.
    assert overall.value == pytest.approx(rate, rel=4e-16)
    assert overall.stderr == pytest.approx(stderr, rel=1e-10)
    assert (overall.n, result.n, overall.holes) == (n, n, 805 - n)
    assert result.figures["wins"].value == pytest.approx(100 * wins / n)
    assert f"{overall.value:.4f} ± {overall.stderr:.4f}" in done.stdout


def test_gpt4_gameds_discrete_rate_is_the_published_one(tmp_path: Path) -> None:
    file = real_path("eval/alpaca_eval_results/gpt4_gamed.weighted_gpt4_turbo.annotations.json.gz")
    assert shell("evaluate", "score", file, "--out", tmp_path / "r.json").returncode == 0
    assert read_result(tmp_path / "r.json").figures["discrete"].value == 4.099378881987578


def annotation(number: int, preference: object) -> dict[str, Any]:
    return {
        "instruction": f"Do {number}",
        "output_1": "a",
        "generator_1": "old",
        "output_2": "b",
        "generator_2": "new",
        "annotator": "judge",
        "preference": preference,
    }


def test_a_hole_means_no_figure_unless_it_is_allowed(tmp_path: Path) -> None:
    file = written(tmp_path / "a.json", [annotation(n, p) for n, p in enumerate([1.0, 2.0, None])])
    line = refusal(3, "evaluate", "score", file, "--out", tmp_path / "r.json")
    assert "1 of 3 scores of new are missing (missing: 1)" in line and "--allow-holes" in line
    done = shell("evaluate", "score", file, "--out", tmp_path / "r.json", "--allow-holes")
    assert "50.0000" in done.stdout and "(n 2)" in done.stdout
    assert done.stderr.startswith("warning: 1 of 3 scores")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([annotation(1, 1.0), annotation(1, 2.0)], "row 2 repeats the instruction of row 1"),
        ([annotation(1, 3.0)], "row 1: the preference 3.0 is not between 1 and 2"),
        ([annotation(1, "2")], "row 1: the preference is '2', not a number"),
        (
            [annotation(1, 1), annotation(2, 1) | {"annotator": "x"}],
            "row 2 has another `annotator`",
        ),
        ([{"instruction": "x"}], "row 1: `generator_1` is missing"),
        ([7], "item 1 is 7, not an object"),
        ([], "has no rows"),
    ],
)
def test_a_row_that_cannot_be_counted_is_named(
    rows: list[object], words: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "a.json", rows)
    assert words in refusal(4, "evaluate", "score", file, "--out", tmp_path / "r.json")


def test_draws_count_half_and_the_order_of_rows_changes_no_digit() -> None:
    assert win_rate([0, 1.5, 2.0, 1.0]).value == 50.0
    values = [1 + n / 700 for n in range(700)]
    assert win_rate(values) == win_rate(values[::-1])
    assert win_rate([2.0]).stderr is None and win_rate([None]).value is None


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with serving(judging()) as running:
        yield running


def job(folder: Path, url: str, *more: str | Path) -> list[str | Path]:
    rows = [{"instruction": f"Do {n} {{output_a}}", "dataset": "d"} for n in range(COUNT)]
    base = [row | {"output": f"old {n}", "generator": "old"} for n, row in enumerate(rows)]
    files = [written(folder / "set.json", rows), written(folder / "base.jsonl", base)]
    words: list[str | Path] = ["evaluate", "alpaca-eval", "--set", files[0], "--baseline", files[1]]
    words += ["--answers-from", "student", "--judge", "judge"]
    return [*words, "--endpoints", endpoints_file(folder, url), "--out", folder / "out", *more]


@pytest.mark.parametrize("method", ["letter", "weighted"])
def test_a_run_asks_once_and_its_annotations_give_its_result(
    method: str, server: FaultyServer, tmp_path: Path
) -> None:
    words = job(tmp_path, server.url, "--verdict", method)
    done = shell(*words)
    assert done.returncode == 0, done.stderr
    assert len(server.asked) == 2 * COUNT
    files = ["outputs.json", "annotations/judge.json", "results/judge.json"]
    first = {name: (tmp_path / "out" / name).read_bytes() for name in files}
    assert shell(*words).stdout == done.stdout and len(server.asked) == 2 * COUNT
    assert {name: (tmp_path / "out" / name).read_bytes() for name in files} == first
    result = read_result(tmp_path / "out" / files[2])
    assert (result.judge, result.judge_versions) == ("judge-chat", ("judge-v1",))
    assert (result.judge_fingerprints, result.n, result.rules) == (("fp1",), COUNT, method)
    again = tmp_path / "again.json"
    assert shell("evaluate", "score", tmp_path / "out" / files[1], "--out", again).returncode == 0
    assert read_result(again).figures == result.figures
    assert read_result(again).questions == result.questions
    rows = json.loads(first["annotations/judge.json"])
    orders = {tuple(row["order"]) for row in rows}
    assert orders == {(1, 2), (2, 1)}, "both orders occur"


def test_the_order_is_undone_and_braces_in_texts_stay(tmp_path: Path) -> None:
    def always_a(prompt: str) -> str | None:
        return "[[A]]" if "[[B]]" in prompt else None

    with serving(judging(always_a)) as server:
        assert shell(*job(tmp_path, server.url)).returncode == 0
        asked = [one.fields["messages"][-1]["content"] for one in server.asked]
    assert any("Do 3 {output_a}" in prompt and "old 3" in prompt for prompt in asked)
    for row in json.loads((tmp_path / "out" / "annotations" / "judge.json").read_text()):
        first = is_model_first(1, row["instruction"])
        assert row["preference"] == (2.0 if first else 1.0)
        prompt = next(one for one in asked if row["instruction"] in one and "[[A]]" in one)
        assert (prompt.index(row["output_2"]) < prompt.index(row["output_1"])) == first


def test_a_judge_without_a_verdict_makes_holes_and_other_settings_are_refused(
    tmp_path: Path,
) -> None:
    with serving(judging(lambda prompt: "答案很好" if "[[A]]" in prompt else None)) as server:
        words = job(tmp_path, server.url)
        assert "12 of 12 scores of student-chat are missing (no_verdict: 12)" in refusal(3, *words)
        assert "belongs to a run with another seed" in refusal(5, *words, "--seed", "2")


def test_cut_verdicts_do_not_count(tmp_path: Path) -> None:
    def finish(prompt: str) -> str:
        return "length" if "[[A]]" in prompt else "stop"

    with serving(judging(finish=finish)) as server:
        assert "(cut: 12)" in refusal(3, *job(tmp_path, server.url))


def test_outputs_that_do_not_fit_the_set_are_named(server: FaultyServer, tmp_path: Path) -> None:
    words = job(tmp_path, server.url)
    base = [{"instruction": f"Other {n}", "output": "x", "generator": "g"} for n in range(COUNT)]
    written(tmp_path / "base.jsonl", base)
    assert "row 1 has a different instruction than the set" in refusal(4, *words)
    written(tmp_path / "base.jsonl", base[:3])
    assert "has 3 outputs for 12 instructions" in refusal(4, *words)


def reply(**logprobs: float) -> Reply:
    top = tuple(logprobs.items())
    return Reply(Choice("A", "stop", (TokenLogprob("A", -1.0, top),)), "")


def test_the_weight_is_the_share_of_b() -> None:
    assert weight(reply(A=-1.0, B=-1.0)) == 0.5
    assert weight(reply(A=-1.0)) == 0.0 and weight(reply(B=-2.0)) == 1.0
    assert isinstance(weight(reply(The=-0.1)), Unread)


def test_the_length_controlled_rate_needs_all_rows_and_the_package(tmp_path: Path) -> None:
    rows = [annotation(n, 1.0) for n in range(805)]
    sets = written(tmp_path / "set.json", [{"instruction": row["instruction"]} for row in rows])
    more = ("--set", sets, "--length-controlled", "python3", "--out", tmp_path / "r.json")
    short = written(tmp_path / "short.json", rows[:-1])
    assert "needs all 805 annotations in order" in refusal(4, "evaluate", "score", short, *more)
    swapped = written(tmp_path / "swapped.json", [rows[1], rows[0], *rows[2:]])
    assert "annotation 1 has a different" in refusal(4, "evaluate", "score", swapped, *more)
    whole = written(tmp_path / "whole.json", rows)
    line = refusal(4, "evaluate", "score", whole, *more)
    assert "`python3` cannot compute the length-controlled win rate" in line
    assert "No module named" in line and "setuptools<81" in line
    missing = (*more[:3], tmp_path / "no-python", *more[4:])
    assert "cannot run" in refusal(4, "evaluate", "score", whole, *missing)
