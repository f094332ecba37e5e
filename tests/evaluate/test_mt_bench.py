"""MT-Bench: runs are resumed, holes have reasons, and figures equal those of FastChat."""

import importlib.util
import json
import os
import random
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from faulty_server import serving
from judging_server import endpoints_file, judging, written
from real_data import real_path
from shell import refusal, shell
from zephyr_fast.evaluate.mt_bench import TEMPERATURES, prompts_of, read_questions
from zephyr_fast.evaluate.mt_bench_scores import (
    Questions,
    check_judgments,
    fastchat_rating,
    figures_of,
    strict_rating,
)
from zephyr_fast.evaluate.result import read_result
from zephyr_fast.judge.scale import Unread

CATEGORIES = tuple(TEMPERATURES)
FASTCHAT = os.environ.get("ZEPHYR_FAST_FASTCHAT", "")
needs_fastchat = pytest.mark.skipif(
    not Path(FASTCHAT, "show_result.py").is_file(),
    reason="set ZEPHYR_FAST_FASTCHAT to FastChat's directory llm_judge",
)


def questions(count: int = 16) -> list[dict[str, Any]]:
    return [
        {
            "question_id": 81 + n,
            "category": CATEGORIES[n % 8],
            "turns": [f"First {n}?", f"Then {n}?"],
        }
        for n in range(count)
    ]


def references(count: int = 16) -> list[dict[str, Any]]:
    return [
        {"question_id": one["question_id"], "choices": [{"turns": ["ref one", "ref two"]}]}
        for one in questions(count)
        if one["category"] in ("math", "reasoning", "coding")
    ]


def job(folder: Path, url: str, *more: str | Path, judges: str = "judge") -> list[str | Path]:
    words: list[str | Path] = ["evaluate", "mt-bench"]
    words += ["--questions", written(folder / "questions.jsonl", questions())]
    words += ["--references", written(folder / "references.jsonl", references())]
    words += ["--answers-from", "student", "--judge", judges]
    return [*words, "--endpoints", endpoints_file(folder, url), "--out", folder / "out", *more]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_asks_each_turn_once_and_continues_without_asking(tmp_path: Path) -> None:
    with serving(judging()) as server:
        words = job(tmp_path, server.url, judges="judge,second-judge")
        done = shell(*words)
        assert done.returncode == 0, done.stderr
        assert len(server.asked) == 32 + 2 * 32
        out = tmp_path / "out"
        before = {path: path.read_bytes() for path in out.rglob("*.json*")}
        assert shell(*words).stdout == done.stdout and len(server.asked) == 96
        assert {path: path.read_bytes() for path in out.rglob("*.json*")} == before
        bodies = [one.fields for one in server.asked]
    answers = [one for one in bodies if one["model"] == "student-chat"]
    second = [one for one in answers if len(one["messages"]) == 3]
    assert len(second) == 16 and all(one["messages"][1]["role"] == "assistant" for one in second)
    for one in answers:
        number = int(one["messages"][0]["content"].removeprefix("First ").removesuffix("?"))
        assert one["temperature"] == TEMPERATURES[CATEGORIES[number % 8]]
        assert one["max_tokens"] == 1024
    judged = [one for one in bodies if one["model"] == "judge-chat"]
    assert {one["temperature"] for one in judged} == {0.0}
    with_reference = [one for one in judged if "ref one" in one["messages"][-1]["content"]]
    assert len(with_reference) == 2 * len(references())
    rows = rows_of(out / "model_judgment" / "judge_single.jsonl")
    assert {(row["question_id"], row["turn"]) for row in rows} == {
        (n, turn) for n in range(81, 97) for turn in (1, 2)
    }
    result = read_result(out / "results" / "second-judge.json")
    assert (result.judge, result.n, result.figures["overall"].n) == ("second-judge-chat", 32, 32)
    assert list(result.figures) == ["overall", "turn 1", "turn 2", *CATEGORIES]
    assert result.figures["math"].n == 4
    assert read_result(out / "results" / "judge.json").figures["overall"].value == pytest.approx(
        sum(row["score"] for row in rows) / 32, abs=1e-12
    )
    again = tmp_path / "again.json"
    file = out / "model_judgment" / "judge_single.jsonl"
    words = ["evaluate", "score", file, "--questions", tmp_path / "questions.jsonl", "--out", again]
    assert shell(*words).returncode == 0
    figures = read_result(out / "results" / "judge.json").figures
    assert read_result(again).figures == figures


