"""A JSON value as the type that says what must be there: the dataclasses of the manifest.

Numbers are at most 2^63 - 1 and texts can be written, so nobody who uses one has to check that
again.
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

Place = tuple["Place | None", str | int]
"""Where in the manifest a value is: what it is in, and its name or number there."""


def typed(kind: Any, value: object, where: Place) -> Any:
    """`value` (from JSON) as `kind`; fields that it does not know are left out."""
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
        return tuple(typed(inner[0], part, (where, place)) for place, part in enumerate(value))
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
        f"`{shown(_spelt(where), 400)}`: {shown(value, 200)} is not {_described(kind)}; the "
        "manifest was changed or is damaged"
    )


def _is_finite(value: float) -> bool:
    return -_NUMBER_MAX <= value <= _NUMBER_MAX and math.isfinite(value)


def _is_plain(value: object) -> bool:
    """Whether a number is a count that fits in 64 bits, and a text one that can be written: JSON
    can spell half a character.
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
    """Of each field, the type; worked out once, and not for each of the thousands of batches of
    a large set.
    """
    return typing.get_type_hints(kind)


def _fields(kind: type, value: object, where: Place) -> Any:
    if not isinstance(value, dict):
        raise IntegrityError(
            f"`{shown(_spelt(where), 400)}` is not a JSON object; the manifest was changed or is "
            "damaged"
        )
    types_by_name = _types_of(kind)
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            given[field.name] = typed(
                types_by_name[field.name], value[field.name], (where, field.name)
            )
        elif field.default is dataclasses.MISSING:
            raise IntegrityError(
                f"`{shown(_spelt(where), 400)}` has no `{field.name}`; the manifest was changed or "
                "is damaged"
            )
    return kind(**given)


def _spelt(place: Place) -> str:
    """A place as text, outermost part first; made for an error alone, as a name in it may have
    megabytes.
    """
    outer, part = place
    name = shown(part, 200)
    if outer is None:
        return name
    return _spelt(outer) + (f"[{name}]" if isinstance(part, int) else f": {name}")
