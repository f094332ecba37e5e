"""Write the reference pages in docs/reference from the sources.

    # update docs/reference (or: make reference)
    python scripts/write_reference.py

Keys of recipes come from the JSON Schema of the recipe, options from the command line itself,
reasons and exit codes from the engine, and columns and fields from `docs/columns.json` and
`docs/manifest.schema.json`. Rust tests write these three JSON files from the types of the engine.
`tests/house/test_reference_pages.py` compares the pages.
"""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click

from reference_files import files, ledger
from zephyr_fast import _core
from zephyr_fast.cli import cli
from zephyr_fast.dataset.product import Product
from zephyr_fast.endpoint import errors as endpoint_classes
from zephyr_fast.endpoint.reasons import Reason
from zephyr_fast.evaluate import errors as evaluate_classes
from zephyr_fast.prepare import recipe_keys
from zephyr_fast.prepare.recipe import bundled
from zephyr_fast.prepare.recipe_keys import Key
from zephyr_fast.train.configs import ShardArguments
from zephyr_fast.train.errors import REMEDIES as TRAINING_REMEDIES

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "reference"

NOTE = "<!-- written by scripts/write_reference.py: edit the sources, then run `make reference` -->"

INDEX = {
    "recipe.md": "every key of a recipe, with type, default and meaning",
    "command-line.md": "every command with its arguments and options",
    "reasons.md": "why a row was not written, and how to change that",
    "exit-codes.md": "the exit codes and exceptions",
    "ledger.md": "the columns of the ledger, which has a line for each row read",
    "files.md": "the files of a dataset: shards, text, manifest and the others",
}


def main() -> None:
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    texts = {
        "README.md": index(),
        "recipe.md": recipe(),
        "command-line.md": command_line(),
        "reasons.md": reasons(),
        "exit-codes.md": exit_codes(),
        "ledger.md": ledger(),
        "files.md": files(),
    }
    return {name: f"{NOTE}\n{text.strip()}\n" for name, text in texts.items()}


