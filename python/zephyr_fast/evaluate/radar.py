"""A radar of MT-Bench's categories, or bars with intervals, beside a table of the same numbers.

Series differ in color (Okabe and Ito's palette), line style and marker. The axis is always 0 to
10. A category with missing scores is not joined to its neighbors. Results that were computed from
existing judgements, such as published ones, have dashed lines. Results that are shown although they
differ from the first one are marked with `!`.
"""

import io
from collections.abc import Sequence
from math import nan, tau
from typing import TYPE_CHECKING, Any

from zephyr_fast._core import InputError
from zephyr_fast.evaluate.comparison import check, differing
from zephyr_fast.evaluate.mt_bench_scores import BENCHMARK, TURNS
from zephyr_fast.evaluate.result import OVERALL, Figure, Result, counted_holes, differences
from zephyr_fast.printed import in_markdown, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

SERIES_MAX = 6
CATEGORIES_MAX = 8
AXIS_MAX = 10.0
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LINES = ("-", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (3, 1)), (0, (8, 2, 2, 2)))
_PUBLISHED_LINE = (0, (6, 4))
_SIZE = (12.8, 7.2)
_NAME_CHARACTERS = 40
PUBLISHED_RULES = "judgments"


def categories_of(results: Sequence[Result], forced: bool, at_least: int = 3) -> list[str]:
    """Check that the results fit one picture, and return their categories in order. `at_least` is
    the number of categories that the picture needs.

    Raises InputError for results of other benchmarks, too many, or results that differ.
    """
    if not 1 <= len(results) <= SERIES_MAX:
        raise InputError(f"a radar shows 1 to {SERIES_MAX} results, not {len(results)}")
    for one in results:
        if one.benchmark != BENCHMARK:
            raise InputError(f"a radar shows results of {BENCHMARK}, not of {shown(one.benchmark)}")
    check(results, forced)
    found = [name for name in results[0].figures if name not in (OVERALL, *TURNS)]
    for one in results:
        if [name for name in one.figures if name not in (OVERALL, *TURNS)] != found:
            raise InputError(f"the result of {shown(one.model)} has other categories")
    if not at_least <= len(found) <= CATEGORIES_MAX:
        bars = "; --bars shows fewer" if 0 < len(found) < at_least else ""
        raise InputError(
            f"a picture needs {at_least} to {CATEGORIES_MAX} categories, not {len(found)}{bars}"
        )
    for one in results:
        for name in found:
            if (one.figures[name].value or 0) > AXIS_MAX:
                raise InputError(
                    f"{shown(name)} of {shown(one.model)} is {one.figures[name].value:g}, beyond "
                    f"the axis of {AXIS_MAX:g}; FastChat reads ratings that are not on the scale"
                )
    return found


def drawn(results: Sequence[Result], categories: Sequence[str], bars: bool) -> "Drawing":
    """Return the picture: a radar or bars on the left, the table on the right.

    Raises InputError if matplotlib is missing.
    """
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Drawing
    except ImportError as error:
        raise InputError(
            "matplotlib is missing: run pip install '.[plots]' in a checkout"
        ) from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not those of a `matplotlibrc` in the current directory
        drawing = Drawing(figsize=_SIZE, dpi=100, facecolor="white")
        FigureCanvasAgg(drawing)
        _draw(drawing, results, categories, bars)
    return drawing


def _draw(
    drawing: "Drawing", results: Sequence[Result], categories: Sequence[str], bars: bool
) -> None:
    drawing.text(0.5, 0.96, "MT-Bench by category", ha="center", fontsize=15)
    drawing.text(0.5, 0.928, _drawable(subtitle(results)), ha="center", fontsize=10)
    drawing.text(0.5, 0.9, "; ".join(_differing_fields(results)), ha="center", fontsize=9)
    if bars:
        _draw_bars(drawing, results, categories)
    else:
        _draw_radar(drawing, results, categories)
    _draw_table(drawing, results, categories)


def subtitle(results: Sequence[Result]) -> str:
    """Return judges and numbers of scores, for the title."""
    judges = ", ".join(dict.fromkeys(shown(one.judge, _NAME_CHARACTERS) for one in results))
    counts = sorted({one.n for one in results})
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"judge: {judges}; n = {n} scores per model"


def labels(results: Sequence[Result]) -> list[str]:
    """Return the names of results in the legend, with what a reader must know of each."""
    different = differing(results)
    return [_label(n + 1, one, n in different) for n, one in enumerate(results)]


def _label(number: int, result: Result, differs: bool) -> str:
    holes = sum(result.holes.values())
    details = [f"n {result.n}"]
    details += [f"holes: {holes}"] if holes else []
    details += ["existing judgements"] if result.rules == PUBLISHED_RULES else []
    mark = "!" if differs else ""
    return f"{number}{mark}  {shown(result.model, _NAME_CHARACTERS)} ({', '.join(details)})"


def _differing_fields(results: Sequence[Result]) -> list[str]:
    """What differs between results that are shown together all the same, as a sentence."""
    found = [one.partition("`")[2].partition("`")[0] for one in differences(results)]
    return [f"! compared although these differ from 1: {', '.join(found)}"] if found else []


def _drawable(text: str) -> str:
    """Return a text as matplotlib draws it literally: a pair of `$` would enclose a formula."""
    return shown(text, 200).replace("$", r"\$")


