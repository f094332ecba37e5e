"""Files of other programs and versions: each figure is exact, or it is refused by name."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faulty_server import serving
from judging_server import endpoints_file, judging, written
from real_data import real_path
from shell import refusal, shell
from zephyr_fast._core import InputError
from zephyr_fast.evaluate.alpaca_eval import read_outputs, read_set
from zephyr_fast.evaluate.leaderboard import TASKS, Job, run
from zephyr_fast.evaluate.mt_bench import read_questions
from zephyr_fast.evaluate.result import Result, read_result
from zephyr_fast.evaluate.rows import read_rows

SET = [{"instruction": f"Question {n}?", "dataset": "d"} for n in range(3)]
OUTPUTS = [row | {"output": f"old {n}", "generator": "old"} for n, row in enumerate(SET)]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda rows: rows.reverse(), "row 1 has a different instruction than the set"),
        (lambda rows: rows.append(rows[0]), "row 4 repeats the instruction of row 1"),
        (lambda rows: rows.pop(), "has 2 outputs for 3 instructions"),
        (lambda rows: rows[1].pop("generator"), "row 2: `generator` is missing"),
        (lambda rows: rows[1].update(generator=""), "row 2 has no `generator`"),
        (lambda rows: rows[1].update(generator=None), "row 2: `generator` is None, not text"),
        (lambda rows: rows[1].update(generator="b"), "needs one `generator` in all rows, not 2"),
        (lambda rows: rows[2].pop("output"), "row 3: `output` is missing"),
        (lambda rows: rows[2].update(output="\ud800"), "row 3: `output` has a lone surrogate"),
    ],
)
def test_outputs_of_others_are_those_of_the_set_or_refused(
    edit: Callable[[list[dict[str, Any]]], Any], words: str, tmp_path: Path
) -> None:
    rows = [dict(row) for row in OUTPUTS]
    edit(rows)
    instructions = read_set(written(tmp_path / "set.json", SET))
    with pytest.raises(InputError, match=words):
        read_outputs(written(tmp_path / "outputs.json", rows), instructions)


def test_the_published_baseline_is_read_with_its_empty_outputs(tmp_path: Path) -> None:
    instructions = read_set(real_path("eval/alpaca_eval_805.jsonl"))
    outputs = read_outputs(real_path("eval/alpaca_eval_805_text_davinci_003.jsonl"), instructions)
    assert [n for n, row in enumerate(outputs, start=1) if not row.output] == [248, 505]
    rows = [row | {"output": "", "generator": "new"} for row in SET]
    with serving(judging()) as server:
        words: list[str | Path] = ["evaluate", "alpaca-eval", "--judge", "judge"]
        words += ["--set", written(tmp_path / "set.json", SET)]
        words += ["--baseline", written(tmp_path / "old.json", OUTPUTS)]
        words += ["--outputs", written(tmp_path / "new.json", rows)]
        words += ["--endpoints", endpoints_file(tmp_path, server.url), "--out", tmp_path / "out"]
        done = shell(*words)
        assert done.returncode == 0, done.stderr
        assert len(server.asked) == 3
    assert "0 outputs of the baseline and 3 of the model are empty" in done.stdout


def test_a_set_with_an_empty_instruction_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 1 has an empty `instruction`"):
        read_set(written(tmp_path / "set.json", [{"instruction": " "}]))


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    for name in ("rows.json", "rows.jsonl"):
        path = written(tmp_path / name, SET)
        plain = read_rows(path)
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert read_rows(path) == plain


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_another_encoding_is_named(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(json.dumps(SET).encode(encoding))
    with pytest.raises(InputError, match=r"`:1: invalid JSON: 'utf-8' codec"):
        read_rows(path)


def test_a_damaged_archive_is_one_line_wherever_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    content = gzip.compress(json.dumps(SET * 20).encode())
    for place in range(2, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x5A
        path.write_bytes(damaged)
        try:
            read_rows(path)
        except InputError:
            continue
        assert place < 10, "only the header has bytes that nobody checks"


@pytest.mark.parametrize("turn", [" ", "\n", "\ud800"])
def test_a_question_without_text_is_named(turn: str, tmp_path: Path) -> None:
    rows = [{"question_id": 1, "category": "math", "turns": ["a", turn]}]
    with pytest.raises(InputError, match="row 1: question 1 has"):
        read_questions(written(tmp_path / "questions.jsonl", rows), None)


def test_results_of_other_questions_are_not_compared(tmp_path: Path) -> None:
    results = []
    with serving(judging()) as server:
        for name, text in (("one", "Why?"), ("two", "How?")):
            rows = [
                {"question_id": n, "category": "stem", "turns": [text, "And?"]} for n in range(2)
            ]
            questions = written(tmp_path / f"{name}.jsonl", rows)
            words: list[str | Path] = ["evaluate", "mt-bench", "--questions", questions]
            words += ["--no-references", "--answers-from", "student", "--judge", "judge"]
            words += ["--endpoints", endpoints_file(tmp_path, server.url), "--name", name]
            done = shell(*words, "--out", tmp_path / name)
            assert done.returncode == 0, done.stderr
            results.append(tmp_path / name / "results" / "judge.json")
    assert "`questions`: " in refusal(4, "compare", *results)
    assert "`questions`: " in refusal(4, "radar", *results, "--out", tmp_path / "radar.png")
    assert not list(tmp_path.glob("radar.*")), "what is refused is not drawn"


def report(name: str, scores: dict[str, Any], n: int = 40) -> dict[str, Any]:
    """A report as lm-eval 0.4 writes it."""
    return {
        "results": {name: {"alias": name, **scores}},
        "n-samples": {name: {"original": n, "effective": n}},
        "versions": {name: 1.0},
        "n-shot": {name: 0},
        "lm_eval_version": "0.4.13",
    }


def result_of(out: Path, reports: dict[str, dict[str, Any]]) -> Result:
    """The result of tasks that lm-eval has finished before."""
    model = real_path("models/aidreams260K")
    for name, content in reports.items():
        folder = out / "lm-eval" / name / "model"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results_2026.json").write_text(json.dumps(content))
    job = Job(model, "0", list(reports), "/nowhere/python")
    from zephyr_fast.collection.directory import Directory

    claimed = Directory(out.with_name("claimed"))
    claimed.claim(job.settings())
    (out / "_log").mkdir(exist_ok=True)
    (out / "_log" / "settings.json").write_bytes(
        (claimed.path / "_log" / "settings.json").read_bytes()
    )
    return run(job, Directory(out))


def test_metrics_in_another_unit_are_no_percentages(tmp_path: Path) -> None:
    scores = {
        "word_perplexity,none": 23.25,
        "word_perplexity_stderr,none": "N/A",
        "bits_per_byte,none": 0.75,
        "bleu_max,none": 12.5,
        "bleu_acc,none": 0.25,
        "prompt_level_strict_acc,none": 0.5,
        "exact_match,strict-match": 0.125,
    }
    result = result_of(tmp_path / "out", {"wikitext": report("wikitext", scores)})
    assert {name: one.value for name, one in result.figures.items()} == {
        "wikitext bleu_acc": 25.0,
        "wikitext prompt_level_strict_acc": 50.0,
        "wikitext exact_match,strict-match": 12.5,
    }
    assert result.notes == (
        "wikitext word_perplexity: 23.25, in lm-eval's unit",
        "wikitext bits_per_byte: 0.75, in lm-eval's unit",
        "wikitext bleu_max: 12.5, in lm-eval's unit",
    )
    assert read_result(tmp_path / "out" / "results" / "leaderboard.json") == result


ARC = "arc_challenge"
GOOD = {"acc_norm,none": 0.5, "acc_norm_stderr,none": 0.1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (report(ARC, {"acc_norm,none": float("nan")}), "`acc_norm,none` is nan, not a number"),
        (report(ARC, {"acc_norm,none": None}), "`acc_norm,none` is None, not a number"),
        (report(ARC, {"acc_norm,none": "0.5"}), "`acc_norm,none` is '0.5', not a number"),
        (report(ARC, {"acc_norm,none": 50.0}), "`acc_norm,none` is 50, not a share from 0 to 1"),
        (report(ARC, GOOD | {"acc_norm_stderr,none": float("inf")}), "_stderr` is inf, not a num"),
        (report(ARC, {"acc_norm": 0.5}), "have no 'acc_norm,none'; results of version 0.4.13"),
        ({"results": {ARC: GOOD}, "versions": {ARC: 0}}, "have no 'n-samples'; results of"),
        ({"results": []}, "cannot read lm-eval's results of arc_challenge"),
        ([], "cannot read lm-eval's results of arc_challenge"),
    ],
)
def test_reports_of_another_version_are_refused_by_name(
    content: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        result_of(tmp_path / "out", {ARC: content})
    assert not (tmp_path / "out" / "results").exists()


def test_without_variation_there_is_no_interval(tmp_path: Path) -> None:
    reports = {
        name: report(name, {f"{task.metric},none": 1.0, f"{task.metric}_stderr,none": 0.0})
        for name, task in TASKS.items()
    }
    result = result_of(tmp_path / "out", reports)
    assert result.figures["overall"].value == 100.0
    assert {one.low for one in result.figures.values()} == {None}
