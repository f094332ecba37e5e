"""Planted biases are found, others are not, and each number equals that of a slow formula."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from answering_server import answering
from collecting import endpoints_file, finished, prompts_file, written
from faulty_server import serving
from simulated import MODELS, Simulated, rows, settings
from zephyr_fast._core import InputError
from zephyr_fast.feedback.report import agreement, biases, estimates, ranking
from zephyr_fast.feedback.report.page import page
from zephyr_fast.feedback.report.report import Report, of, sections
from zephyr_fast.feedback.report.verdicts import Verdicts, pairs, read

FAIR = (Simulated("one"), Simulated("two"), Simulated("three"))


def verdicts(judges: tuple[Simulated, ...], seed: int = 1, **options: Any) -> Verdicts:
    return read(rows(judges, seed, **options), settings(judges))


def covers(found: estimates.Estimate | None, value: float) -> bool:
    assert found is not None
    return found.low <= value <= found.high


def test_planted_biases_are_found_and_belong_to_their_judge() -> None:
    planted = (
        Simulated("one", family=1.5),
        Simulated("two", position=1.0),
        Simulated("three", log_length=1.0, fails=0.1),
    )
    own, placed, long = of(verdicts(planted, prompts=300)).judges
    assert own.family is not None and own.family.beyond_others is not None
    assert own.family.beyond_others.low > 0 and covers(own.family.beyond_others, 1.5)
    assert placed.position is not None and placed.position.test.p < 1e-6
    values = [one.value for one in placed.position.deviations]
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(0.5, abs=0.15)
    assert placed.swap is not None and placed.swap.first_wins is not None
    assert placed.swap.first_wins.low > 0.6
    assert long.length.slope is not None and covers(long.length.slope, 1.0)
    assert long.length.slope.low > 0.5
    assert long.length.longer_wins is not None and long.length.longer_wins.low > 0.5
    assert set(long.faults) == {"no_verdict"} and 0.08 < long.faults["no_verdict"] / 3_600 < 0.12
    # None of it is seen in the others.
    for judge in (own, long):
        assert judge.position is not None and judge.position.test.p > 0.001
    for judge in (own, placed):
        assert covers(judge.length.slope, 0) and covers(judge.length.longer_wins, 0.5)
    assert placed.family is None and own.family.own is not None


def test_intervals_of_fair_judges_cover_the_neutral_value_in_95_percent() -> None:
    """200 seeds each. 2.5 standard deviations of a share of 95 % in 200 draws are 3.9 points."""
    names = ("longer_wins", "slope", "position", "first_wins", "family")
    hits = dict.fromkeys(names, 0)
    for seed in range(200):
        found = verdicts(FAIR, seed=1_000 + seed, prompts=100)
        length = biases.length(found, 0)
        hits["longer_wins"] += covers(length.longer_wins, 0.5)
        hits["slope"] += covers(length.slope, 0)
        placed, swapped = biases.position(found, "one"), biases.swap(found, "one")
        assert placed is not None and swapped is not None
        hits["position"] += placed.test.p > 0.05
        hits["first_wins"] += covers(swapped.first_wins, 0.5)
        family = biases.family(found, 0)
        assert family is not None
        hits["family"] += covers(family.beyond_others, 0)
    assert all(182 <= count <= 198 for count in hits.values()), hits


def test_the_ranking_is_that_of_the_models() -> None:
    found = of(verdicts(FAIR, prompts=200, strengths=(1.5, 0.5, -0.5, -1.5))).ranking
    assert [one.model for one in found] == list(MODELS)
    assert all(one.low < one.strength < one.high and one.comparisons == 600 for one in found)
    assert found[0].low > found[1].high, "the best is told from the second"
    equal = [one for seed in range(30) for one in ranking.ranking(verdicts(FAIR, 50 + seed))]
    hits = sum(one.low < 0 < one.high for one in equal)
    # Four dependent intervals in 30 draws: 2.5 standard deviations are 10 points.
    assert len(equal) == 120 and hits >= 102, hits


def test_strengths_make_the_expected_wins_equal_those_that_were_seen() -> None:
    wins = np.array([[0, 7.5, 3], [2.5, 0, 4], [1, 6, 0]])
    p = np.exp(ranking.strengths(wins))
    for one in range(3):
        expected = sum(
            (wins[one, other] + wins[other, one]) * p[one] / (p[one] + p[other])
            for other in range(3)
        )
        # One tie with a model of strength 1.
        assert expected + p[one] / (p[one] + 1) == pytest.approx(wins[one].sum() + 0.5, abs=1e-8)
    assert np.isfinite(ranking.strengths(np.array([[0, 5.0], [0, 0]]))).all()


def slow_alpha(scores: np.ndarray, metric: str) -> float:
    """Krippendorff's alpha from its definition: all pairs within units, and all pairs at all."""
    units = [[x for x in unit if math.isfinite(x)] for unit in scores]
    units = [unit for unit in units if len(unit) >= 2]
    values = [x for unit in units for x in unit]
    n = len(values)

    def distance(a: float, b: float) -> float:
        if metric == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        between = sum(low <= x <= high for x in values)
        return (between - (values.count(a) + values.count(b)) / 2) ** 2

    observed = sum(
        sum(distance(a, b) for a in unit for b in unit) / (len(unit) - 1) for unit in units
    )
    expected = sum(distance(a, b) for a in values for b in values)
    return 1 - (observed / n) / (expected / (n * (n - 1)))


