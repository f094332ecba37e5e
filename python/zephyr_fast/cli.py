"""The command line: `zephyr-fast prep …` and `zephyr-fast binarize …`. Results on stdout, everything else on stderr."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from zephyr_fast._core import InputError, IntegrityError, InternalError, RecipeError, StorageError, ZephyrError, __version__

Command = TypeVar("Command", bound=Callable[..., Any])

PRESETS = ["paper", "h4-v1", "h4-v2-rules", "argilla"]
SCORES = ["overall", "fine_grained", "mean_aspects", "instruction_following", "honesty", "truthfulness", "helpfulness"]
STRATEGIES = ["best-vs-random", "best-vs-random-lower", "best-vs-worst", "all-lower"]


def _size(text: str) -> int:
    """Bytes, as `600MB` (powers of ten), `2GiB` (powers of two) or a plain number."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(i?)B?", text, re.IGNORECASE)
    if not found:
        raise click.BadParameter(f"`{text}` is no size; write it as 600MB or 2GiB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** " KMGT".index(found[2].upper() or " "))


_SHARED = [
    click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write; made if need be."),
    click.option("--input", "-i", multiple=True, help="Files, folders or globs (quoted); or `sample`. Without: the recipe's Hub id."),
    click.option("--tokenizer", help="Folder, tokenizer.json, Hub id, or `sample`. Without: the recipe's."),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the recipe, as `dedup.near=false`."),
    click.option("--decontaminate", "evaluation_sets", multiple=True, metavar="NAME=PATH:FIELD", help="Keep this evaluation set out."),
    click.option("--threads", type=click.IntRange(1), help="Threads; one a core unless given. The bytes are the same."),
    click.option("--overwrite", is_flag=True, help="Replace another run's folder."),
    click.option("--strict", is_flag=True, help="Stop at the first unreadable row."),
    click.option("--max-bad", type=click.IntRange(0), metavar="N", help="Unreadable rows allowed; without: 20 or 0.1 %, if that is more."),
    click.option(
        "--max-memory", type=_size, metavar="SIZE", help="Memory that the process may hold, as 600MB or 2GiB; what needs more is refused."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON instead of a summary."),
]


def _shared(command: Command) -> Command:
    for option in reversed(_SHARED):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="zephyr-fast")
def cli() -> None:
    """Raw chat and preference data to verified, packed token shards.

    Train on them with `accelerate launch -m zephyr_fast.train sft|dpo --shards FOLDER`.
    """


@cli.command()
@click.argument("recipe", default="ultrachat")
@_shared
@click.option("--seq-len", type=int, metavar="TOKENS", help="Tokens of a packed sample at most.")
def prep(recipe: str, seq_len: int | None, **options: Any) -> None:
    """Clean, filter, dedup, tokenize and pack dialogues.

    RECIPE is a packaged name (ultrachat) or the path of a TOML file.
    """
    _run("prep", recipe, {"pack.seq_len": seq_len}, **options)


@cli.command()
@click.argument("recipe", default="ultrafeedback")
@_shared
@click.option("--preset", type=click.Choice(PRESETS), help="A published rule set.")
@click.option("--strategy", type=click.Choice(STRATEGIES), help="Which replies are paired; overrides the preset's.")
@click.option("--score-by", type=click.Choice(SCORES), help="Which score decides; overrides the preset's.")
@click.option("--max-length", type=int, metavar="TOKENS", help="Tokens of prompt and answer at most.")
def binarize(recipe: str, preset: str | None, strategy: str | None, score_by: str | None, max_length: int | None, **options: Any) -> None:
    """Turn scored replies into preference pairs, as text and as tokens.

    RECIPE is a packaged name (ultrafeedback) or the path of a TOML file.
    """
    keys = {"preset": preset, "strategy": strategy, "score_by": score_by, "max_length": max_length}
    _run("binarize", recipe, {f"binarize.{key}": value for key, value in keys.items()}, **options)


@cli.command("ref-logprobs")
@click.argument("prefs")
@click.option("--model", required=True, help="Folder or Hub id of the model that training will start from.")
@click.option("--split", "splits", multiple=True, help="A split; may be repeated. Without: all of them.")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), help="That of the training run. Without: bfloat16 on a GPU."
)
@click.option("--attn-implementation", "attention", metavar="NAME", help="As transformers calls it, e.g. flash_attention_2.")
def ref_logprobs(prefs: str, **options: Any) -> None:
    """Store the reference model's log-probs beside the pairs of PREFS.

    Training with `precompute_ref_log_probs: true` then needs no reference model in memory. An interrupted run goes on where
    it was; with several GPUs: `accelerate launch -m zephyr_fast ref-logprobs …`.
    """
    try:
        from zephyr_fast.train import reference
    except ImportError as error:
        raise InputError(f"this needs the training extra: pip install 'zephyr-fast[train]' ({error})") from error
    click.echo(reference.ref_logprobs(prefs, **options))


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def verify(folder: Path, as_json: bool) -> None:
    """Check every byte of FOLDER against what was written, and that nothing else lies there.

    Leaves with exit code 7, naming file, batch and offset, if anything is not as it was.
    """
    import json
    from dataclasses import asdict

    from zephyr_fast.verify import complaint, report

    found = report(folder)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
    if found.damage:
        raise IntegrityError(complaint(folder, found))
    if not as_json:
        click.echo(f"`{folder}` is whole: {found.files:,} files, {found.bytes:,} bytes, {found.batches:,} batches of shards")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--config", required=True, help="Training config: a packaged name or a path.")