def test_a_hole_is_a_reason_and_no_mean(tmp_path: Path) -> None:
    def verdict(prompt: str) -> str | None:
        if "[[5]]" not in prompt:
            return None
        if "Then 3?" in prompt:
            return "[[7]] or [[8]]"
        return "评分:八分" if "First 5?" in prompt else None

    with serving(judging(verdict)) as server:
        words = job(tmp_path, server.url)
        line = refusal(3, *words)
        assert "3 of 32 scores of student-chat are missing" in line
        assert "(no_verdict: 2, several_verdicts: 1)" in line
        done = shell(*words, "--allow-holes")
    assert done.returncode == 0 and "(n 29)" in done.stdout
    rows = rows_of(tmp_path / "out" / "model_judgment" / "judge_single.jsonl")
    assert {row.get("hole") for row in rows if row["score"] == -1} == {
        "no_verdict",
        "several_verdicts",
    }
    assert not [row for row in rows if row["score"] != -1 and "hole" in row]
    figures = read_result(tmp_path / "out" / "results" / "judge.json").figures
    assert (figures["extraction"].n, figures["extraction"].holes) == (2, 2)


def test_an_answer_that_fails_is_not_judged(tmp_path: Path) -> None:
    def verdict(prompt: str) -> str | None:
        return "" if prompt == "Then 2?" else None

    with serving(judging(verdict)) as server:
        line = refusal(3, *job(tmp_path, server.url))
        asked = [one.fields for one in server.asked]
    assert "(answer_empty: 1)" in line
    assert len([one for one in asked if one["model"] == "judge-chat"]) == 31
    answers = rows_of(tmp_path / "out" / "model_answer" / "student-chat.jsonl")
    assert answers[2]["choices"][0]["turns"][1] == "$ERROR$"


