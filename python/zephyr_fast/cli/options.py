"""The options that `prep` and `binarize` share, and the kinds of values of all commands."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from zephyr_fast._core import ConfigError, names
from zephyr_fast.prepare.recipe import quoted
from zephyr_fast.printed import channel
from zephyr_fast.untrusted.limits import COUNT_MAX, THREADS_MAX

Command = TypeVar("Command", bound=Callable[..., Any])

SETTINGS_MAX = 1_000
"""Maximum number of `--set` or `--decontaminate` options of one command. A recipe has a few dozen
keys.
"""

SETTING_CHARACTERS_MAX = 100_000
"""Maximum characters of one `--set` or `--decontaminate`: enough for a list of evaluation sets,
and far below the system's limit for an argument.
"""


class Real(click.FloatRange):
    """A number within a range. Unlike `click.FloatRange`, it refuses NaN."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse the number, or report a wrong option."""
        number = float(super().convert(value, param, ctx))
        if number != number:
            self.fail(f"{value} is not a number", param, ctx)
        return number


def path_option(
    *declarations: str, help: str, metavar: str = "FILE", **more: Any
) -> Callable[[Command], Command]:
    """Return an option whose value is a path. `more` are arguments of `click.option`."""
    kind = click.Path(path_type=Path)
    return click.option(*declarations, type=kind, metavar=metavar, help=help, **more)


def size(text: str) -> int:
    """Parse bytes: `600MB` (powers of ten), `2GiB` (powers of two) or a plain number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B?", text, re.IGNORECASE)
    if not found:
        raise click.BadParameter(f"`{text}` is not a size; use e.g. 600MB or 2GiB")
    value = float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " ")
    if value > COUNT_MAX:
        raise click.BadParameter(f"`{text}` exceeds the memory of any machine; use e.g. 2GiB")
    return int(value)


def choices(kind: str) -> str:
    """Return the metavar of an option that accepts one of the core's names.

    This is not a `click.Choice`: the core checks the name, with the same message as for `--set`.
    """
    return f"[{'|'.join(names(kind))}]"


_SHARED = [
    path_option(
        "--out", required=True, metavar="DIR", help="Output directory (created if missing)."
    ),
    click.option(
        "--input",
        "-i",
        multiple=True,
        metavar="PATH",
        help="Input file, directory, quoted glob, URL or Hub id, `-` for stdin, or `sample` for "
        "the bundled rows. Repeatable. Defaults to the recipe's dataset on the Hub.",
    ),
    click.option(
        "--tokenizer",
        metavar="PATH",
        help="Tokenizer directory, tokenizer.json, Hub id, or `sample`. Defaults to the recipe's "
        "tokenizer.",
    ),
    click.option(
        "--template",
        metavar=f"[{'|'.join(names('templates'))}|FILE]",
        help="Chat template: `auto` is the tokenizer's own, or Zephyr's if it has none (default: "
        "set by the recipe).",
    ),
    click.option(
        "--train-end",
        metavar=choices("train_end"),
        help="What to do if the template writes no token at the end of an assistant message "
        "(default: require).",
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a recipe key, e.g. `dedup.near=false`. Repeatable.",
    ),
    click.option(
        "--map",
        "own_names",
        multiple=True,
        metavar="NAME=YOURS",
        help="Say how your rows call a column (`prompt=question`) or a field of messages "
        "(`content=text`), or which role a word stands for (`role.bot=assistant`). Repeatable.",
    ),
    click.option(
        "--decontaminate",
        "evaluation_sets",
        multiple=True,
        metavar="NAME=PATH:FIELD",
        help="Remove rows that overlap this evaluation set. Repeatable.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, THREADS_MAX),
        metavar="N",
        help="Number of threads (default: one per core). Does not affect the output.",
    ),
    click.option(
        "--overwrite",
        is_flag=True,
        help="Delete an existing dataset in the output directory, then build. It is not restored "
        "if the run fails.",
    ),
    click.option(
        "--strict",
        is_flag=True,
        help="Fail on the first unreadable row (same as `--max-bad-rows 0`).",
    ),
    click.option(
        "--max-bad-rows",
        type=click.IntRange(0),
        metavar="N",
        help="Maximum number of unreadable rows (default: 0.1 % of the rows, at least 20, at most "
        "1000).",
    ),
    click.option(
        "--max-memory",
        type=size,
        metavar="SIZE",
        help="Memory limit for the process, e.g. 600MB or 2GiB. Checked between batches of rows; "
        "the run stops if it is exceeded.",
    ),
    click.option(
        "--dry-run", is_flag=True, help="Print the plan (inputs, disk, output) and write nothing."
    ),
    click.option(
        "--json", "as_json", is_flag=True, help="Print the manifest as JSON instead of a summary."
    ),
    click.option("--quiet", "-q", is_flag=True, help="Print only errors and warnings."),
    click.option("--verbose", "-v", is_flag=True, help="Also print the plan and the time taken."),
    click.option(
        "--log-file",
        metavar="FILE",
        help="Append everything that is printed, with the time, to this file.",
    ),
]


def shared(command: Command) -> Command:
    """Add the shared options to a command."""
    for option in reversed(_SHARED):
        command = option(command)
    return command


def open_channel(
    quiet: bool, verbose: bool, log_file: str | None, out: Path, inputs: Sequence[str]
) -> None:
    """Apply `--quiet`, `--verbose` and `--log-file`. UsageError for a log file in the output
    directory, or one that would be read as an input.
    """
    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")
    if log_file is not None:
        log = Path(log_file).resolve()
        for place in (out, *map(Path, inputs)):
            if log.is_relative_to(place.resolve()) or log.match(str(place.absolute())):
                raise click.UsageError(f"--log-file {log_file}: `{place}` is read or replaced")
    channel.open(quiet=quiet, verbose=verbose, log_file=log_file)


def pairs(option: str, given: tuple[str, ...], example: str) -> dict[str, str]:
    """Split each `NAME=VALUE` of an option. ConfigError names the one that has another form, or a
    name that is given twice.
    """
    _check_few(option, given)
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"{option} {text}: expected {example}")
        if name in found:
            raise ConfigError(f"{option} {text}: `{name}` is given twice; remove one of them")
        found[name] = value
    return found


def of_map(given: tuple[str, ...]) -> dict[str, str]:
    """Return the recipe keys that the `--map` options set."""
    example = "NAME=YOURS, e.g. `--map prompt=question`, or `--map role.bot=assistant`"
    keys = {}
    for name, value in pairs("--map", given, example).items():
        table, dot, word = name.partition(".")
        if dot and table != "role":
            raise ConfigError(f"--map {name}={value}: expected {example}")
        key = f"source.roles.{quoted(word)}" if dot else f"source.columns.{quoted(name)}"
        keys[key] = quoted(value)
    return keys


def _check_few(option: str, given: tuple[str, ...]) -> None:
    """ConfigError for more settings, or longer ones, than any recipe has keys for."""
    if len(given) > SETTINGS_MAX:
        raise ConfigError(
            f"{option} was passed {len(given):,} times, and the maximum is {SETTINGS_MAX:,}; write "
            "a recipe file instead"
        )
    for text in given:
        if len(text) > SETTING_CHARACTERS_MAX:
            raise ConfigError(
                f"{option} {text[:40]}… has more than {SETTING_CHARACTERS_MAX:,} characters; write "
                "a recipe file instead"
            )
