"""The reference pages are those that `scripts/write_reference.py` writes, and have every key of a
recipe, option, reason, exit code, column and field.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import reference_files
import write_reference
from shell import SAMPLE, shell
from zephyr_fast import _core
from zephyr_fast.cli import cli
from zephyr_fast.endpoint import errors as endpoint_errors
from zephyr_fast.endpoint.reasons import Reason
from zephyr_fast.prepare import recipe_keys

ROOT = Path(__file__).parents[2]
PAGES = write_reference.pages()


def on_disk(name: str) -> str:
    return (write_reference.PAGES / name).read_text(encoding="utf-8")


def first_column(name: str) -> list[str]:
    """Return the code in the first cell of each row of a page's tables."""
    return re.findall(r"(?m)^\| `([^`]+)`", on_disk(name))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_script_writes(name: str) -> None:
    assert on_disk(name) == PAGES[name], "run: python scripts/write_reference.py"


def test_there_are_no_other_pages_and_the_index_lists_each() -> None:
    assert {path.name for path in write_reference.PAGES.iterdir()} == PAGES.keys()
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", on_disk("README.md")))
    assert linked == PAGES.keys() - {"README.md"}


def leaves(table: dict[str, object], path: str = "") -> Iterator[str]:
    """Yield the dotted keys of a recipe as the reference writes them."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for one in value:
                yield from leaves(one, f"{path}{name}.N.")
        else:
            yield f"{path}{name}"


EVERY_KEY = """
[source]
hub = "a/b"
files = "*"
revision = "main"
ignore = ["e"]
[binarize]
[tokenize]
tokenizer = "c/d"
[template]
date = "2024-07-26"
[[decontaminate.against]]
name = "a"
path = "b"
field = "c"
"""


# A value of each type that a key of a filter may have.
OF_TYPE = {"boolean": "true", "integer": "1", "number": "0.5", "array": '["a"]', "string": '"a"'}


def every_filter() -> Iterator[str]:
    """Yield a table of each filter with all of its keys."""
    schema = json.loads(recipe_keys.SCHEMA.read_text(encoding="utf-8"))
    for kind in schema["properties"]["filter"]["items"]["oneOf"]:
        yield "[[filter]]"
        for key, leaf in kind["properties"].items():
            leaf = schema["$defs"][leaf["$ref"].split("/")[-1]] if "$ref" in leaf else leaf
            choices = [one["const"] for one in leaf.get("oneOf", [leaf]) if "const" in one]
            types = leaf.get("type", "string")
            word = types if isinstance(types, str) else types[0]
            yield f"{key} = {json.dumps(choices[0]) if choices else OF_TYPE[word]}"


def test_every_key_of_a_recipe_is_there() -> None:
    text = EVERY_KEY + "\n".join(every_filter())
    keys = set(leaves(tomllib.loads(_core.resolve((text, "x", []), as_run=True))))
    assert len(keys) > 35
    known = {key.name for key in recipe_keys.all_keys()}
    of_no_value = {"binarize.preset", "template.args", "source.columns", "source.roles"}
    assert known == keys | of_no_value, "the keys without a value of their own"
    assert known <= set(first_column("recipe.md"))


@pytest.mark.parametrize("key", recipe_keys.all_keys(), ids=lambda key: key.name)
def test_a_key_has_its_meaning_and_a_default_that_the_engine_takes(key: recipe_keys.Key) -> None:
    assert key.meaning and key.kind
    if key.default in ("required", "unset") or ".N." in key.name:
        return
    first = key.name.split(".")[0]
    table = f"[{first}]\n" if first in _core.names("commands") else ""
    assert _core.resolve((table, "x", [(key.name, key.default)]), as_run=False)
    shown = tomllib.loads(_core.resolve((table, "x", []), as_run=True))
    for part in key.name.split("."):
        shown = shown[part]
    assert shown == tomllib.loads(f"x = {key.default}")["x"]


def options(command: click.Command) -> Iterator[str]:
    for one in command.params:
        if isinstance(one, click.Option):
            yield from one.opts
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from options(inner)


def test_every_command_and_option_is_there() -> None:
    page = on_disk("command-line.md")
    found = set(options(cli)) - {"--version"}
    assert {"--out", "--max-bad-rows", "--model"} <= found
    assert not [name for name in found if f"`{name}`" not in page]
    assert not [name for name in cli.commands if f"## zephyr-fast {name}" not in page]


def test_every_reason_and_exit_code_is_there() -> None:
    reasons = [*_core.names("reasons"), *_core.names("repeats"), *Reason]
    assert sorted(first_column("reasons.md")) == sorted(reasons)
    page = on_disk("exit-codes.md")
    errors = [
        error
        for error in [*vars(_core).values(), *vars(endpoint_errors).values()]
        if isinstance(error, type) and issubclass(error, _core.ZephyrError)
    ]
    assert len(errors) > 8
    for error in set(errors) - {_core.ZephyrError}:
        assert f"| {error.exit_code} | `{error.__name__}` |" in page


def test_every_column_and_field_is_there() -> None:
    columns = reference_files.columns()
    ledger = [one["name"] for kind in ("ledger", "ledger.contamination") for one in columns[kind]]
    assert first_column("ledger.md") == ledger
    found = first_column("files.md")
    others = [one["name"] for kind in columns if "." in kind for one in columns[kind]]
    assert set(others) - set(ledger) <= set(found)
    fields = [name for name, _, _ in reference_files.manifest_fields()]
    assert {"rows.written", "splits.*.shards[].batches[].xxh3", "sha256"} <= set(fields)
    assert found[-len(fields) :] == fields


def test_every_file_that_a_run_writes_is_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert shell("prep", "ultrachat", *SAMPLE, "--out", out).returncode == 0
    known = set(first_column("files.md"))
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert written >= {"manifest.json", "tokenizer/tokenizer.json"}
    assert {name.replace("test-", "train-") for name in written} <= known
