"""Converts a JSON value to a dataclass of the manifest, and checks the type of every field.

Numbers are at most 2^63 - 1 and texts can be encoded as UTF-8. Callers need not check that again.
"""

import dataclasses
import functools
import math
import types
import typing
from typing import Any, Literal

from zephyr_fast._core import IntegrityError
from zephyr_fast.dataset.product import Product
from zephyr_fast.printed import shown

_NUMBER_MAX = 2**63 - 1

Location = tuple["Location | None", str | int]
"""Location of a value in the manifest: the value around it, and its key or index there."""


def typed(kind: Any, value: object, where: Location) -> Any:
    """Convert `value` (from JSON) to the type `kind`. Unknown fields are ignored."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _fields(kind, value, where)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else typed(inner[0], value, where)
    if origin is Literal and value in inner:
        return value
    if kind is Product and value in [product.value for product in Product]:
        return Product(value)
    if origin is tuple and isinstance(value, list):
        return tuple(typed(inner[0], part, (where, index)) for index, part in enumerate(value))
    if origin is dict and isinstance(value, dict) and all(map(_can_be_written, value)):
        return {name: typed(inner[1], part, (where, name)) for name, part in value.items()}
    if (
        kind is float
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and _is_finite(value)
    ):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind and _is_plain(value):
        return value
    raise IntegrityError(
        f"`{shown(_spelt(where), 400)}`: expected {_described(kind)}, found {shown(value, 200)}; "
        "the manifest is damaged or was edited"
    )


def _is_finite(value: float) -> bool:
    return -_NUMBER_MAX <= value <= _NUMBER_MAX and math.isfinite(value)


def _is_plain(value: object) -> bool:
    """Whether a number is a count that fits in 64 bits, or a text can be encoded. JSON can express
    half a character.
    """
    if type(value) is int:
        return 0 <= value <= _NUMBER_MAX
    return (
        not isinstance(value, str)
        or value.isascii()
        or value.isprintable()
        or _can_be_written(value)
    )


def _can_be_written(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _described(kind: Any) -> str:
    products = f"one of {', '.join(Product)}"
    known = {
        Product: products,
        int: f"a whole number from 0 to {_NUMBER_MAX}",
        float: "a number",
        str: "a text",
        bool: "true or false",
    }
    return known.get(kind, f"of type {kind}")


@functools.cache
def _types_of(kind: type) -> dict[str, Any]:
    """Return the type of each field. Cached, because a large dataset has thousands of batches."""
    return typing.get_type_hints(kind)


def _fields(kind: type, value: object, where: Location) -> Any:
    if not isinstance(value, dict):
        raise IntegrityError(
            f"`{shown(_spelt(where), 400)}` is not a JSON object; the manifest is damaged or was "
            "edited"
        )
    types_by_name = _types_of(kind)
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            given[field.name] = typed(
                types_by_name[field.name], value[field.name], (where, field.name)
            )
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise IntegrityError(
                f"`{shown(_spelt(where), 400)}` has no `{field.name}`; the manifest is damaged or "
                "was edited"
            )
    return kind(**given)


def _spelt(location: Location) -> str:
    """Return a location as text, outermost part first. Called only for errors, because a name may
    have megabytes.
    """
    outer, part = location
    name = shown(part, 200)
    if outer is None:
        return name
    return _spelt(outer) + (f"[{name}]" if isinstance(part, int) else f": {name}")
