"""Lists the keys of recipes with type, default and meaning, from the JSON Schema that the engine's
types are written to.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).parents[1] / "recipes" / "recipe.schema.json"

Node = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """A value that a key may have."""

    value: str
    meaning: str


@dataclass(frozen=True)
class Key:
    """A key of a recipe.

    `name` is dotted, as `--set` and `overrides` take it, with `N` for an index of a list. `kind`
    is the type, with the range if there is one. `default` is TOML, or `required` or `unset`.
    `command` is the only command that uses the key, or empty if both do.
    """

    name: str
    kind: str
    default: str
    meaning: str
    command: str
    choices: tuple[Choice, ...]


def all_keys() -> list[Key]:
    """Return every key, in the order of the recipe."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return [_key(schema, name, node, is_required) for name, node, is_required in _leaves(schema)]


@dataclass(frozen=True)
class Preset:
    """A preset of `[binarize]`: the keys that it sets, and its value of `dedup.exact`."""

    name: str
    sets: dict[str, Any]
    drops_duplicates: bool


def presets() -> list[Preset]:
    """Return every preset of `[binarize]`."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return [
        Preset(one["const"], one["x-sets"], one["x-drops-duplicates"])
        for one in schema["$defs"]["Preset"]["oneOf"]
    ]


def toml(value: object) -> str:
    """Return a default as TOML."""
    return json.dumps(value, ensure_ascii=False)


def _leaves(schema: Node) -> Iterator[tuple[str, Node, bool]]:
    """Yield name and schema of each key that is not a table, and whether it is required."""
    for name, node in schema["properties"].items():
        table = _resolved(schema, node)
        if name == "filter":
            yield from _filters(node)
        elif "properties" in table:
            for key, inner in table["properties"].items():
                item = _resolved(schema, inner.get("items", {}))
                if "properties" in item:
                    needed = item.get("required", [])
                    for field, leaf in item["properties"].items():
                        yield f"{name}.{key}.N.{field}", leaf, field in needed
                else:
                    yield f"{name}.{key}", inner, False
        else:
            yield name, node, False


def _filters(node: Node) -> Iterator[tuple[str, Node, bool]]:
    kinds = node["items"]["oneOf"]
    choices = [
        {"const": kind["properties"]["kind"]["const"], "description": kind["description"]}
        for kind in kinds
    ]
    yield (
        "filter.N.kind",
        {"description": f"{node['description']}", "type": "string", "oneOf": choices},
        True,
    )
    for kind in kinds:
        name = kind["properties"]["kind"]["const"]
        for key, leaf in kind["properties"].items():
            if key != "kind":
                meaning = f"Filter `{name}`: {leaf['description']}"
                needed = key in kind.get("required", [])
                yield f"filter.N.{key}", {**leaf, "description": meaning}, needed


def _key(schema: Node, name: str, node: Node, is_required: bool) -> Key:
    kind, choices = _kind(schema, node)
    if (rule := node.get("x-rule")) is not None:
        kind = f"{kind}, {rule}"
    default = "required" if is_required else "unset"
    if node.get("default") is not None:
        default = toml(node["default"])
    meaning = " ".join(node.get("description", "").split())
    return Key(name, kind, default, meaning, node.get("x-command", ""), choices)


def _kind(schema: Node, node: Node) -> tuple[str, tuple[Choice, ...]]:
    """Return the word for a type, and the values that it allows if they are listed."""
    node = _resolved(schema, node)
    if "enum" in node:
        return "string", tuple(Choice(str(value), "") for value in node["enum"])
    if "oneOf" in node:
        choices = (
            Choice(one["const"], " ".join(one["description"].split())) for one in node["oneOf"]
        )
        return "string", tuple(choices)
    words = node["type"] if isinstance(node["type"], list) else [node["type"]]
    (word,) = [word for word in words if word != "null"]
    if word == "array":
        return f"list of {_kind(schema, node['items'])[0]}s", ()
    return str(word), ()


def _resolved(schema: Node, node: Node) -> Node:
    """Return the definition that a node refers to, or the node itself."""
    node = node.get("anyOf", [node])[0]
    path = node.get("$ref")
    return node if path is None else schema["$defs"][path.rpartition("/")[2]]
