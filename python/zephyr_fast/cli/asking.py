"""The options that commands share which ask models, and what they print about calls."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zephyr_fast._core import InputError
from zephyr_fast.cli.options import Real, path_option
from zephyr_fast.printed import note, say, say_json, shown, warn

if TYPE_CHECKING:
    from zephyr_fast.collection.run import Asking, Collected, Job
    from zephyr_fast.endpoint.client import Counts
    from zephyr_fast.endpoint.endpoints import Endpoint
    from zephyr_fast.endpoint.forecast import Forecast

Command = TypeVar("Command", bound=Callable[..., Any])
JobOf = TypeVar("JobOf", bound="Job")

OUT = path_option(
    "--out",
    required=True,
    metavar="DIR",
    help="Output directory (created if missing). The same command continues in it.",
)
JUDGES = click.option(
    "--judge", "judges", required=True, metavar="NAME,…", help="Endpoints that judge."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")

_SHARED = [
    path_option(
        "--endpoints",
        "endpoints_file",
        required=True,
        help="TOML file of model endpoints (see `zephyr-fast endpoints`).",
    ),
    OUT,
    click.option("--seed", type=click.IntRange(0), default=1, help="Seed of all random choices."),
    click.option(
        "--budget",
        type=Real(0, 1e9, min_open=True),
        metavar="USD",
        help="Maximum cost, over all runs in the output directory. Requires prices.",
    ),
    click.option(
        "--budget-tokens",
        type=click.IntRange(1),
        metavar="N",
        help="Maximum number of tokens, over all runs in the output directory.",
    ),
    click.option(
        "--accept-failures",
        is_flag=True,
        help="Accept calls that fail after all retries as failures, instead of exit code 11.",
    ),
    click.option(
        "--replay", "replays", is_flag=True, help="Write the rows from the log; send nothing."
    ),
    click.option(
        "--dry-run", is_flag=True, help="Print calls, tokens and cost; send and write nothing."
    ),
    AS_JSON,
]


@dataclass(frozen=True, slots=True)
class Shared:
    """The values of the shared options, by their names in the list above."""

    endpoints_file: Path
    out: Path
    seed: int
    budget: float | None
    budget_tokens: int | None
    accept_failures: bool
    replays: bool
    dry_run: bool
    as_json: bool

    def endpoints(self, names: Iterable[str]) -> "dict[str, Endpoint]":
        """Return the named endpoints of the file. InputError for a name that is not in it."""
        return chosen(self.endpoints_file, names)


def shared(command: Command) -> Callable[..., Any]:
    """Add the shared options to a command, which gets their values as its argument `shared`."""

    @wraps(command)
    def unpacked(**options: Any) -> Any:
        values = {one.name: options.pop(one.name) for one in fields(Shared)}
        return command(shared=Shared(**values), **options)

    found: Callable[..., Any] = unpacked
    for option in reversed(_SHARED):
        found = option(found)
    return found


TOKENS = click.IntRange(1, 100_000_000)
"""Tokens of one text: more than any model writes, and few enough to count what they cost."""

MAX_TOKENS = click.option(
    "--max-tokens", type=TOKENS, default=1024, help="Maximum tokens of an answer."
)


def names(option: str, text: str) -> tuple[str, ...]:
    """Return the names in the value of an option. UsageError if one is empty or repeated."""
    found = tuple(name.strip() for name in text.split(","))
    if "" in found or len(set(found)) < len(found):
        raise click.UsageError(f"{option} needs different names, separated by commas")
    return found


def chosen(file: Path, names: Iterable[str] | None) -> "dict[str, Endpoint]":
    """Return the named endpoints of a file, or all. InputError for a name that is not in it."""
    from zephyr_fast.endpoint.endpoints import load

    found = load(file)
    names = list(found if names is None else names)
    for name in names:
        if name not in found:
            known = ", ".join(found)
            raise InputError(f"`{shown(file)}` has no endpoint `{shown(name)}`; known: {known}")
    return {name: found[name] for name in dict.fromkeys(names)}


def missing_extra(extra: str, error: ImportError, install: str = "") -> InputError:
    """Return the error for a command that needs an extra which is not installed. `install`: the
    extras to install, if there are several.
    """
    return InputError(
        f"the `{extra}` extra is missing: run pip install '.[{install or extra}]' in a checkout "
        f"({error})"
    )


def asking(shared: Shared) -> "Asking":
    """Return how a run asks, with a status line every ten seconds or so."""
    try:
        from zephyr_fast.collection.run import Asking
    except ImportError as error:
        raise missing_extra("endpoints", error) from error
    from zephyr_fast.endpoint.budget import Caps
    from zephyr_fast.endpoint.client import Counts

    ticks = 0

    def progress(counts: Counts) -> None:
        nonlocal ticks
        ticks += 1
        if ticks % 10 == 0:
            note(f"{counts.answered:,} calls answered, {counts.reused:,} from the log")

    caps = Caps(shared.budget, shared.budget_tokens)
    return Asking(caps, shared.replays, shared.accept_failures, progress)


def collected(
    collect: "Callable[[JobOf, Path, Asking], Collected]",
    job: "JobOf",
    shared: Shared,
    how: "Asking",
) -> "Collected | None":
    """Collect the rows of a job and print the summary; with --dry-run, print what it would send and
    return None.
    """
    from zephyr_fast.collection.run import estimate

    if shared.dry_run:
        print_forecasts(estimate(job, shared.out), shared.as_json)
        return None
    found = collect(job, shared.out, how)
    print_collected(found, shared.out, shared.as_json)
    return found


def print_forecasts(forecasts: "list[Forecast]", as_json: bool) -> None:
    """Print what a run would send to each endpoint."""
    from dataclasses import asdict

    if as_json:
        say_json(json.dumps([asdict(one) for one in forecasts], indent=1))
        return
    for one in forecasts:
        price = "cost unknown (no prices)"
        if one.nanousd is not None and one.nanousd_max is not None:
            price = f"about ${one.nanousd / 1e9:,.4f}, at most ${one.nanousd_max / 1e9:,.4f}"
        known = f" ({one.calls_answered:,} more in the log)" if one.calls_answered else ""
        say(
            f"{one.endpoint}: {one.calls:,} calls{known}, about {one.input_tokens:,} tokens in and "
            f"{one.output_tokens:,} out, {price}, at least {one.seconds_min:,.0f} s; retries are "
            "not included"
        )


def _warn_of_several_models(counts: "Counts") -> None:
    for name, models in counts.models.items():
        if len(models) > 1:
            listed = ", ".join(f"{shown(one)}: {number:,}" for one, number in models.most_common(9))
            warn(
                f"warning: endpoint `{name}` answered as several models ({listed}); "
                "`strict_model = true` accepts only the one that is asked"
            )


def print_collected(collected: "Collected", path: Path, as_json: bool) -> None:
    """Print the summary of a run."""
    from zephyr_fast.endpoint.budget import usd

    counts, spent = collected.counts, collected.spent
    _warn_of_several_models(counts)
    if as_json:
        calls = {
            "answered": counts.answered,
            "reused": counts.reused,
            "failed": dict(counts.failed),
            "spent_nanousd": spent.nanousd,
            "spent_tokens": spent.tokens,
        }
        say_json(json.dumps({**collected.summary, "calls": calls}, indent=1, ensure_ascii=False))
        return
    failed = ", ".join(f"{why}: {number:,}" for why, number in counts.failed.most_common())
    cost = f", {usd(spent.nanousd)}" if spent.nanousd else ""
    say(f"{collected.summary['rows']:,} rows in {shown(path)}")
    say(
        f"calls: {counts.answered:,} answered now, {counts.reused:,} from the log"
        f"{f', failed {failed}' if failed else ''}; spent {spent.tokens:,} tokens{cost}"
    )