@click.option("--model", help="Folder or config.json of the model. Without: the config's.")
@click.option("--gpus", type=int, default=8, show_default=True)
@click.option("--mfu", type=float, default=0.4, show_default=True, help="Model FLOPs utilisation that you expect.")
@click.option("--peak-tflops", type=float, default=989.0, show_default=True, help="Of one GPU; 989 is an H100 in bfloat16.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def estimate(folder: Path, as_json: bool, **options: Any) -> None:
    """Say what training on FOLDER will cost: steps, tokens, FLOPs, GPU hours."""
    import json
    from dataclasses import asdict

    from zephyr_fast import estimate as cost

    found = cost.estimate(folder, **options)
    click.echo(json.dumps(asdict(found), indent=1) if as_json else "\n".join(f"{name:<10} {says}" for name, says in cost.lines(found)))


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
    from zephyr_fast.progress import ProgressBars
    from zephyr_fast.summary import print_summary

    _give_memory_back()
    laid_over = {key: value for key, value in flags.items() if value is not None}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set {setting}: write KEY=VALUE, as `--set pack.seq_len=512`")
        laid_over[key] = value
    sets = {name: place for name, _, place in (given.partition("=") for given in evaluation_sets)}
    manifest_file, before = out / "manifest.json", _changed(out / "manifest.json")
    with ProgressBars() as bars:
        verb = prepare.prep if command == "prep" else prepare.binarize
        manifest = verb(recipe, out=out, input=input, settings=laid_over, decontaminate=sets, follow=bars.follow, **options)
    if before is not None and before == _changed(manifest_file):
        click.echo(f"`{out}` holds this very run already; nothing to do", err=True)
    if as_json:
        click.echo(manifest_file.read_text(encoding="utf-8"), nl=False)
    else:
        print_summary(manifest, out)


def _give_memory_back() -> None:
    """Lets glibc return each block above 1 MiB to the system at once.

    On its own it raises that size as blocks are freed, to 32 MiB, and the tables of dedup, outgrown one by one, stay as holes: 200
    bytes a row at 250,000 rows. For the command alone: in a library's call, memory is the caller's affair.
    """
    import ctypes

    mmap_threshold = -3  # as malloc.h numbers it
    try:
        ctypes.CDLL(None).mallopt(mmap_threshold, 1 << 20)
    except (AttributeError, OSError):
        return  # another allocator


def _changed(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.is_file() else None


def main() -> None:
    """Runs the command line and leaves with the exit code of what happened."""
    try:
        code = cli(standalone_mode=False)
        sys.stdout.flush()  # here, where a full disk can still be told
        sys.exit(code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except InternalError as error:
        click.echo(f"error: {error}\nplease report this, with the command and, if you may, the row", err=True)
        sys.exit(error.exit_code)
    except ZephyrError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; nothing that looks complete was left. Type the same command again", err=True)
        sys.exit(130)
    except OSError as error:
        sys.exit(_unprinted(error))


def _unprinted(error: OSError) -> int:
    """The exit code for results that stdout did not take."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more when it ends
    click.echo(f"error: cannot print: {error.strerror or error}", err=True)
    return StorageError.exit_code
