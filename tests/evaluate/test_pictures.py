"""Tables and pictures show the figures of the results, and no text covers another."""

import json
import re
import struct
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import combinations
from math import atan2, hypot, tau
from pathlib import Path
from typing import Any

import pytest

from shell import refusal, shell
from zephyr_fast import InputError
from zephyr_fast.evaluate.comparison import compared, published_rows
from zephyr_fast.evaluate.mt_bench import TEMPERATURES
from zephyr_fast.evaluate.radar import SERIES_MAX, categories_of, drawn, rendered, table
from zephyr_fast.evaluate.result import Figure, Result

pytest.importorskip("matplotlib")
CATEGORIES = list(TEMPERATURES)
LONG = "a-model-with-a-name-that-is-much-longer-than-any-legend-has-room-for-2026-11-27"


def result(model: str, values: list[float | None], **changes: Any) -> Result:
    figures = {name: Figure(5.0, 80) for name in ("overall", "turn 1", "turn 2")}
    for name, value in zip(CATEGORIES, values, strict=True):
        holes = 20 if value is None else 0
        ends = (None, None) if value is None else (max(1.0, value - 0.5), min(10.0, value + 0.5))
        figures[name] = Figure(value, 20 - holes, holes, *ends)
    holes = {"no_verdict": 20 * values.count(None)} if None in values else {}
    n = 160 - sum(holes.values())
    fields: dict[str, Any] = {"judge": "gpt-4", "rules": "strict", "prompts": "p", "questions": "q"}
    fields |= {"judge_versions": (), "judge_fingerprints": (), "created": "2026"} | changes
    return Result("mt-bench", model, unit="score", n=n, holes=holes, figures=figures, **fields)


VALUES: list[float | None] = [2.25, 9.5, 7.0, 1.0, 10.0, 5.55, 3.3, 8.8]
TEN = result("ten", [10.0] * 8)


def several(count: int) -> list[Result]:
    names = [LONG, "zephyr|7b", "c", LONG + "2", "e", "f"]
    rows = [VALUES[n:] + VALUES[:n] for n in range(count)]
    rows[0][2] = None
    return [result(name, row) for name, row in zip(names, rows, strict=False)]


@pytest.mark.parametrize("bars", [False, True], ids=["radar", "bars"])
@pytest.mark.parametrize("count", [1, 3, SERIES_MAX])
def test_no_text_covers_another_and_all_are_within_the_picture(count: int, bars: bool) -> None:
    from matplotlib.text import Text

    shown = several(count)  # with every mark that a picture can have
    other = {"judge": LONG, "prompts": "x", "questions": "x", "rules": "judgments"}
    shown[-1] = replace(shown[-1], judge_versions=("v",), **other)
    picture = drawn(shown, CATEGORIES, bars)
    picture.canvas.draw()
    boxes = [
        (one.get_text(), one.get_window_extent())
        for one in picture.findobj(Text)
        if one.get_text() and one.get_visible()
    ]
    assert len(boxes) > 8 + 9 * count
    if bars:  # boxes of slanted texts are larger than the texts
        boxes = [(text, box) for text, box in boxes if text not in CATEGORIES or box.x0 > 700]
    for (one, first), (other, second) in combinations(boxes, 2):
        assert not first.overlaps(second), f"{one!r} covers {other!r}"
    for text, box in boxes:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1280 and box.y1 <= 720, text


def places(svg: bytes, series: int) -> list[tuple[float, float]]:
    """Where the markers of a series are, in the order of its points."""
    root = ElementTree.fromstring(svg)
    (group,) = [one for one in root.iter() if one.get("id") == f"series-{series}"]
    return [
        (float(one.get("x", "")), float(one.get("y", "")))
        for one in group.iter()
        if one.tag.endswith("}use")
    ]


