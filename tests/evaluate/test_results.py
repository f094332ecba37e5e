"""Results are read back as written, damaged ones are refused, and different judges are found."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from zephyr_fast import InputError
from zephyr_fast.evaluate.intervals import bootstrap, mean
from zephyr_fast.evaluate.mt_bench_scores import Questions, fastchat_rating, figures_of
from zephyr_fast.evaluate.result import Figure, Result, differences, read_result
from zephyr_fast.evaluate.win_rate import win_rate
from zephyr_fast.judge.scale import Unread

RESULT = Result(
    "mt-bench",
    "zephyr",
    "large-chat",
    ("large-chat-2026",),
    ("fp1",),
    "aa",
    "bb",
    "strict",
    "2026-11-27T00:00:00+00:00",
    "score",
    160,
    {"no_verdict": 2},
    {"overall": Figure(7.5, 158, 2, 7.1, 7.9, 0.2), "math": Figure(None, 0, 2)},
    ("a note",),
)


def figure(**changes: object) -> dict[str, object]:
    """Figures of a result, one of them damaged."""
    good = {"value": 5, "n": 2, "holes": 0, "low": None, "high": None, "stderr": None}
    return {"overall": good | changes}


def test_a_result_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    RESULT.write(tmp_path / "deep" / "r.json")
    assert read_result(tmp_path / "deep" / "r.json") == RESULT


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("schema", 2, "is not a result"),
        ("judge", 7, "`judge` is 7"),
        ("n", -1, "`n` is -1"),
        ("n", True, "`n` is True"),
        ("holes", {"x": 1.5}, "`holes` is 1.5"),
        ("notes", "x", "`notes` is 'x'"),
        ("figures", {"overall": {"value": 1}}, "figure `overall` is"),
        ("figures", [], "`figures` is []"),
        ("unit", "miles", "'mt-bench' in the unit 'miles' is unknown"),
        ("benchmark", "x", "'x' in the unit 'score' is unknown"),
        ("figures", figure(value=11), "`value` of figure `overall` is 11, not 0 to 10"),
        ("figures", figure(value=-5), "`value` of figure `overall` is -5, not 0 to 10"),
        ("figures", figure(low=2, high=1), "has an interval that ends before it begins"),
        ("figures", figure(low=2), "has half an interval"),
        ("figures", figure(stderr=-1), "`stderr` of figure `overall` is -1"),
        ("figures", figure(n=0), "figure `overall` has a value from no scores"),
    ],
)
def test_a_damaged_result_is_refused_by_field(
    key: str, value: object, words: str, tmp_path: Path
) -> None:
    RESULT.write(tmp_path / "r.json")
    given = json.loads((tmp_path / "r.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps(given | {key: value}))
    with pytest.raises(InputError) as refused:
        read_result(tmp_path / "r.json")
    assert words in str(refused.value)


def test_only_the_rules_of_fastchat_leave_the_scale(tmp_path: Path) -> None:
    high = replace(RESULT, rules="fastchat", figures={"overall": Figure(205.5, 10)})
    high.write(tmp_path / "r.json")
    assert read_result(tmp_path / "r.json") == high


def test_a_figure_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    RESULT.write(tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text().replace("7.5", "NaN")
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match="`value` of figure `overall` is nan"):
        read_result(tmp_path / "r.json")


@pytest.mark.parametrize("name", ["judge", "prompts", "questions", "rules"])
def test_results_of_other_judges_or_prompts_differ(name: str) -> None:
    other = replace(RESULT, model="other", **{name: "else"})
    (found,) = differences([RESULT, other])
    assert f"`{name}`" in found and "'else'" in found


def test_other_models_dates_and_benchmarks_do_not_differ() -> None:
    other = replace(RESULT, model="other", created="2027", n=3, judge_fingerprints=())
    assert not differences([RESULT, other])
    assert not differences([RESULT, replace(RESULT, benchmark="alpaca-eval", judge="x")])
    assert differences([RESULT, replace(RESULT, judge_versions=("large-chat-2027",))])


def test_the_bootstrap_covers_the_mean_and_repeats() -> None:
    groups = {"a": [1.0, 2.0, 3.0, 4.0] * 5, "b": [10.0] * 20}

    def statistic(drawn: dict[str, list[float]]) -> dict[str, float | None]:
        return {name: mean(values) for name, values in drawn.items()} | {"none": None}

    found = bootstrap(groups, statistic)  # type: ignore[arg-type]
    low, high = found["a"]
    assert low < 2.5 < high and "none" not in found
    assert "b" not in found, "equal scores do not tell how certain their mean is"
    # A normal approximation: ±1.96·σ/√n with σ = 1.118 and n = 20.
    assert high - low == pytest.approx(2 * 1.96 * 1.118 / 20**0.5, rel=0.1)
    assert found == bootstrap(groups, statistic)  # type: ignore[arg-type]


def scored(pairs: dict[str, list[tuple[int, int]]]) -> dict[str, Figure]:
    """Figures of scores by category; -1 is a hole."""
    questions: dict[int, dict[str, object]] = {}
    rows: list[dict[str, object]] = []
    for category, turns in pairs.items():
        for pair in turns:
            number = len(questions)
            questions[number] = {"category": category, "turns": ["a", "b"]}
            rows += [
                {"question_id": number, "turn": turn, "score": score}
                for turn, score in enumerate(pair, start=1)
            ]
    return figures_of(rows, Questions(questions, {}), 100)[2]


def test_a_category_with_one_question_has_no_interval_and_leaves_none_to_the_mean() -> None:
    lone = scored({"math": [(1, 9)], "stem": [(2, 8)]})
    assert {(one.low, one.high) for one in lone.values()} == {(None, None)}
    mixed = scored({"math": [(1, 9)], "stem": [(2, 8), (3, 4), (5, 5)]})
    assert mixed["stem"].low is not None and mixed["math"].low is None
    assert mixed["overall"].low is None, "it would leave the uncertainty of math out"
    known = scored({"math": [(1, 9), (4, 4)], "stem": [(2, 8), (3, 4)]})
    assert known["overall"].low is not None and known["turn 1"].low is not None
    holes = scored({"math": [(1, 9), (4, -1)], "stem": [(2, 8), (3, 4)]})
    assert holes["turn 1"].low is not None and holes["turn 2"].low is None
    assert holes["overall"].low is not None
    none = scored({"math": [(-1, -1), (-1, -1)], "stem": [(2, 8), (3, 4)]})
    assert none["math"].value is None and none["overall"].low is not None


def test_rows_that_are_all_equal_have_no_interval() -> None:
    for preferences in ([2.0] * 5, [1.5, 1.5], [1.0]):
        found = win_rate(preferences)
        assert found.value is not None and (found.low, found.high) == (None, None)
    assert win_rate([2.0] * 5).stderr == 0, "as AlpacaEval has it"


def test_a_rating_of_300_digits_is_no_rating() -> None:
    for digits in (301, 400, 5_000):
        assert isinstance(fastchat_rating(f"[[{'9' * digits}]]", False), Unread)
    assert fastchat_rating("[[1995]]", False) == 1995
