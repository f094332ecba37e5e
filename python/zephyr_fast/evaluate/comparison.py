"""A table of results and published figures. Results that differ in their judge are not compared.

MT-Bench and AlpacaEval have a column each, and the leaderboard has one for each task. Published
figures are marked with `*` and have their source below the table. Results that are compared
although they differ are marked with `!`.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zephyr_fast._core import InputError
from zephyr_fast.evaluate.leaderboard import TASKS
from zephyr_fast.evaluate.result import OVERALL, Figure, Result, counted_holes, differences
from zephyr_fast.printed import in_markdown, shown

JUDGED = ("mt-bench", "alpaca-eval")
"""Benchmarks with one column, their overall figure."""


@dataclass(frozen=True, slots=True)
class Row:
    """A model of the table.

    Args:
        model: its name
        figures: a figure by the name of its column
        source: where published figures are from; empty for results
        differs: whether it is compared although it differs from the first result
    """

    model: str
    figures: Mapping[str, Figure]
    source: str = ""
    differs: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a table, and the sentences below it."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        head = ["model", *(shown(name).replace("|", "\\|") for name in self.columns)]
        lines = [head, ["---"] * len(head)]
        for row in self.rows:
            mark = ("*" if row.source else "") + ("!" if row.differs else "")
            cells = [written(row.figures.get(name)) for name in self.columns]
            lines.append([in_markdown(row.model) + (f" {mark}" if mark else ""), *cells])
        text = [f"| {' | '.join(line)} |" for line in lines]
        return "\n".join([*text, "", *self.notes])


def written(figure: Figure | None) -> str:
    """Return a figure with its error or interval, as the tables show it."""
    if figure is None:
        return "–"
    if figure.value is None:
        return f"no value ({counted_holes(figure.holes)})"
    text = f"{figure.value:.2f}"
    if figure.stderr is not None:
        text += f" ± {figure.stderr:.2f}"
    elif figure.low is not None and figure.high is not None:
        text += f" [{figure.low:.2f}, {figure.high:.2f}]"
    count = f" (n {figure.n:,})" if figure.n else ""
    return text + count + (f", {counted_holes(figure.holes)}" if figure.holes else "")


def compared(results: Sequence[Result], published: Sequence[str] | None, forced: bool) -> Table:
    """Return the table of results and published figures.

    Args:
        results: at least one
        published: names of published models; None for all
        forced: compare results that differ, and mark them

    Raises:
        InputError: results differ, two are of the same model and benchmark, or a name is unknown
    """
    check(results, forced)
    different = differing(results)
    seen: set[tuple[str, str]] = set()
    found: dict[str, dict[str, Figure]] = {}
    for one in results:
        if (one.model, one.benchmark) in seen:
            raise InputError(f"two results are of {shown(one.model)} on {one.benchmark}")
        seen.add((one.model, one.benchmark))
        found.setdefault(one.model, {}).update(_columns(one))
    marked = {results[number].model for number in different}
    rows = [Row(model, known, differs=model in marked) for model, known in found.items()]
    named = dict.fromkeys(name for row in rows for name in row.figures)
    columns = tuple(sorted(named, key=lambda name: _ORDER.get(name, len(_ORDER))))
    others = [row for row in _chosen(published) if row.figures.keys() & named.keys()]
    return Table(columns, (*others, *rows), _notes(results, others, columns))


_ORDER = {name: number for number, name in enumerate((*JUDGED, *TASKS))}


def _columns(result: Result) -> Mapping[str, Figure]:
    """The figures of a result by column."""
    if result.benchmark in JUDGED:
        return {result.benchmark: result.figures[OVERALL]}
    return {name: one for name, one in result.figures.items() if name != OVERALL}


def differing(results: Sequence[Result]) -> set[int]:
    """Return the indexes of results that differ from the first one of their benchmark."""
    first: dict[str, Result] = {}
    return {
        number
        for number, one in enumerate(results)
        if differences([first.setdefault(one.benchmark, one), one])
    }


def check(results: Sequence[Result], forced: bool) -> None:
    """Raise InputError for results that differ in judge, prompts, questions or rules."""
    found = differences(results)
    if found and not forced:
        raise InputError(
            f"the results cannot be compared: {'; '.join(found)}; pass --force to do it anyway"
        )
    for one in results:
        if one.benchmark in JUDGED and OVERALL not in one.figures:
            raise InputError(f"a result of {shown(one.model)} has no `{OVERALL}` figure")


def _notes(
    results: Sequence[Result], others: Sequence[Row], columns: Sequence[str]
) -> tuple[str, ...]:
    notes = [f"\\* published: {source}" for source in dict.fromkeys(row.source for row in others)]
    shares = {name for row in others for name in row.figures if name in columns}
    if shares & set(JUDGED):
        notes.append("Published figures were judged by GPT-4 with the prompts of their time.")
    if shares & set(TASKS):
        notes.append("Published figures of tasks are from the lm-eval of their time.")
    for name in dict.fromkeys(one.benchmark for one in results):
        own = [one for one in results if one.benchmark == name]
        by = dict.fromkeys(in_markdown(one.judge or one.rules) for one in own)
        notes.append(f"{name}: {'judged by' if own[0].judge else 'by'} {', '.join(by)}")
        notes += [
            f"{in_markdown(one.model)}: {in_markdown(text, 400)}"
            for one in own
            for text in one.notes
        ]
    notes += [
        f"! compared although the results differ: {in_markdown(one, 400)}"
        for one in differences(results)
    ]
    return tuple(notes)


def _chosen(names: Sequence[str] | None) -> list[Row]:
    known = published_rows()
    if names is None:
        return list(known.values())
    for name in names:
        if name not in known:
            raise InputError(f"no published figures of `{shown(name)}`; known: {', '.join(known)}")
    return [known[name] for name in names]


@cache
def published_rows() -> Mapping[str, Row]:
    """Return the published figures by model, from `published.toml`."""
    given = tomllib.loads((Path(__file__).parent / "published.toml").read_text(encoding="utf-8"))
    rows = {}
    for one in given["models"]:
        figures = {
            name: Figure(one[name], 0, stderr=one.get(f"{name}-stderr"))
            for name in (*JUDGED, *TASKS)
            if name in one
        }
        rows[one["name"]] = Row(one["name"], figures, given["sources"][one["source"]])
    return rows
