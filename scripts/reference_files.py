"""The reference pages about files: the ledger's columns, and the files of a dataset."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zephyr_fast import _core

DOCS = Path(__file__).parents[1] / "docs"

FILES = {
    "manifest.json": "Describes the dataset: inputs, recipe, counts and checksums. It is written "
    "last, so a directory without it is not a finished dataset.",
    "README.md": "Dataset card with the same counts, for people.",
    "train-00000.arrow": "Shards of the split `train`; `test-00000.arrow` of the split `test`. "
    "Arrow IPC files, uncompressed, so that readers can map them into memory.",
    "text/train-00000.parquet": "Cleaned text of the split; `text/test-00000.parquet` likewise. "
    "Parquet with zstd.",
    "tokenizer/tokenizer.json": "Copy of the tokenizer.",
    "tokenizer/tokenizer_config.json": "Its special tokens and the chat template of the run.",
    "_ledger/part-00000.parquet": "Ledger, one line for each row read.",
    "_quarantine/00000-ultrachat.jsonl.jsonl": "Quarantined rows of the first input, here "
    "`ultrachat.jsonl`, as JSON lines with reason, position and the first 64 KiB of the row.",
    "_ref/0123456789abcdef/manifest.json": "Describes the reference log-probabilities that "
    "`zephyr-fast ref-logprobs` stored for one model. The directory has one Arrow file or more for "
    "each split.",
}
"""The files of a dataset by an example of their name."""

COLUMN_HEAD = "| column | type | null | meaning |\n| --- | --- | --- | --- |"


def columns() -> dict[str, list[dict[str, Any]]]:
    """Return the columns of each kind of file."""
    found: dict[str, list[dict[str, Any]]] = json.loads((DOCS / "columns.json").read_text("utf-8"))
    return found


def ledger() -> str:
    return f"""# Ledger

`_ledger/part-00000.parquet` has one line for each row read, in the order of the inputs.
`zephyr_fast.scan_ledger(out)` opens it as a Polars LazyFrame.

{column_table("ledger")}

## Contamination

Each entry of `contamination` is a run of words that the row shares with an instance of an
evaluation set.

{column_table("ledger.contamination")}

[Reasons](reasons.md) explains the values of `reason`."""


def files() -> str:
    parts = [
        f"""# Files of a dataset

## Directory

| file | content |
| --- | --- |
{chr(10).join(f"| `{name}` | {what} |" for name, what in FILES.items())}

`zephyr-fast verify DIR` compares every file with the checksums of the manifest. A directory `_work`
exists only during a run."""
    ]
    for kind, command in zip(_core.names("products"), _core.names("commands"), strict=True):
        parts.append(f"## Shards of `{command}`\n\n{column_table(f'shards.{kind}')}")
        parts.append(f"## Text of `{command}`\n\n{column_table(f'text.{kind}')}")
    parts.append(
        f"""## Manifest

`docs/manifest.schema.json` is the JSON Schema of `manifest.json`, which
`zephyr_fast.Manifest.read(out)` reads.
In the names below, `*` is any key of an object, and `[]` any item of a list.

| field | type | meaning |
| --- | --- | --- |
{chr(10).join(manifest_rows())}"""
    )
    return "\n\n".join(parts)


def column_table(kind: str) -> str:
    rows = [
        f"| `{one['name']}` | `{one['type']}` | {'yes' if one['nullable'] else 'no'} "
        f"| {plain(one['description'])} |"
        for one in columns()[kind]
    ]
    return "\n".join([COLUMN_HEAD, *rows])


def manifest_rows() -> Iterator[str]:
    for name, kind, meaning in manifest_fields():
        yield f"| `{name}` | {kind} | {meaning} |"


def manifest_fields() -> Iterator[tuple[str, str, str]]:
    """Yield dotted name, type and meaning of each field of the manifest."""
    schema = json.loads((DOCS / "manifest.schema.json").read_text("utf-8"))
    yield from _fields(schema, schema, "")


def _fields(
    schema: dict[str, Any], node: dict[str, Any], path: str
) -> Iterator[tuple[str, str, str]]:
    for name, field in node.get("properties", {}).items():
        yield from _field(schema, field, f"{path}{name}")


def _field(
    schema: dict[str, Any], field: dict[str, Any], name: str
) -> Iterator[tuple[str, str, str]]:
    resolved = _resolved(schema, field)
    meaning = plain(field.get("description", resolved.get("description", "")))
    yield name, _kind(schema, resolved), meaning
    inner, path = _inner(schema, resolved, name)
    yield from _fields(schema, inner, f"{path}.")


def _inner(schema: dict[str, Any], node: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """Return the object within lists and maps, and the path to it."""
    while True:
        if isinstance(node.get("additionalProperties"), dict):
            node, path = _resolved(schema, node["additionalProperties"]), f"{path}.*"
        elif "items" in node:
            node, path = _resolved(schema, node["items"]), f"{path}[]"
        else:
            return node, path


def _kind(schema: dict[str, Any], node: dict[str, Any]) -> str:
    if isinstance(node.get("additionalProperties"), dict):
        return f"object of {_kind(schema, _resolved(schema, node['additionalProperties']))}"
    if "items" in node:
        return f"list of {_kind(schema, _resolved(schema, node['items']))}"
    if "oneOf" in node or "enum" in node:
        values = node.get("enum") or [one.get("const") for one in node["oneOf"]]
        return ", ".join(f"`{value}`" for value in values)
    kind = node.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Return the definition that a node refers to, or the node itself."""
    found: dict[str, Any] = node.get("anyOf", [node])[0]
    path = found.get("$ref")
    return found if path is None else schema["$defs"][path.rpartition("/")[2]]


def plain(text: str) -> str:
    """Return a documentation comment as text of a table: no links within the code."""
    text = re.sub(r"\[(`[^`]+`)\]", r"\1", " ".join(text.split()))
    return text.replace("|", "\\|")
