"""Results are read back as written, damaged ones are refused, and different judges are found."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from zephyr_fast import InputError
from zephyr_fast.evaluate.intervals import bootstrap, mean
from zephyr_fast.evaluate.result import Figure, Result, differences, read_result

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
    assert low < 2.5 < high and found["b"] == (10.0, 10.0) and "none" not in found
    # A normal approximation: ±1.96·σ/√n with σ = 1.118 and n = 20.
    assert high - low == pytest.approx(2 * 1.96 * 1.118 / 20**0.5, rel=0.1)
    assert found == bootstrap(groups, statistic)  # type: ignore[arg-type]