def index() -> str:
    lines = [f"- [{name.removesuffix('.md')}]({name}): {what}" for name, what in INDEX.items()]
    return "# Reference\n\n" + "\n".join(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def recipe() -> str:
    sections: dict[str, list[Key]] = {}
    for key in recipe_keys.all_keys():
        sections.setdefault(section_of(key.name), []).append(key)
    parts = [
        f"""# Recipe keys

A recipe is a TOML file. Every key is optional unless its default is *required*. An unknown key is
an error. The bundled recipes are {listed(bundled())}.

`--set KEY=VALUE` on the command line and `overrides=` in Python take the dotted names of this page.
`N` is an index in a list, starting at 0: `--set filter.0.kind=length`.

`zephyr-fast recipe keys` prints this list. `zephyr-fast recipe show NAME` prints a recipe with all
its values.""",
        *(section(name, keys) for name, keys in sections.items()),
        presets(),
    ]
    return "\n\n".join(parts)


def section_of(key: str) -> str:
    """Return the TOML header of a key. It is empty for keys before all tables."""
    table_name = key.rpartition(".")[0]
    return (
        f"[[{table_name.removesuffix('.N')}]]"
        if table_name.endswith(".N")
        else (f"[{table_name}]" if table_name else "")
    )


def section(name: str, keys: list[Key]) -> str:
    rows = [
        [
            code(key.name),
            key.kind,
            key.default if key.default in ("required", "unset") else code(key.default),
            code(key.command) or "both",
            key.meaning,
        ]
        for key in keys
    ]
    head = ["key", "type", "default", "command", "meaning"]
    parts = [f"## `{name}`" if name else "## Top level", table(head, rows)]
    for key in keys:
        if any(choice.meaning for choice in key.choices):
            values = [[code(one.value), one.meaning] for one in key.choices]
            parts.append(f"Values of `{key.name}`:\n\n{table(['value', 'meaning'], values)}")
        elif key.choices:
            parts.append(f"Values of `{key.name}`: {listed(one.value for one in key.choices)}.")
    return "\n\n".join(parts)


def presets() -> str:
    known = recipe_keys.presets()
    names = list(known[0].sets)
    rows = [
        [code(one.name), *(code(recipe_keys.toml(one.sets[name])) for name in names)]
        for one in known
    ]
    keeping = listed(one.name for one in known if not one.drops_duplicates)
    return f"""## Presets of `binarize`

A preset sets the keys below and `dedup.exact`, unless the recipe or an option sets them.
`dedup.exact` is false with {keeping}, because the published datasets keep repeated rows.
It is true with the others.

{table(["preset", *map(code, names)], rows)}"""


def listed(names: Iterable[str]) -> str:
    return ", ".join(map(code, names))


def command_line() -> str:
    parts = [
        """# Command line

Results go to stdout, progress and messages to stderr. [Exit codes](exit-codes.md) are listed on
their own page.""",
        *commands(cli, "zephyr-fast"),
        training(),
    ]
    return "\n\n".join(parts)


def commands(command: click.Command, path: str) -> Iterable[str]:
    """Yield a section for each command of a group, or for a command that is not a group."""
    if isinstance(command, click.Group):
        for name in command.commands:
            yield from commands(command.commands[name], f"{path} {name}")
        return
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    rows = [
        option(one, context)
        for one in command.get_params(context)
        if isinstance(one, click.Option) and not one.hidden
    ]
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    help_text = "\n\n".join(" ".join(one.split()) for one in paragraphs)
    yield f"## {path}\n\n```\n{usage}\n```\n\n{help_text}\n\n" + table(
        ["option", "value", "default", "meaning"], rows
    )


def option(one: click.Option, context: click.Context) -> list[str]:
    value = "" if one.is_flag else one.make_metavar(context).replace("|", " | ")
    shown = one.default is not None and not one.is_flag and not one.multiple
    default = code(str(one.default)) if shown and isinstance(one.default, str | int | float) else ""
    needed = "required" if one.required else default
    return [listed([*one.opts, *one.secondary_opts]), code(value), needed, one.help or ""]


def training() -> str:
    rows = []
    for one in fields(ShardArguments):
        default = one.default if one.default is not MISSING else None
        needed = one.default is MISSING and one.default_factory is MISSING
        kind = getattr(one.type, "__name__", "") if one.type is str else words_of(one.type)
        rows.append(
            [
                code(f"--{one.name}"),
                code(kind),
                "required" if needed else code(str(default or "")),
                str(one.metadata["help"]),
            ]
        )
    head = ["option", "value", "default", "meaning"]
    acts = "|".join(one.act for one in Product)
    return f"""## python -m zephyr_fast.train

```
accelerate launch -m zephyr_fast.train {acts} [--config NAME_OR_PATH] --shards DIR [OPTIONS]
```

Trains on shards with TRL. Every field of TRL's `SFTConfig` (or `DPOConfig`) and `ModelConfig` is an
option and a key of the YAML config. Options override the config. These options are added:

{table(head, rows)}"""


def words_of(kind: Any) -> str:
    """Return a type as a person writes it: the values of a literal, else its name."""
    return ", ".join(getattr(kind, "__args__", ())) if "Literal" in str(kind) else str(kind)


ENDINGS = {
    "unreadable": (
        "Quarantined: unreadable",
        "The row could not be read. It is in the quarantine, and counts against `--max-bad-rows`.",
    ),
    "quarantined": (
        "Quarantined",
        "The row must not be used unchanged. It is in the quarantine, and does not count against "
        "`--max-bad-rows`.",
    ),
    "dropped": ("Dropped", "The row is valid, but the recipe excludes it."),
    "duplicate": (
        "Duplicates",
        "The row repeats an earlier one. The ledger's `duplicate_of` has the `row_id` of that row.",
    ),
}


def reasons() -> str:
    parts = [
        """# Reasons

The [ledger](ledger.md) has one line for each row read. If the row was not written, `reason` has one
of the codes below, and `detail` often has what was found. `manifest.json` counts the rows of each
reason.

`read = written + dropped + duplicates + quarantined` always holds. Otherwise the run fails.

A row can have several faults. The first check that fails decides the reason. The order is: reading,
truecasing, filters in the order of the recipe, pairing (`binarize`), control tokens,
decontamination, deduplication, template and mask, length."""
    ]
    described = _core.describe("reasons")
    for ending, (title, what) in ENDINGS.items():
        rows = [
            [code(word), cause, remedy] for word, ends, cause, remedy in described if ends == ending
        ]
        parts.append(f"## {title}\n\n{what}\n\n{table(['reason', 'cause', 'what to do'], rows)}")
    return "\n\n".join([*parts, failed_calls()])


def failed_calls() -> str:
    rows = [[code(reason), consequence(reason)] for reason in Reason]
    return f"""## Calls to model endpoints

A call to an endpoint that has no answer has one of these reasons.

{table(["reason", "consequence"], rows)}"""


def consequence(reason: Reason) -> str:
    if reason.is_retried:
        return "Retried until the attempts or the deadline of the call run out."
    if reason.is_final:
        return "Final: a rerun does not send the call again."
    if reason.switches_off:
        return "Switches the endpoint off, because every other call would fail alike."
    return "A rerun sends the call again."


def exit_codes() -> str:
    found = sorted(
        ((int(number), kind, meaning, remedy) for kind, number, meaning, remedy in errors()),
        key=lambda row: row[0],
    )
    rows = [[str(number), code(kind), meaning, remedy] for number, kind, meaning, remedy in found]
    return f"""# Exit codes

`zephyr-fast` and `python -m zephyr_fast.train` exit with these codes. In Python, the same errors
are exceptions of the package. Each has its code as `exit_code`, and `ZephyrError` is their base
class.

{table(["code", "exception", "meaning", "what to do"], rows)}"""


def errors() -> list[tuple[str, str, str, str]]:
    """Return class, exit code, meaning and remedy of each end of a command, success too."""
    return [
        ("", "0", "Success, also if the dataset was up to date.", ""),
        (
            "",
            "1",
            "Training failed with an error of torch, TRL or Python.",
            "Read the traceback.",
        ),
        ("", "2", "Invalid use of the command line.", "Read `--help` of the command."),
        *_core.describe("errors"),
        *(
            (one.__name__, str(one.exit_code), one.__doc__ or "", remedy)
            for one, remedy in TRAINING_REMEDIES.items()
        ),
        *((one.__name__, str(one.exit_code), one.__doc__ or "", "") for one in python_errors()),
    ]


def python_errors() -> list[type[_core.ZephyrError]]:
    """Return the exceptions of endpoints and evaluations, which are declared in Python."""
    known = [*vars(endpoint_classes).values(), *vars(evaluate_classes).values()]
    return [
        one
        for one in known
        if isinstance(one, type)
        and issubclass(one, _core.ZephyrError)
        and one is not _core.ZephyrError
    ]


if __name__ == "__main__":
    main()
