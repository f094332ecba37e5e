"""`zephyr-fast train`, `merge` and `chat`: train on shards, and use the resulting model."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from zephyr_fast._core import InputError
from zephyr_fast.cli.options import Real
from zephyr_fast.dataset.product import Product
from zephyr_fast.printed import note, say, say_part, shown

_ACTS = [one.act for one in Product]
_PASSED = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}


@click.command(
    short_help=f"Train with {' or '.join(act.upper() for act in _ACTS)} on shards.",
    context_settings=_PASSED,
)
@click.argument(
    "arguments", nargs=-1, type=click.UNPROCESSED, metavar=f"[{'|'.join(_ACTS)}] [ARGUMENTS]…"
)
def train(arguments: tuple[str, ...]) -> int | None:
    """Train on shards with TRL; the same as `python -m zephyr_fast.train`."""
    if not {"-h", "--help"}.isdisjoint(arguments):
        say(_help(arguments[0]) if arguments[0] in _ACTS else _usage())
        return None
    given = ["--help" if one == "--help-all" else one for one in arguments]
    try:
        from zephyr_fast.train.__main__ import main
    except ImportError as error:
        raise InputError(_missing("train", error)) from error
    return main(given)


@click.command(short_help="Merge an adapter into its base model.")
@click.argument("adapter", metavar="ADAPTER")
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--dtype", help="Dtype of the merged weights (default: that of the base model).")
def merge(adapter: str, out: Path, **options: Any) -> None:
    """Merge ADAPTER, a directory or Hub id, into its base model, and save the result in OUT.

    The tokenizer, the chat template and the tokens at which the model stops are saved with it.
    """
    try:
        from zephyr_fast.train.merge import merge as merged
    except ImportError as error:
        raise InputError(_missing("merge", error)) from error
    say(shown(str(merged(adapter, out, **options))))


@click.command(short_help="Chat with a model.")
@click.argument("model", metavar="MODEL")
@click.option("--system", metavar="TEXT", help="System message.")
@click.option(
    "--max-tokens",
    "tokens_max",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="Maximum tokens of an answer.",
)
@click.option(
    "--temperature",
    type=Real(0, 100),
    default=0.7,
    show_default=True,
    help="Sampling temperature; 0 takes the most likely token.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the sampling.")
def chat(model: str, **options: Any) -> None:
    """Chat with MODEL, a directory or Hub id of a model or adapter.

    Each line of stdin is a message, and `/new` starts a new dialogue. The model answers with its
    own chat template, and stops at the tokens of its generation config.
    """
    try:
        from zephyr_fast.train.chat import Chat
    except ImportError as error:
        raise InputError(_missing("chat", error)) from error
    dialogue = Chat(model, **options)
    note("type a message; `/new` starts a new dialogue, Ctrl-D ends")
    for text in _typed():
        if text == "/new":
            dialogue.forget()
        elif text:
            answer = dialogue.answer(text, say_part)
            say("")
            if not answer.is_ended:
                note(f"(the model did not stop within {answer.tokens} tokens)")


def _typed() -> Iterator[str]:
    """Yield the lines of stdin, with a prompt on a terminal."""
    sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]  # bytes that are not UTF-8
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            yield input(prompt).strip()
        except EOFError:
            return


def _missing(command: str, error: ImportError) -> str:
    return (
        f"`{command}` needs the `train` extra: run `pip install '.[train]'` in a checkout ({error})"
    )


def _usage() -> str:
    from zephyr_fast.train.__main__ import usage

    return usage()


def _help(act: str) -> str:
    """Return the arguments that TRL does not have; torch is not imported for it."""
    from zephyr_fast.train.configs import ShardArguments, WindowArguments, packaged

    kind = WindowArguments if act == Product.WINDOWS.act else ShardArguments
    rows = [
        (f"--{one.name}", str(one.metadata["help"]).replace("%%", "%"))
        for one in dataclasses.fields(kind)
    ]
    formatter = click.HelpFormatter(width=100)
    formatter.write_usage("zephyr-fast train", f"{act} [--config NAME_OR_PATH] --shards DIR … ")
    with formatter.section("Arguments"):
        configs = f"YAML file, or a bundled config: {', '.join(packaged())}."
        formatter.write_dl([("--config", configs), *rows])
    formatter.write_paragraph()
    formatter.write_text(
        "Every field of TRL's and transformers' configs is an argument too, e.g. "
        "--model_name_or_path, --output_dir, --learning_rate, --per_device_train_batch_size, "
        f"--num_train_epochs, --use_peft. `zephyr-fast train {act} --help-all` lists them."
    )
    return formatter.getvalue().rstrip()