def rendered(drawing: "Drawing", kind: str) -> bytes:
    """Return the picture as `png` or `svg`. Texts of an SVG are text, and equal pictures have
    equal bytes.
    """
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "zephyr-fast"})
        metadata: dict[str, Any] = {"Title": "MT-Bench by category"}
        metadata |= {"Date": None} if kind == "svg" else {}
        drawing.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def table(results: Sequence[Result], categories: Sequence[str]) -> str:
    """Return the numbers of the picture as a Markdown table."""
    head = ["category", *labels(results)]
    rows = [head, ["---"] * len(head)]
    rows += [
        [name, *(cell(one.figures[name]) for one in results)] for name in (*categories, OVERALL)
    ]
    lines = [f"| {' | '.join(in_markdown(text) for text in row)} |" for row in rows]
    marked = [
        f"! compared although the results differ: {in_markdown(one, 400)}"
        for one in differences(results)
    ]
    return "\n".join([*lines, "", in_markdown(subtitle(results), 4_000), *marked, ""])


def cell(figure: Figure) -> str:
    """Return a figure as the table has it; the holes of one that is not complete."""
    value = "–" if figure.value is None else f"{figure.value:.2f}"
    return f"{value} ({counted_holes(figure.holes)})" if figure.holes else value


def _draw_radar(drawing: "Drawing", results: Sequence[Result], categories: Sequence[str]) -> None:
    axes: Any = drawing.add_axes((0.05, 0.27, 0.48, 0.55), projection="polar")
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    axes.set_ylim(0, AXIS_MAX)
    angles = [tau * position / len(categories) for position in range(len(categories))]
    axes.set_xticks(angles, [_drawable(name) for name in categories])
    axes.tick_params(axis="x", pad=22)
    axes.set_yticks([2, 4, 6, 8, 10], ["2", "4", "6", "8", "10"], fontsize=8, color="#444444")
    axes.set_rlabel_position(180 / len(categories))
    named = labels(results)
    for number, one in enumerate(results):
        figures = [one.figures[name] for name in categories]
        joined = [nan if f.holes or f.value is None else f.value for f in figures]
        style = _style(number, one)
        line = axes.plot(
            [*angles, 0.0], [*joined, joined[0]], **style, label=_drawable(named[number])
        )
        line[0].set_gid(f"series-{number + 1}")
        partial = [
            (a, f.value) for a, f in zip(angles, figures, strict=True) if f.holes and f.value
        ]
        if partial:  # some scores of the category are there: a hollow marker, not joined
            hollow = {
                "marker": style["marker"],
                "mfc": "white",
                "color": style["color"],
                "ls": "none",
            }
            axes.plot(*zip(*partial, strict=True), **hollow, clip_on=False)
    _legend(axes, -0.14)


def _draw_bars(drawing: "Drawing", results: Sequence[Result], categories: Sequence[str]) -> None:
    axes: Any = drawing.add_axes((0.06, 0.36, 0.52, 0.48))
    axes.set_ylim(0, AXIS_MAX)
    axes.set_ylabel("score (95 % interval)")
    width, named = 0.8 / len(results), labels(results)
    for number, one in enumerate(results):
        places = [position + (number + 0.5) * width - 0.4 for position in range(len(categories))]
        figures = [one.figures[name] for name in categories]
        values = [0.0 if f.value is None else f.value for f in figures]
        style = _style(number, one)
        axes.bar(
            places,
            values,
            width * 0.9,
            color=style["color"],
            hatch=("", "//", "..", "xx", "\\\\", "++")[number],
            edgecolor="white",
            label=_drawable(named[number]),
        )
        known = [
            (at, f.value, f.value - f.low, f.high - f.value)
            for at, f in zip(places, figures, strict=True)
            if f.value is not None and f.low is not None and f.high is not None
        ]
        if known:
            at, value, below, above = zip(*known, strict=True)
            axes.errorbar(at, value, yerr=[below, above], fmt="none", ecolor="#333333", capsize=2)
    names = [_drawable(name) for name in categories]
    axes.set_xticks(range(len(categories)), names, rotation=35, ha="right")
    _legend(axes, -0.32)


def _style(number: int, result: Result) -> dict[str, Any]:
    published = result.rules == PUBLISHED_RULES
    return {
        "color": _COLORS[number],
        "marker": _MARKERS[number],
        "linestyle": _PUBLISHED_LINE if published else _LINES[number],
        "linewidth": 1.8,
        "markersize": 5,
        "clip_on": False,
    }


def _legend(axes: Any, below: float) -> None:
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, below), fontsize=9, frameon=False, handlelength=4
    )


def _draw_table(drawing: "Drawing", results: Sequence[Result], categories: Sequence[str]) -> None:
    left, top, step = 0.63, 0.80, 0.052
    width = min(0.09, 0.25 / len(results))
    names = (*categories, OVERALL)
    different = differing(results)
    for position, _ in enumerate(results):
        at, number = left + 0.11 + width * position, f"{position + 1}"
        number += "!" if position in different else ""
        drawing.text(at, top + step, number, ha="center", fontsize=10, weight="bold")
    for row, name in enumerate(names):
        height = top - step * row
        weight = "bold" if name == OVERALL else "normal"
        drawing.text(left, height, _drawable(name), fontsize=10, weight=weight)
        for position, one in enumerate(results):
            figure = one.figures[name]
            text = "–" if figure.value is None else f"{figure.value:.2f}"
            text += "°" if figure.holes else ""
            place = (left + 0.11 + width * position, height)
            drawn_text = drawing.text(*place, text, ha="center", fontsize=9.5, weight=weight)
            drawn_text.set_gid(f"cell-{position + 1}-{shown(name, 200)}")
    if any(one.holes for one in results):
        height = top - step * len(names)
        drawing.text(left, height, "° some scores are missing", fontsize=9)
