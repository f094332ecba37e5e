"""`zephyr-fast prep` and `zephyr-fast binarize`: raw rows to a dataset."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from zephyr_fast._core import StorageError
from zephyr_fast.cli.options import choices, of_map, open_channel, pairs, shared
from zephyr_fast.dataset.product import Product
from zephyr_fast.prepare.recipe import bundled
from zephyr_fast.printed import channel, detail, note, say, say_json, shown, warn
from zephyr_fast.untrusted.bounded import read_bytes

MANIFEST_BYTES_MAX = 1 << 30
"""Maximum size of a manifest that is printed: far above that of the largest datasets, so only
another kind of file is rejected.
"""


@dataclass(frozen=True)
class Flag:
    """A flag of a recipe key: `--seq-len` for `pack.seq_len`."""

    key: str
    metavar: str
    help: str
    type: type = str

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]


_FLAGS = {
    Product.WINDOWS: [
        Flag("pack.seq_len", "TOKENS", "Maximum tokens per packed sequence.", int),
        Flag(
            "tokenize.train_on",
            choices("train_on"),
            "Tokens that carry a label (default: assistant, which is every assistant message).",
        ),
    ],
    Product.PAIRS: [
        Flag("binarize.preset", choices("presets"), "Published rule set for choosing pairs."),
        Flag(
            "binarize.strategy",
            choices("strategies"),
            "How completions are paired (default: set by the preset).",
        ),
        Flag(
            "binarize.score_by",
            choices("scores"),
            "Score used to rank completions (default: set by the preset).",
        ),
        Flag(
            "binarize.max_length",
            "TOKENS",
            "Maximum tokens of prompt plus completion. Longer completions are truncated.",
            int,
        ),
    ],
}
"""By product, the flags that only its command has."""


def _command(product: Product) -> click.Command:
    """Return the command that builds a product."""
    command, flags = product.command, _FLAGS.get(product, [])

    def build(recipe: str, **options: Any) -> None:
        settings = {flag.key: options.pop(flag.name) for flag in flags}
        _run(command, recipe, settings, **options)

    for flag in reversed(flags):
        option = f"--{flag.name.replace('_', '-')}"
        build = click.option(option, type=flag.type, metavar=flag.metavar, help=flag.help)(build)
    build = click.argument("recipe", default=product.facts.recipe)(shared(build))
    known = ", ".join(bundled(command))
    return click.command(
        command,
        short_help=product.facts.building,
        help=f"{product.facts.building}\n\n"
        f"RECIPE is a bundled recipe ({known}) or the path of a TOML file.",
    )(build)


COMMANDS = tuple(_command(product) for product in Product)
"""The commands of this file, one per product."""


def _run(
    command: str,
    recipe: str,
    flags: dict[str, Any],
    *,
    out: Path,
    template: str | None,
    train_end: str | None,
    settings: tuple[str, ...],
    own_names: tuple[str, ...],
    evaluation_sets: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    log_file: str | None,
    **options: Any,
) -> None:
    from zephyr_fast.prepare.plan import plan

    open_channel(quiet, verbose, None if dry_run else log_file, out, options["input"])
    if dry_run and as_json:
        raise click.UsageError("--dry-run and --json exclude each other")
    flags = flags | {"template.name": template, "tokenize.train_end": train_end}
    overrides = {key: value for key, value in flags.items() if value is not None}
    overrides |= of_map(own_names)
    overrides |= pairs("--set", settings, "KEY=VALUE, e.g. `--set pack.seq_len=512`")
    options["overrides"] = overrides
    options["input"] = options["input"] or None
    options["decontaminate"] = pairs(
        "--decontaminate", evaluation_sets, "NAME=PATH:FIELD, e.g. `mt_bench=mt_bench.jsonl:turns`"
    )
    if dry_run:
        for label, value in plan(command, recipe, out, options):
            say(f"{label:<10} {shown(value)}")
        return
    if channel.verbose:
        for label, value in plan(command, recipe, out, options):
            detail(f"{label:<10} {shown(value)}")
    _write(command, recipe, out, as_json, options)


def _write(command: str, recipe: str, out: Path, as_json: bool, options: dict[str, Any]) -> None:
    """Run the command, and print the manifest or the summary."""
    from zephyr_fast.prepare.progress import ProgressBars
    from zephyr_fast.prepare.run import make
    from zephyr_fast.prepare.summary import print_summary, warnings

    _limit_malloc_cache()
    manifest_file, before, start = out / "manifest.json", _mtime(out / "manifest.json"), time.time()
    with ProgressBars(hidden=channel.quiet) as bars:
        given: Any = {**options, "on_progress": bars.update}
        manifest = make(command, recipe, out, given)
    if before is not None and before == _mtime(manifest_file):
        note(
            f"`{shown(out)}` is up to date (same inputs, recipe and tokenizer); there is nothing "
            "to do"
        )
    detail(f"done in {time.time() - start:.1f} s")
    for warning in warnings(manifest):
        warn(shown(warning))
    if as_json:
        say_json(_text_of(manifest_file).removesuffix("\n"))
    elif not channel.quiet:
        print_summary(manifest, out)


def _limit_malloc_cache() -> None:
    """Make glibc return each block above 1 MiB to the system at once.

    By default glibc raises that threshold to 32 MiB as blocks are freed. The tables of dedup grow
    step by step, and the old ones would remain as holes: 200 bytes a row at 250,000 rows. This is
    only done for the command line, because a library must not change its caller's allocator.
    """
    import ctypes

    mmap_threshold = -3  # its number in malloc.h
    try:
        ctypes.CDLL(None).mallopt(mmap_threshold, 1 << 20)
    except (AttributeError, OSError):
        return  # another allocator


def _text_of(manifest: Path) -> str:
    try:
        return read_bytes(manifest, MANIFEST_BYTES_MAX).decode("utf-8", "replace")
    except OSError as error:
        raise StorageError(f"cannot read `{manifest}`: {error.strerror}") from error


def _mtime(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except (OSError, ValueError):  # missing, or not a valid file name
        return None