def test_a_judge_that_writes_another_language_is_one_line(tmp_path: Path) -> None:
    with serving(judging(lambda prompt: "很好" if "[[5]]" in prompt else None)) as server:
        line = refusal(3, *job(tmp_path, server.url))
    assert "32 of 32 scores of student-chat are missing (no_verdict: 32)" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"turns": ["only one"]}, "row 3: question 83 has 1 turn; MT-Bench needs two turns"),
        ({"turns": ["a", ""]}, "row 3: question 83 has 2 turns; MT-Bench needs two turns with"),
        ({"turns": None}, "row 3: question 83 has no turns"),
        ({"category": "maths"}, "row 3: question 83 needs a `category`; known: writing"),
        ({"question_id": 81}, "row 3 repeats question 81"),
        ({"question_id": "83"}, "row 3 has no `question_id`"),
    ],
)
def test_a_question_file_with_a_fault_is_one_line(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    given = job(tmp_path, "http://127.0.0.1:9/v1")
    rows = questions()
    rows[2] |= change
    written(tmp_path / "questions.jsonl", rows)
    assert words in refusal(4, *given)


def test_missing_references_and_settings_without_effect_are_refused(tmp_path: Path) -> None:
    given = job(tmp_path, "http://127.0.0.1:9/v1")
    written(tmp_path / "references.jsonl", references()[1:])
    assert "has no reference answer to question 83" in refusal(4, *given)
    assert "--seed has no effect" in refusal(2, *given, "--seed", "3")
    assert "--references FILE or --no-references" in refusal(2, *given, "--no-references")
    assert "name the evaluated model once" in refusal(2, *given, "--model", "x")
    assert "no endpoint `nobody`" in refusal(4, *given, "--judge", "nobody")


def test_a_model_directory_without_a_template_is_one_line(tmp_path: Path) -> None:
    source = real_path("models/aidreams260K")
    model = tmp_path / "model"
    model.mkdir()
    for path in source.iterdir():
        if path.name == "tokenizer_config.json":
            config = json.loads(path.read_text())
            config.pop("chat_template", None)
            (model / path.name).write_text(json.dumps(config))
        elif path.is_file() and path.suffix != ".jinja":
            (model / path.name).symlink_to(path)
    given = job(tmp_path, "http://127.0.0.1:9/v1")
    place = given.index("--answers-from")
    given[place : place + 2] = ["--model", model]
    done = shell(*given)
    assert done.returncode == 4
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ") and "has no chat template; add" in line
    (model / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['content'][:40] }}\n{% endfor %}"
    )
    with serving(judging()) as server:
        more = ("--endpoints", endpoints_file(tmp_path, server.url), "--first-of-category", "1")
        done = shell(*given, *more, "--allow-holes")
        assert done.returncode == 0, done.stderr
        calls = len(server.asked)
        assert shell(*given, *more, "--allow-holes").stdout == done.stdout
        assert len(server.asked) == calls, "nothing is asked again"
    for template, ending, words in (
        (
            "{{ raise_exception('no system messages') }}",
            "chat template fails on messages of system, user: no system messages",
            ("--system", "Be short.", "--out", tmp_path / "other"),
        ),
        (
            "{{ '' }}",
            "chat template makes nothing of the messages",
            ("--out", tmp_path / "another"),
        ),
        ("{{ '' }}", "has no log to replay", ("--out", tmp_path / "none", "--replay")),
    ):
        (model / "chat_template.jinja").write_text(template)
        done = shell(*given, *more, *words)
        assert done.returncode == 4, done.stderr
        assert done.stderr.splitlines()[-1].endswith(ending)
    assert not (tmp_path / "none").exists()
    (answers,) = (tmp_path / "out" / "model_answer").iterdir()
    assert answers.name == "model.jsonl" and len(rows_of(answers)) == 8


def test_published_files_are_read() -> None:
    folder = real_path("eval/mt_bench_question.jsonl").parent
    found = read_questions(
        folder / "mt_bench_question.jsonl", folder / "mt_bench_reference_gpt-4.jsonl"
    )
    assert len(found.by_id) == 80 and sorted(found.references) == list(range(101, 131))
    assert len(read_questions(folder / "mt_bench_question.jsonl", None, 2).by_id) == 16
    given = json.loads((folder / "judge_prompts.jsonl").read_text().splitlines()[5])
    prompts = prompts_of(folder / "judge_prompts.jsonl")
    values = {"question": "{answer}", "answer": "{{x}} {question}", "ref_answer_1": "r"}
    filled = prompts[given["name"]].filled(values)
    assert filled[0].content == given["system_prompt"]
    assert filled[1].content == given["prompt_template"].format(**values)


@pytest.mark.parametrize(
    ("text", "strict", "fastchat"),
    [
        ("Good.\nRating: [[7]]", 7.0, 7.0),
        ("Rating: [[7.5]]", 7.5, 7.5),
        ('like "[[5]]"\nRating: [[2]]', 2.0, 5.0),
        ("see [1]; the rating is 9", None, 1.0),
        ("[[11]]", None, 11.0),
        ("[[0]]", None, 0.0),
        ("[[08]]", None, None),
        ("<think>maybe [[4]]</think>\nRating: [[8]]", 8.0, 4.0),
        ("[[3]] or [[4]]", None, 3.0),
        ("I cannot say", None, None),
    ],
)
def test_both_ways_to_read_a_verdict(
    text: str, strict: float | None, fastchat: float | None
) -> None:
    for read, wanted in ((strict_rating, strict), (fastchat_rating, fastchat)):
        found = read(text, False)
        assert (None if isinstance(found, Unread) else found) == wanted


