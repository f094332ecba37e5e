"""`zephyr-fast compare` and `zephyr-fast radar`: results beside published ones, as table and
picture.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from zephyr_fast.cli.options import path_option
from zephyr_fast.printed import say, say_json, shown

Command = TypeVar("Command", bound=Callable[..., Any])

_FORCE = click.option(
    "--force", is_flag=True, help="Compare results of different judges or prompts, and mark them."
)
_RESULTS = click.argument(
    "results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULTS…"
)


@click.command(short_help="Compare results of `evaluate`.")
@_RESULTS
@click.option(
    "--published",
    metavar="NAME,…|none",
    help="Published models to show (default: all of the Zephyr paper).",
)
@_FORCE
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def compare(results: tuple[Path, ...], published: str | None, force: bool, as_json: bool) -> None:
    """Print a table of results of `evaluate`, with published figures.

    Results of different judges, prompts or questions are refused.
    """
    from zephyr_fast.evaluate.comparison import compared
    from zephyr_fast.evaluate.result import read_result

    names = None if published is None else [] if published == "none" else published.split(",")
    found = compared([read_result(path) for path in results], names, force)
    if as_json:
        say_json(json.dumps(asdict(found), indent=1, ensure_ascii=False))
    else:
        for line in found.markdown().splitlines():
            say(line)


@click.command(short_help="Draw MT-Bench categories as a radar.")
@_RESULTS
@path_option(
    "--out",
    required=True,
    help="Picture to write. Its .png, .svg and .md are all written.",
)
@click.option("--bars", is_flag=True, help="Draw bars with 95 % intervals instead of a radar.")
@_FORCE
def radar(results: tuple[Path, ...], out: Path, bars: bool, force: bool) -> None:
    """Draw MT-Bench's categories as a radar, beside a table of the same numbers.

    Requires the `plots` extra. The axis is always 0 to 10.
    """
    from zephyr_fast.dataset.folder import Folder
    from zephyr_fast.evaluate import radar as picture
    from zephyr_fast.evaluate.result import read_result

    found = [read_result(path) for path in results]
    categories = picture.categories_of(found, force, 1 if bars else 3)
    drawing = picture.drawn(found, categories, bars)
    stem = out.with_suffix("") if out.suffix in (".png", ".svg", ".md") else out
    files = {
        f"{stem.name}.png": picture.rendered(drawing, "png"),
        f"{stem.name}.svg": picture.rendered(drawing, "svg"),
        f"{stem.name}.md": picture.table(found, categories).encode(),
    }
    stem.parent.mkdir(parents=True, exist_ok=True)
    with Folder.open(stem.parent) as folder:
        for name, content in files.items():
            folder.write(name, [content])
    say(f"wrote {', '.join(files)} to {shown(stem.parent)}")