def test_figures_read_back_from_the_svg_equal_the_tables() -> None:
    svg = rendered(drawn([result("a", VALUES), TEN], CATEGORIES, False), "svg")
    full = places(svg, 2)[:8]  # all ten: their middle is the center, their distance the scale
    middle = sum(x for x, _ in full) / 8, sum(y for _, y in full) / 8
    scale = hypot(full[0][0] - middle[0], full[0][1] - middle[1]) / 10
    found = []
    for number, (x, y) in enumerate(places(svg, 1)[:8]):
        right, up = x - middle[0], middle[1] - y
        assert atan2(right, up) % tau == pytest.approx(tau * number / 8, abs=1e-4)
        found.append(hypot(right, up) / scale)
    assert found == pytest.approx(VALUES, abs=1e-4)
    texts = dict(
        re.findall(r'id="cell-1-([^"]+)">.*?<text[^>]*>([^<]+)</text>', svg.decode(), re.S)
    )
    rows = [line.split(" | ") for line in table([result("a", VALUES)], CATEGORIES).splitlines()]
    listed = {row[0].strip("| "): row[1].strip(" |") for row in rows[2:11]}
    assert texts == listed and listed["writing"] == "2.25" and listed["overall"] == "5.00"


def test_a_hole_leaves_the_line_open_and_is_in_the_legend() -> None:
    values = [*VALUES[:3], None, *VALUES[4:]]
    svg = rendered(drawn([result("a", values)], CATEGORIES, False), "svg")
    assert len(places(svg, 1)) == len(VALUES) + 1 - 1, "the first point is repeated at the end"
    text = svg.decode()
    assert "holes: 20" in text and "–°" in text and "judge: gpt-4; n = 140 scores" in text


def test_existing_judgements_are_dashed_and_pictures_repeat() -> None:
    published = result("a", VALUES, rules="judgments")
    one = rendered(drawn([published], CATEGORIES, False), "svg")
    assert one == rendered(drawn([published], CATEGORIES, False), "svg")
    line = re.search(r'id="series-1">\s*<path[^>]*style="([^"]*)"', one.decode())
    assert line and "stroke-dasharray" in line[1]
    assert "existing judgements" in one.decode()
    solid = rendered(drawn([result("a", VALUES)], CATEGORIES, False), "svg")
    line = re.search(r'id="series-1">\s*<path[^>]*style="([^"]*)"', solid.decode())
    assert line and "stroke-dasharray" not in line[1]