@pytest.mark.parametrize("metric", ["ordinal", "interval"])
def test_alpha_equals_its_definition(metric: str) -> None:
    draws = np.random.default_rng(4)
    for _ in range(10):
        scores = draws.integers(1, 6, size=(15, 3)).astype(float)
        scores[draws.random(scores.shape) < 0.2] = np.nan
        assert agreement.alpha(scores, metric) == pytest.approx(
            slow_alpha(scores, metric), abs=1e-9
        )
    # An example of the literature: four raters, twelve units (Krippendorff 2011).
    nan = np.nan
    example = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
            [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
        ]
    ).T
    value = agreement.alpha(example, metric)
    assert value == pytest.approx({"ordinal": 0.815, "interval": 0.849}[metric], abs=5e-4)
    assert agreement.alpha(np.ones((3, 2)), metric) is None


def test_kappa_equals_its_definition() -> None:
    draws = np.random.default_rng(5)
    for _ in range(10):
        a = draws.integers(1, 6, size=40)
        b = np.clip(a + draws.integers(-1, 2, size=40), 1, 5)
        table = np.zeros((6, 6))
        for x, y in zip(a, b, strict=True):
            table[x, y] += 1 / 40
        weights = np.array([[(i - j) ** 2 for j in range(6)] for i in range(6)])
        chance = np.outer(table.sum(axis=1), table.sum(axis=0))
        wanted = 1 - (weights * table).sum() / (weights * chance).sum()
        assert agreement.kappa(a.astype(float), b.astype(float)) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 8])
def test_the_tail_of_chi_square_equals_its_integral(df: int) -> None:
    for x in (0.5, 3.0, 12.0):
        grid = np.linspace(x, x + 200, 400_001)
        density = grid ** (df / 2 - 1) * np.exp(-grid / 2) / (2 ** (df / 2) * math.gamma(df / 2))
        integral = float(((density[1:] + density[:-1]) / 2).sum() * (grid[1] - grid[0]))
        assert estimates.chi2_tail(x, df) == pytest.approx(integral, abs=1e-7)


def test_slope_and_error_equal_those_of_single_prompts() -> None:
    draws = np.random.default_rng(6)
    x, y = draws.normal(size=30), draws.normal(size=30)
    prompts = np.repeat(np.arange(10), 3)
    found = estimates.slope(x, y, prompts)
    assert found is not None
    value = sum(x * y) / sum(x * x)
    # The jackknife: the slope without each prompt.
    kept = [prompts != prompt for prompt in range(10)]
    without = [sum(x[k] * y[k]) / sum(x[k] ** 2) for k in kept]
    error = math.sqrt(9 / 10 * sum((one - value) ** 2 for one in without))
    assert found.value == pytest.approx(value) and (found.n, found.prompts) == (30, 10)
    assert found.high - found.low == pytest.approx(2 * 2.2221 * error, rel=1e-3)


def test_all_pairs_of_a_prompt_are_found_once() -> None:
    uneven = rows(FAIR[:1], 1, prompts=5)
    for row, keep in zip(uneven, (4, 1, 0, 3, 2), strict=True):
        row["completions"] = row["completions"][:keep]
        for verdict in row["_provenance"]["verdicts"]:
            verdict["order"] = [one for one in verdict["order"] if one < keep]
            verdict["scores"] = verdict["scores"][: len(verdict["order"])]
        row["_provenance"]["verdicts"] = [v for v in row["_provenance"]["verdicts"] if v["order"]]
    found = read(uneven, settings(FAIR[:1]))
    first, second = pairs(found)
    assert len(first) == 6 + 3 + 1
    assert (found.prompt[first] == found.prompt[second]).all() and (first < second).all()
    assert len(set(zip(first.tolist(), second.tolist(), strict=True))) == 10


def test_the_best_answer_depends_on_who_is_left_out() -> None:
    loud = (Simulated("one", noise=0.1), Simulated("two", noise=8), Simulated("three", noise=0.1))
    shares = {one.judge: one.changed for one in of(verdicts(loud, prompts=200)).left_out}
    assert shares["two"] is not None and shares["one"] is not None
    assert shares["two"].value > shares["one"].value


def test_one_judge_and_no_swap_are_said_to_be_unmeasured() -> None:
    found = of(verdicts((Simulated("solo"),), prompts=50))
    assert found.agreement is None and not found.left_out
    lines = dict(line for _, block in sections(found) for line in block)
    assert lines["points for its own family"].startswith("not measured")
    empty = of(read([], settings(FAIR)))
    assert empty.ranking == () and all(judge.length.slope is None for judge in empty.judges)
    assert "not measured" in page(empty, "empty")