def generated(chance: random.Random) -> list[dict[str, Any]]:
    """Judgements of up to three models; some without a score."""
    return [
        {
            "question_id": one["question_id"],
            "model": f"model-{model}",
            "judge": ["gpt-4", "single-v1"],
            "user_prompt": "",
            "judgment": "",
            "score": -1 if chance.random() < 0.02 else chance.choice([1, 10, 7.5, 6, 8.25]),
            "turn": turn,
            "tstamp": 0.0,
        }
        for model in range(chance.randint(1, 3))
        for turn in (1, 2)
        for one in questions(80)
    ]


def shown_by_fastchat(module: Any, path: Path) -> list[dict[Any, float]]:
    """The three tables that FastChat prints, as numbers by model."""
    tables: list[Any] = []
    module.print = lambda thing: tables.append(thing)
    module.display_result_single(
        Namespace(input_file=str(path), model_list=None, bench_name="mt_bench", judge_model="x")
    )
    frames = [one for one in tables if not isinstance(one, str)]
    return [
        {(key[0] if isinstance(key, tuple) else key): value for key, value in one["score"].items()}
        for one in frames
    ]


@needs_fastchat
def test_figures_equal_those_of_fastchat(tmp_path: Path) -> None:
    found = importlib.util.spec_from_file_location("show", Path(FASTCHAT, "show_result.py"))
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    chance = random.Random(7)
    known = Questions({one["question_id"]: one for one in questions(80)}, {})
    for _ in range(int(os.environ.get("ZEPHYR_FAST_FASTCHAT_FILES", "20"))):
        rows = generated(chance)
        chance.shuffle(rows)
        path = written(tmp_path / "rows.jsonl", rows)
        shown = shown_by_fastchat(module, path)
        for model, own in check_judgments(path, rows, known).items():
            figures = fast_figures(own, known)
            assert [table[model] for table in shown] == pytest.approx(figures, abs=1e-12)


def fast_figures(rows: Sequence[dict[str, Any]], known: Questions) -> list[float | None]:
    _, _, figures = figures_of(rows, known, resamples=2)
    return [figures[name].value for name in ("turn 1", "turn 2", "overall")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": 11}, "`score` is 11, not from 1 to 10"),
        ({"score": None}, "`score` is None, not a number"),
        ({"turn": 3}, "`turn` is 3"),
        ({"turn": True}, "`turn` is True"),
        ({"judge": ["\ud800", "single-v1"]}, "`judge` is ["),
        ({"question_id": 7}, "there is no question 7"),
        ({"question_id": 81, "turn": 1}, "row 2 repeats question 81, turn 1"),
        ({"judge": ["other", "single-v1"]}, "row 2 is of another judge"),
    ],
)
def test_judgements_that_cannot_be_counted_are_named(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    rows = [one for one in generated(random.Random(1)) if one["model"] == "model-0"]
    rows[0]["question_id"], rows[0]["turn"] = 81, 1
    rows[1] |= change
    given = ["--questions", written(tmp_path / "q.jsonl", questions(80))]
    path = written(tmp_path / "rows.jsonl", rows)
    line = refusal(4, "evaluate", "score", path, *given, "--out", tmp_path / "r.json")
    assert words in line


def test_a_name_of_many_characters_is_a_file_of_the_disk(tmp_path: Path) -> None:
    """A file name has at most 255 bytes, and a character up to 4."""
    with serving(judging()) as server:
        words = job(tmp_path, server.url, "--name", "模型/β" * 40)
        assert shell(*words).returncode == 0
    (path,) = (tmp_path / "out" / "model_answer").iterdir()
    assert path.name.startswith("模型_β") and len(path.name.encode()) < 120
    assert "a text is not Unicode" in refusal(4, *words[:-2], "--name", "\udcff")
