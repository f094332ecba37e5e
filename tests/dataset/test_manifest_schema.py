"""What Python reads of a manifest is what the core writes: `docs/manifest.schema.json`, field by
field.

The core's own test holds that file to the types that write the manifest.
"""

import copy
import dataclasses
import json
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from zephyr_fast.dataset import manifest
from zephyr_fast.dataset.product import Product

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "manifest.schema.json").read_text())

NOT_READ = {"Manifest.made_from", "Manifest.sha256", "MadeFrom"}
"""Fields and types that only the core reads; `sha256` is checked on the text."""

NARROWER = {"Decontamination.status": ("choice", "checked", "not checked")}
"""Python accepts these values alone, where the core's type is any text."""

CLASSES = {one.__name__: one for one in vars(manifest).values() if dataclasses.is_dataclass(one)}

Form = str | tuple[Any, ...]
"""A type, in a form to which both languages' types can be brought."""

NAMES = {int: "integer", float: "number", str: "string", bool: "boolean"}


def of_python(type_: Any) -> Form:
    origin, inner = typing.get_origin(type_), typing.get_args(type_)
    if origin in (types.UnionType, typing.Union):
        (one,) = set(inner) - {types.NoneType}
        return "optional", of_python(one)
    if origin is Literal:
        return "choice", *sorted(inner)
    if origin is tuple:
        assert inner[1] is ..., type_
        return "list", of_python(inner[0])
    if origin is dict:
        assert inner[0] is str, type_
        return "map", of_python(inner[1])
    if issubclass(type_, Enum):
        return "choice", *sorted(one.value for one in type_)
    return ("object", type_.__name__) if dataclasses.is_dataclass(type_) else NAMES[type_]


def of_schema(node: dict[str, Any], definitions: dict[str, Any]) -> Form:
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        is_object = "properties" in definitions[name]
        return ("object", name) if is_object else of_schema(definitions[name], definitions)
    if "anyOf" in node:
        (one,) = [part for part in node["anyOf"] if part != {"type": "null"}]
        return "optional", of_schema(one, definitions)
    if "oneOf" in node:
        return "choice", *sorted(part["const"] for part in node["oneOf"])
    if isinstance(node["type"], list):
        (one,) = set(node["type"]) - {"null"}
        return "optional", of_schema(node | {"type": one}, definitions)
    if node["type"] == "array":
        return "list", of_schema(node["items"], definitions)
    if node["type"] == "object":
        return "map", of_schema(node["additionalProperties"], definitions)
    assert node["type"] in NAMES.values(), node
    return str(node["type"])


def fields_of_python(name: str) -> dict[str, tuple[bool, Form]]:
    """Whether each field is required, and its type."""
    hints = typing.get_type_hints(CLASSES[name])
    missing = dataclasses.MISSING
    return {
        field.name: (
            field.default is missing and field.default_factory is missing,
            of_python(hints[field.name]),
        )
        for field in dataclasses.fields(CLASSES[name])
    }


def fields_of_schema(name: str, schema: dict[str, Any]) -> dict[str, tuple[bool, Form]]:
    node = schema if name == "Manifest" else schema["$defs"][name]
    return {
        field: (
            field in node.get("required", ()),
            NARROWER.get(f"{name}.{field}") or of_schema(part, schema["$defs"]),
        )
        for field, part in node["properties"].items()
        if f"{name}.{field}" not in NOT_READ
    }


def differences(schema: dict[str, Any]) -> Iterator[str]:
    """One line for each class and field that is not in both languages, or not the same there."""
    objects = {name for name, node in schema["$defs"].items() if "properties" in node}
    for name in sorted(({"Manifest", *objects} - NOT_READ) ^ CLASSES.keys()):
        yield f"the class {name} is in one language only"
    for name in sorted({"Manifest", *objects} & CLASSES.keys()):
        ours, theirs = fields_of_python(name), fields_of_schema(name, schema)
        for field in sorted(ours.keys() | theirs.keys()):
            if ours.get(field) != theirs.get(field):
                yield f"{name}.{field}: Python has {ours.get(field)}, not {theirs.get(field)}"


def test_python_reads_each_field_that_the_core_writes() -> None:
    assert len(CLASSES) >= 15 and of_python(Product) == ("choice", "preference", "sft")
    assert not list(differences(SCHEMA))


def test_the_version_is_the_same() -> None:
    assert SCHEMA["properties"]["schema"]["const"] == manifest.SCHEMA


def renamed(schema: dict[str, Any]) -> None:
    properties = schema["$defs"]["Split"]["properties"]
    properties["cut"] = properties.pop("rows_truncated")


def left_out(schema: dict[str, Any]) -> None:
    schema["$defs"]["BatchEntry"]["required"].remove("xxh3")


def always_there(schema: dict[str, Any]) -> None:
    schema["$defs"]["Split"]["required"].append("fill")


def never_null(schema: dict[str, Any]) -> None:
    schema["$defs"]["TokenizerInfo"]["properties"]["pad"]["type"] = "string"


def text_for_number(schema: dict[str, Any]) -> None:
    schema["$defs"]["ShardEntry"]["properties"]["examples"]["type"] = "string"


def third_product(schema: dict[str, Any]) -> None:
    schema["$defs"]["Product"]["oneOf"].append({"type": "string", "const": "labelled"})


def new_class(schema: dict[str, Any]) -> None:
    schema["$defs"]["Weather"] = {"type": "object", "properties": {}}


SABOTAGES = [renamed, left_out, always_there, never_null, text_for_number, third_product, new_class]


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_difference_is_found(sabotage: Any) -> None:
    schema = copy.deepcopy(SCHEMA)
    sabotage(schema)
    assert list(differences(schema))