def test_rows_that_were_edited_are_refused_by_number() -> None:
    for change in (
        lambda row: row.pop("_provenance"),
        lambda row: row["_provenance"]["verdicts"][0].update(order=[9]),
        lambda row: row["_provenance"]["verdicts"][0].update(judge="nobody"),
        lambda row: row["_provenance"]["verdicts"][0].update(scores=[1.0]),
        lambda row: row["completions"][0].update(response=None),
    ):
        edited = rows(FAIR, 1, prompts=3)
        change(edited[1])
        with pytest.raises(InputError, match="row 2 is not a row"):
            read(edited, settings(FAIR))


def test_the_page_is_one_safe_file() -> None:
    odd = Simulated('<script>alert("x")</script>', position=0.5)
    text = page(of(verdicts((odd, Simulated("two")), prompts=60)), "Feedback & more")
    assert "<script" not in text and "&lt;script&gt;" in text and "Feedback &amp; more" in text
    assert "http" not in text.replace("http-equiv", "") and text.count("<svg") == 4


def test_the_command_reports_on_collected_feedback(tmp_path: Path) -> None:
    with serving(answering(ignores_form=6)) as server:
        code, _, error = finished(
            ["feedback", "collect", "--prompts", prompts_file(tmp_path, 12), "--pool",
             "alpha,beta,gamma", "--judge", "judge,second", "--swap", "--endpoints",
             endpoints_file(tmp_path, server.url, family="same"), "--out", tmp_path / "out"]
        )  # fmt: skip
    assert code == 0, error
    html = tmp_path / "report.html"
    code, out, error = finished(["feedback", "report", tmp_path / "out", "--html", html])
    assert code == 0, error
    for words in ("judge second", "Krippendorff's α", "flips in reversed order", "no_verdict: "):
        assert words in out
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    code, out, error = finished(["feedback", "report", tmp_path / "out", "--json"])
    found = json.loads(out)
    assert set(found) == set(Report.__dataclass_fields__) and len(found["judges"]) == 2
    code, _, error = finished(["feedback", "report", tmp_path])
    assert code == 4 and "not a directory of collected rows" in error
    written(tmp_path / "out" / "rows.jsonl", [{"completions": []}])
    code, _, error = finished(["feedback", "report", tmp_path / "out"])
    assert code == 4 and "row 1 is not a row" in error


def always(first: int, second: int, prompts: int) -> list[dict[str, Any]]:
    """Rows in which two judges give the first and the longer second answer the same scores."""
    verdicts = [
        {"judge": judge, "aspect": "overall", "order": [n], "scores": [score], "key": "k"}
        for judge in ("one", "two")
        for n, score in enumerate((first, second))
    ]
    completions = [{"model": name, "response": name * 9} for name in ("a", "bb")]
    answers = [{"cut": False}] * 2
    provenance = {"failed": [], "answers": answers, "verdicts": verdicts}
    return [{"completions": completions, "_provenance": provenance}] * prompts


@pytest.mark.parametrize("prompts", [2, 3, 40])
def test_equal_observations_are_not_certain(prompts: int) -> None:
    """With every prompt alike there is no variance; an interval of width 0 would claim a proof."""
    found = of(read(always(2, 5, prompts), settings(FAIR[:2])))
    wins, ties = found.judges[0].length.longer_wins, found.judges[0].length.ties
    assert wins is not None and ties is not None and (wins.value, ties.value) == (1, 0)
    # Clopper and Pearson: as many hits in a row have a probability of 2.5 % at the bound.
    assert wins.low**prompts == pytest.approx(0.025) and wins.high == 1
    assert (1 - ties.high) ** prompts == pytest.approx(0.025) and ties.low == 0
    assert (wins.low > 0.5) == (prompts > 5), "two prompts prove nothing"
    assert found.judges[0].length.slope is None
    assert found.agreement is not None and found.agreement.alpha == 1
    assert found.agreement.alpha_low is None and found.agreement.alpha_high is None
    assert found.agreement.pairs[0].same_winner == wins
    assert [(one.low, one.high) for one in found.ranking] == [(None, None)] * 2
    lines = dict(line for _, block in sections(found) for line in block)
    assert "no interval" in lines["bb"] and "not measured" in lines["points per log length"]
    assert "<svg" in page(found, "x")


@pytest.mark.parametrize("score", [math.nan, math.inf, 0, 11, -1, "7", True, None])
def test_a_score_off_the_scale_is_refused(score: Any) -> None:
    edited = always(2, 5, 3)
    edited[2] = json.loads(json.dumps(edited[2]))
    edited[2]["_provenance"]["verdicts"][0]["scores"] = [score]
    with pytest.raises(InputError, match=r"row 3 is not a row .*the score"):
        read(edited, settings(FAIR[:2]))
