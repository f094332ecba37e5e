"""`zephyr-fast recipe`: shows a recipe as it runs, and lists the keys of recipes."""

import sys
from typing import TYPE_CHECKING

import click

from zephyr_fast._core import ConfigError, names
from zephyr_fast.cli.options import pairs
from zephyr_fast.printed import did_you_mean, say, shown

if TYPE_CHECKING:
    from zephyr_fast.prepare.recipe_keys import Key


@click.group()
def recipe() -> None:
    """Show recipes and their keys."""


@recipe.command(short_help="Print a recipe as TOML.")
@click.argument("name")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a recipe key, e.g. `dedup.near=false`. Repeatable.",
)
def show(name: str, settings: tuple[str, ...]) -> None:
    """Print a recipe as TOML, every key with the value that it has in a run.

    NAME is a bundled recipe, such as `ultrachat`, or the path of a TOML file.
    """
    from zephyr_fast import _core
    from zephyr_fast.prepare import recipe as recipes

    overrides = pairs("--set", settings, "KEY=VALUE, e.g. `--set pack.seq_len=512`")
    found = recipes.read(name, overrides)
    toml = _core.resolve(found.arguments, as_run=True).removesuffix("\n")
    if _is_terminal():
        toml = "\n".join(shown(line, len(line)) for line in toml.split("\n"))
    say(toml)


@recipe.command(short_help="List the keys of recipes.")
@click.argument("pattern", default="")
def keys(pattern: str) -> None:
    """List the keys of recipes with type, default and meaning.

    PATTERN selects the keys whose name contains it. `*` and `?` match as in a shell. If the output
    is not a terminal, each key is one line of tab-separated columns: name, type, command, default,
    meaning.
    """
    from zephyr_fast.prepare import recipe_keys

    known = recipe_keys.all_keys()
    found = [key for key in known if _matches(key.name, pattern)]
    if not found:
        names = [name for key in known for name in (key.name, key.name.rpartition(".")[2])]
        raise ConfigError(f"no recipe key matches `{pattern}`{did_you_mean(pattern, names)}")
    for key in found:
        say(_paragraph(key) if _is_terminal() else _line(key))


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _matches(name: str, pattern: str) -> bool:
    from fnmatch import fnmatchcase

    return pattern in name or fnmatchcase(name, pattern)


def _line(key: "Key") -> str:
    kind = " | ".join([key.kind, *(choice.value for choice in key.choices)])
    command = key.command or ", ".join(names("commands"))
    return "\t".join([key.name, kind, command, key.default, key.meaning])


def _paragraph(key: "Key") -> str:
    """Return a key for a terminal, wrapped to its width."""
    import shutil

    used = f", `{key.command}` only" if key.command else ""
    lines = [f"{key.name} ({key.kind}{used}, default: {key.default})"]
    texts = [(key.meaning, 4)] + [
        (f"{choice.value}: {choice.meaning}" if choice.meaning else choice.value, 6)
        for choice in key.choices
    ]
    width = min(shutil.get_terminal_size().columns, 100)
    for text, indent in texts:
        margin = " " * indent
        lines.append(click.wrap_text(text, width, margin, margin))
    return "\n".join(lines) + "\n"
