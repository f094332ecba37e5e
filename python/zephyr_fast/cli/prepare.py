"""`zephyr-fast prep` and `zephyr-fast binarize`: raw rows to a data set."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from zephyr_fast._core import ConfigError, StorageError, names
from zephyr_fast.printed import say_json, shown, warn
from zephyr_fast.untrusted.bounded import read_bytes
from zephyr_fast.untrusted.limits import COUNT_MAX, THREADS_MAX

Command = TypeVar("Command", bound=Callable[..., Any])

SETTINGS_MAX = 1_000
"""`--set` and `--decontaminate` options of one command: each is a key of a recipe, which has a
few dozen.
"""

SETTING_CHARACTERS_MAX = 100_000
"""Characters of one `--set` or `--decontaminate`: room for a list of evaluation sets, far below
what an argument may have.
"""

MANIFEST_BYTES_MAX = 1 << 30
"""A manifest that is printed: far above what the largest sets have, so that only another kind of
file is refused.
"""


def _size(text: str) -> int:
    """Bytes, as `600MB` (powers of ten), `2GiB` (powers of two) or a plain number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B?", text, re.IGNORECASE)
    if not found:
        raise click.BadParameter(f"`{text}` is not a size; use e.g. 600MB or 2GiB")
    size = float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " ")
    if size > COUNT_MAX:
        raise click.BadParameter(f"`{text}` is more than any machine has; use e.g. 600MB or 2GiB")
    return int(size)


def _words(kind: str) -> str:
    """What help shows for an option that takes one of the engine's words.

    No `click.Choice`: whether a word is known is for the engine to say, as it does for `--set`.
    """
    return f"[{'|'.join(names(kind))}]"


_SHARED = [
    click.option(
        "--out",
        required=True,
        type=click.Path(path_type=Path),
        help="Folder to write; made if need be.",
    ),
    click.option(
        "--input",
        "-i",
        multiple=True,
        help="Files, folders or globs (quoted); or `sample`. Without: the recipe's Hub id.",
    ),
    click.option(
        "--tokenizer", help="Folder, tokenizer.json, Hub id, or `sample`. Without: the recipe's."
    ),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any key of the recipe, as `dedup.near=false`.",
    ),
    click.option(
        "--decontaminate",
        "evaluation_sets",
        multiple=True,
        metavar="NAME=PATH:FIELD",
        help="Keep this evaluation set out.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, THREADS_MAX),
        help="Threads; one a core unless given. The bytes are the same.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace another run's folder."),
    click.option("--strict", is_flag=True, help="Stop at the first unreadable row."),
    click.option(
        "--max-bad-rows",
        type=click.IntRange(0, COUNT_MAX),
        metavar="N",
        help="Unreadable rows allowed; without: 20 or 0.1 %, if that is more.",
    ),
    click.option(
        "--max-memory",
        type=_size,
        metavar="SIZE",
        help="Memory that the process may hold, as 600MB or 2GiB; what needs more is refused.",
    ),
    click.option(
        "--json", "as_json", is_flag=True, help="Print the manifest as JSON instead of a summary."
    ),
]


def _shared(command: Command) -> Command:
    for option in reversed(_SHARED):
        command = option(command)
    return command


@click.command()
@click.argument("recipe", default="ultrachat")
@_shared
@click.option("--seq-len", type=int, metavar="TOKENS", help="Tokens of a packed sample at most.")
def prep(recipe: str, seq_len: int | None, **options: Any) -> None:
    """Clean, filter, dedup, tokenize and pack dialogues.

    RECIPE is a packaged name (ultrachat) or the path of a TOML file.
    """
    _run("prep", recipe, {"pack.seq_len": seq_len}, **options)


@click.command()
@click.argument("recipe", default="ultrafeedback")
@_shared
@click.option("--preset", metavar=_words("presets"), help="A published rule set.")
@click.option(
    "--strategy",
    metavar=_words("strategies"),
    help="Which replies are paired; overrides the preset's.",
)
@click.option(
    "--score-by", metavar=_words("scores"), help="Which score decides; overrides the preset's."
)
@click.option(
    "--max-length", type=int, metavar="TOKENS", help="Tokens of prompt and answer at most."
)
def binarize(
    recipe: str,
    preset: str | None,
    strategy: str | None,
    score_by: str | None,
    max_length: int | None,
    **options: Any,
) -> None:
    """Turn scored replies into preference pairs, as text and as tokens.

    RECIPE is a packaged name (ultrafeedback) or the path of a TOML file.
    """
    keys = {"preset": preset, "strategy": strategy, "score_by": score_by, "max_length": max_length}
    _run("binarize", recipe, {f"binarize.{key}": value for key, value in keys.items()}, **options)


def _run(
    command: str,
    recipe: str,
    flags: dict[str, Any],
    *,
    out: Path,
    input: tuple[str, ...],
    settings: tuple[str, ...],
    evaluation_sets: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    from zephyr_fast import prepare
    from zephyr_fast.prepare.progress import ProgressBars
    from zephyr_fast.prepare.summary import print_summary

    _give_memory_back()
    laid_over = {key: value for key, value in flags.items() if value is not None}
    _check_few("--set", settings)
    _check_few("--decontaminate", evaluation_sets)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {setting}: write KEY=VALUE, as `--set pack.seq_len=512`")
        laid_over[key] = value
    sets = {name: place for name, _, place in (given.partition("=") for given in evaluation_sets)}
    manifest_file, before = out / "manifest.json", _changed(out / "manifest.json")
    with ProgressBars() as bars:
        manifest = {"prep": prepare.prep, "binarize": prepare.binarize}[command](
            recipe,
            out=out,
            input=input,
            overrides=laid_over,
            decontaminate=sets,
            on_progress=bars.follow,
            **options,
        )
    if before is not None and before == _changed(manifest_file):
        warn(f"`{shown(out)}` holds this very run already; nothing to do")
    if as_json:
        say_json(_text_of(manifest_file).removesuffix("\n"))
    else:
        print_summary(manifest, out)


def _give_memory_back() -> None:
    """Lets glibc return each block above 1 MiB to the system at once.

    On its own it raises that size as blocks are freed, to 32 MiB, and the tables of dedup,
    outgrown one by one, stay as holes: 200 bytes a row at 250,000 rows. For the command alone:
    in a library's call, memory is the caller's affair.
    """
    import ctypes

    mmap_threshold = -3  # as malloc.h numbers it
    try:
        ctypes.CDLL(None).mallopt(mmap_threshold, 1 << 20)
    except (AttributeError, OSError):
        return  # another allocator


def _check_few(option: str, given: tuple[str, ...]) -> None:
    """ConfigError for more settings, or longer ones, than any recipe has keys for."""
    if len(given) > SETTINGS_MAX:
        raise ConfigError(
            f"{option} was given {len(given):,} times; at most {SETTINGS_MAX:,} are taken: write a "
            "recipe file instead"
        )
    for text in given:
        if len(text) > SETTING_CHARACTERS_MAX:
            raise ConfigError(
                f"{option} {text[:40]}… has more than {SETTING_CHARACTERS_MAX:,} characters: write "
                "a recipe file instead"
            )


def _text_of(manifest: Path) -> str:
    try:
        return read_bytes(manifest, MANIFEST_BYTES_MAX).decode("utf-8", "replace")
    except OSError as error:
        raise StorageError(f"cannot read `{manifest}`: {error.strerror}") from error


def _changed(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except (OSError, ValueError):  # not there, or no name that a file can have
        return None
