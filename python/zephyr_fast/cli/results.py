"""How commands print results of evaluations, and which missing scores end them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from zephyr_fast.printed import say, say_json, shown, warn

if TYPE_CHECKING:
    from zephyr_fast.evaluate.result import Result

ALLOW_HOLES = click.option(
    "--allow-holes",
    is_flag=True,
    help="Print figures although scores are missing, instead of exit code 3.",
)


def with_figure(result: "Result", name: str, value: float) -> "Result":
    """Return the result with one more figure."""
    from zephyr_fast.evaluate.result import Figure

    return replace(result, figures={**result.figures, name: Figure(value, result.n)})


def print_results(results: "Sequence[Result]", allow_holes: bool, as_json: bool) -> None:
    """Print results. HolesError if scores are missing, unless that is allowed."""
    from zephyr_fast.evaluate.errors import HolesError

    holes = [one for one in results if one.holes]
    if as_json:
        say_json(json.dumps([asdict(one) for one in results], indent=1, ensure_ascii=False))
    for one in () if as_json else results:
        if one.holes and not allow_holes:
            continue
        judge = f", judged by {shown(one.judge)}" if one.judge else ""
        say(f"{shown(one.model)}, {one.benchmark}{judge}")
        for name, figure in one.figures.items():
            say(f"  {shown(name):<18} {_figure(figure)}")
        for sentence in one.notes:
            say(f"  {shown(sentence)}")
    for one in holes:
        reasons = ", ".join(f"{shown(why)}: {number:,}" for why, number in one.holes.items())
        missing, asked = sum(one.holes.values()), sum(one.holes.values()) + one.n
        text = f"{missing:,} of {asked:,} scores of {shown(one.model)} are missing ({reasons})"
        if not allow_holes:
            raise HolesError(f"{text}; there is no mean unless you pass --allow-holes")
        warn(f"warning: {text}")


def _figure(figure: Any) -> str:
    if figure.value is None:
        return f"no value (n {figure.n:,})"
    interval = f" [{figure.low:.2f}, {figure.high:.2f}]" if figure.low is not None else ""
    error = f" ± {figure.stderr:.4f}" if figure.stderr is not None else ""
    return f"{figure.value:.4f}{error}{interval} (n {figure.n:,})"
