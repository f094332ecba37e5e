"""`zephyr-fast generate`: dialogues of a teacher model."""

import re
from pathlib import Path
from typing import Any

import click

from zephyr_fast.cli import asking
from zephyr_fast.cli.options import Real, path_option
from zephyr_fast.printed import say


@click.group()
def generate() -> None:
    """Generate training dialogues with a teacher model."""


@generate.command(short_help="Generate dialogues with a teacher.")
@click.option("--teacher", required=True, metavar="NAME", help="Endpoint that answers.")
@click.option(
    "--user-model",
    "user",
    metavar="NAME",
    help="Endpoint that writes the user's messages (default: the teacher).",
)
@click.option("--count", required=True, type=click.IntRange(1), help="Number of dialogues.")
@click.option(
    "--topics",
    "sectors",
    default="world,writing,materials",
    metavar="SECTOR,…",
    help="Sectors of dialogues (default: world,writing,materials).",
)
@path_option(
    "--sectors-dir",
    metavar="DIR",
    help="Directory with topics, seeds and prompts for each sector (default: bundled).",
)
@path_option(
    "--seeds",
    "seed_files",
    multiple=True,
    metavar="PATH",
    help="File of instructions that serve as examples (.jsonl, .parquet or .txt), instead of "
    "those of the sector. Repeatable.",
)
@click.option("--rounds", metavar="MIN-MAX", help="Messages of the user (default: the sector's).")
@click.option("--temperature", type=Real(0, 2), default=1.0, help="Of both models.")
@asking.MAX_TOKENS
@click.option(
    "--user-max-tokens",
    type=asking.TOKENS,
    default=256,
    help="Maximum tokens of a message of the user.",
)
@click.option(
    "--keep-cut",
    "keeps_cut",
    is_flag=True,
    help="Keep texts that end at their maximum of tokens. By default, they end the dialogue.",
)
@asking.shared
def dialogues(
    sectors: str,
    sectors_dir: Path | None,
    seed_files: tuple[Path, ...],
    rounds: str | None,
    teacher: str,
    user: str | None,
    shared: asking.Shared,
    **options: Any,
) -> None:
    """Let a teacher answer instructions that a model writes, for several rounds.

    Writes DIR/rows.jsonl, an input of `zephyr-fast prep ultrachat`. If the run stops, the same
    command continues and sends only what has no answer yet.
    """
    how = asking.asking(shared)
    from zephyr_fast.collection import prompts
    from zephyr_fast.generate.dialogues import Job
    from zephyr_fast.generate.dialogues import generate as generate_dialogues
    from zephyr_fast.generate.sectors import BUNDLED, load

    names = [name.strip() for name in sectors.split(",")]
    seeds = [one.text for one in prompts.load(seed_files).rows] if seed_files else None
    job = Job(
        [load(name, sectors_dir or BUNDLED, seeds) for name in names],
        shared.endpoints([teacher, *([user] if user else [])]),
        teacher,
        user=user,
        rounds=_pair(rounds) if rounds else None,
        seed=shared.seed,
        **options,
    )
    collected = asking.collected(generate_dialogues, job, shared, how)
    if collected and not shared.as_json and (ended := collected.summary["ended_early"]):
        listed = ", ".join(f"{reason}: {number:,}" for reason, number in ended.items())
        say(f"dialogues that ended early: {listed}")


def _pair(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,3})-(\d{1,3})", text, re.ASCII)
    if found is None:
        raise click.UsageError(f"--rounds must be like 3-7, not `{text}`")
    return int(found[1]), int(found[2])