def test_the_command_writes_picture_and_table(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    result("a", VALUES).write(files[0])
    TEN.write(files[1])
    for more in ((), ("--bars",)):
        done = shell("radar", *files, "--out", tmp_path / "new" / "x.png", *more)
        assert done.returncode == 0, done.stderr
        png = (tmp_path / "new" / "x.png").read_bytes()
        assert struct.unpack(">II", png[16:24]) == (1280, 720)
        assert b"<svg" in (tmp_path / "new" / "x.svg").read_bytes()
        assert "| writing | 2.25 | 10.00 |" in (tmp_path / "new" / "x.md").read_text()


@pytest.mark.parametrize("command", ["compare", "radar"])
def test_results_of_different_judges_are_one_line(command: str, tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    result("a", VALUES).write(files[0])
    result("b", VALUES, judge="other-judge").write(files[1])
    more = ("--out", tmp_path / "x") if command == "radar" else ()
    line = refusal(4, command, *files, *more)
    assert "mt-bench `judge`: 'gpt-4' and 'other-judge'; pass --force" in line
    done = shell(command, *files, *more, "--force")
    assert done.returncode == 0
    if command == "radar":
        for kind in ("svg", "md"):
            text = (tmp_path / f"x.{kind}").read_text()
            assert "2!  b (" in text and "1  a (" in text and "! compared although" in text
        assert "differ from 1: judge" in (tmp_path / "x.svg").read_text()
        assert "'gpt-4' and 'other-judge'" in (tmp_path / "x.md").read_text()
    if command == "compare":
        assert "| b ! | 5.00 (n 80) |" in done.stdout and "| a | 5.00 (n 80) |" in done.stdout
        assert "! compared although the results differ" in done.stdout


def test_the_table_marks_published_figures_and_their_source(tmp_path: Path) -> None:
    result("mine", VALUES).write(tmp_path / "a.json")
    done = shell("compare", tmp_path / "a.json", "--published", "Zephyr-7B,GPT-4")
    assert "| Zephyr-7B * | 7.34 |" in done.stdout and "| GPT-4 * | 8.99 |" in done.stdout
    assert "published: Tunstall et al." in done.stdout and "judged by GPT-4" in done.stdout
    assert "Xwin" not in done.stdout and "mt-bench: judged by gpt-4" in done.stdout
    line = refusal(4, "compare", tmp_path / "a.json", "--published", "nobody")
    assert "no published figures of `nobody`; known: Zephyr-7B" in line
    none = shell("compare", tmp_path / "a.json", "--published", "none", "--json")
    assert [row["model"] for row in json.loads(none.stdout)["rows"]] == ["mine"]


def leaderboard(model: str, **figures: float) -> Result:
    found = {name: Figure(value, 100, stderr=1.5) for name, value in figures.items()}
    mean = {"overall": Figure(1.0, 1)} if len(found) == 4 else {}
    one = result(model, VALUES, judge="", prompts="", rules="lm-eval 0.4.13")
    notes = ("only 100 examples per task",)
    return replace(one, benchmark="leaderboard", unit="percent", figures=mean | found, notes=notes)


def test_the_table_has_a_column_for_each_task_of_the_leaderboard(tmp_path: Path) -> None:
    four = {"arc_challenge": 50.0, "hellaswag": 60.0, "mmlu": 25.0, "truthfulqa_mc2": 40.0}
    leaderboard("mine", **{"ifeval strict": 12.5}, **four).write(tmp_path / "tasks.json")
    result("mine", VALUES).write(tmp_path / "mt-bench.json")
    done = shell("compare", tmp_path / "tasks.json", tmp_path / "mt-bench.json")
    assert done.returncode == 0, done.stderr
    head, _, first, *rows = done.stdout.splitlines()
    tasks = "arc_challenge | hellaswag | mmlu | truthfulqa_mc2"
    assert head == f"| model | mt-bench | {tasks} | ifeval strict |"
    assert first == "| Zephyr-7B * | 7.34 | 62.03 | 84.52 | 61.44 | 57.44 | – |"
    (mine,) = [row for row in rows if row.startswith("| mine")]
    assert mine.startswith("| mine | 5.00 (n 80) | 50.00 ± 1.50 (n 100) | 60.00 ± 1.50 (n 100) |")
    assert "leaderboard: by lm-eval 0.4.13" in done.stdout and "mt-bench: judged by" in done.stdout
    assert "mine: only 100 examples per task" in done.stdout
    assert "from the lm-eval of their time" in done.stdout
    other = replace(leaderboard("other", mmlu=30.0), rules="lm-eval 0.4.14")
    other.write(tmp_path / "other.json")
    line = refusal(4, "compare", tmp_path / "tasks.json", tmp_path / "other.json")
    assert "leaderboard `rules`: 'lm-eval 0.4.13' and 'lm-eval 0.4.14'; pass --force" in line


def test_published_figures_are_those_of_the_paper() -> None:
    zephyr = published_rows()["Zephyr-7B"].figures
    assert (zephyr["mt-bench"].value, zephyr["alpaca-eval"].value) == (7.34, 90.6)
    assert zephyr["alpaca-eval"].stderr == 1.03 and len(published_rows()) == 17


def test_what_does_not_fit_a_picture_or_a_table_is_refused() -> None:
    one = result("a", VALUES)
    with pytest.raises(InputError, match="1 to 6 results, not 7"):
        categories_of([one] * 7, False)
    with pytest.raises(InputError, match="not of alpaca-eval"):
        categories_of([replace(one, benchmark="alpaca-eval")], False)
    fewer = {name: figure for name, figure in one.figures.items() if name != "math"}
    with pytest.raises(InputError, match="has other categories"):
        categories_of([one, replace(one, figures=fewer)], False)
    few = {name: figure for name, figure in one.figures.items() if name in ("overall", "math")}
    with pytest.raises(InputError, match="needs 3 to 8 categories, not 1; --bars shows fewer"):
        categories_of([replace(one, figures=few)], False)
    assert categories_of([replace(one, figures=few)], False, at_least=1) == ["math"]
    many = one.figures | {"cooking": Figure(5.0, 20)}
    with pytest.raises(InputError, match="needs 3 to 8 categories, not 9"):
        categories_of([replace(one, figures=many)], False)
    beyond = one.figures | {"math": Figure(11.5, 20)}
    with pytest.raises(InputError, match=r"math of a is 11\.5, beyond the axis of 10"):
        categories_of([replace(one, figures=beyond, rules="fastchat")], False)
    with pytest.raises(InputError, match="two results are of a on mt-bench"):
        compared([one, one], [], False)
    with pytest.raises(InputError, match="has no `overall` figure"):
        compared([replace(one, figures={})], [], False)


def test_without_matplotlib_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"matplotlib is missing: run pip install '.\[plots\]'"):
        drawn([TEN], CATEGORIES, False)
