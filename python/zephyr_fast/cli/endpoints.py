"""`zephyr-fast endpoints`: what the endpoints of a file are, and what they really do."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click

from zephyr_fast.cli import asking
from zephyr_fast.printed import say, say_json, shown

if TYPE_CHECKING:
    from zephyr_fast.endpoint.endpoints import Endpoint


@click.command(short_help="List model endpoints, or check them.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--check", "checks", is_flag=True, help="Ask each endpoint what it really does.")
@click.option("--dry-run", is_flag=True, help="Print what --check would cost; send nothing.")
@click.option("--only", "names", multiple=True, metavar="NAME", help="One endpoint. Repeatable.")
@asking.AS_JSON
def endpoints(
    file: Path, checks: bool, dry_run: bool, names: tuple[str, ...], as_json: bool
) -> int | None:
    """List the model endpoints of FILE, with their limits and prices.

    With --check, send each 15 short calls and report which parts of a request it
    honors: the number of choices, log-probs, sampling and seeds, JSON. Exit code 11 if an
    endpoint does not answer.
    """
    import json
    from dataclasses import asdict

    from zephyr_fast.endpoint.endpoints import described

    chosen = list(asking.chosen(file, names or None).values())
    if dry_run:
        cost = _probe().cost
        forecasts = [cost(endpoint) for endpoint in chosen]
        if as_json:
            say_json(json.dumps([asdict(one) for one in forecasts], indent=1))
        else:
            for one in forecasts:
                price = "cost unknown (no prices)"
                if one.nanousd_max is not None:
                    price = f"at most ${one.nanousd_max / 1e9:.4f}"
                say(
                    f"{one.endpoint}: {one.calls} calls, about {one.input_tokens:,} tokens in, "
                    f"at most {one.output_tokens_max:,} out, {price}, at least "
                    f"{one.seconds_min:.0f} s; retries are not included"
                )
        return None
    if not checks:
        if as_json:
            say_json(json.dumps([described(endpoint) for endpoint in chosen], indent=1))
        else:
            for endpoint in chosen:
                say(_line(endpoint))
        return None
    return _check(chosen, as_json)


def _probe() -> ModuleType:
    try:
        from zephyr_fast.endpoint import probe
    except ImportError as error:
        raise asking.missing_extra("endpoints", error) from error
    return probe


def _line(endpoint: "Endpoint") -> str:
    limits = [
        f"{endpoint.concurrency} calls at once",
        f"{endpoint.requests_per_minute or 'any number of'} requests a minute",
        f"{endpoint.tokens_per_minute or 'any number of'} tokens a minute",
    ]
    price = "no prices"
    if endpoint.has_prices:
        paid = endpoint.nanousd_per_input_token, endpoint.nanousd_per_output_token
        price = "${:g} in and ${:g} out for a million tokens".format(
            *((nanousd or 0) / 1_000 for nanousd in paid)
        )
    key = f"with the key from {endpoint.key.source}" if endpoint.key else "no key"
    where = f"{shown(endpoint.model)} at {shown(endpoint.url)}"
    return f"{endpoint.name}: {where}, {key}; {', '.join(limits)}; {price}"


def _check(chosen: "list[Endpoint]", as_json: bool) -> int | None:
    import json
    from dataclasses import asdict

    from zephyr_fast.endpoint.errors import EndpointError

    check = _probe().check
    found = {endpoint.name: check(endpoint) for endpoint in chosen}
    if as_json:
        rows = {name: [asdict(one) for one in findings] for name, findings in found.items()}
        say_json(json.dumps(rows, indent=1))
    else:
        for name, findings in found.items():
            say(name)
            for one in findings:
                say(f"  {one.feature:<12} {one.verdict:<8} {shown(one.detail, 300)}")
    silent = [name for name, findings in found.items() if findings[0].verdict == "no"]
    if silent:
        raise EndpointError(
            f"no answer from {', '.join(silent)}: {shown(found[silent[0]][0].detail, 500)}"
        )
    return None
