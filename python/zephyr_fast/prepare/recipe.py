"""Finds a data recipe by name or path, and answers the few keys that say where rows and
tokenizers come from.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_fast import _core
from zephyr_fast.printed import brief
from zephyr_fast.untrusted.bounded import read_bytes

RECIPE_BYTES_MAX = 1 << 20
"""A recipe is a page of text; one with a thousand evaluation sets has 100 KB."""

RECIPES = Path(__file__).parents[1] / "recipes"

Value = str | int | float | bool | list[str]
"""What a key of a recipe may be set to."""


@dataclass(frozen=True)
class Recipe:
    """A recipe's text, what errors call it, and the keys laid over it (dotted key, value as
    TOML).
    """

    name: str
    text: str
    overrides: tuple[tuple[str, str], ...]

    def setting(self, dotted: str) -> str | None:
        """What was last laid over that key, as TOML."""
        return next((value for key, value in reversed(self.overrides) if key == dotted), None)

    def get(self, table: str, key: str) -> str | None:
        """A string that only decides where something is fetched from, so that the engine does
        not keep it.
        """
        laid = self.setting(f"{table}.{key}")
        if laid is not None:
            return laid.strip("\"'")
        found = _tables(self.text, self.name).get(table, {}).get(key)
        return None if found is None else str(found)

    def wants_tokens(self) -> bool:
        """Whether tokens are written, for which a tokenizer is needed, or text alone."""
        return bool(
            _tables(_core.resolve(self.text, self.name, self.overrides), self.name)["shards"][
                "tokens"
            ]
        )


def packaged() -> list[str]:
    """Names of the packaged recipes."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def read(name: str, settings: Mapping[str, Value] | None = None) -> Recipe:
    """The packaged recipe of that name, or the TOML file at that path, checked to its last key.

    ConfigError, with file and line, for what cannot be obeyed.
    """
    path = RECIPES / f"{name}.toml" if name in packaged() else Path(name)
    shown = path.name if name in packaged() else name.encode("utf-8", "backslashreplace").decode()
    try:
        text = read_bytes(path, RECIPE_BYTES_MAX).decode("utf-8")
    except FileNotFoundError as error:
        known = ", ".join(packaged())
        raise _core.ConfigError(
            f"no recipe `{name}`: neither a file nor one of the packaged ones ({known})"
        ) from error
    except OSError as error:
        raise _core.ConfigError(f"cannot read the recipe `{name}`: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _core.ConfigError(
            f"the recipe `{name}` is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    except ValueError as error:  # a NUL byte
        raise _core.ConfigError(f"no file can have the name of the recipe {brief(name)}") from error
    overrides = tuple((_utf8(key), _toml(value)) for key, value in (settings or {}).items())
    _core.resolve(text, shown, overrides)
    return Recipe(shown, text, overrides)


def against(recipe: Recipe, sets: Mapping[str, str]) -> Recipe:
    """The recipe with evaluation sets added, as `{name: "path:field"}`; one of a name that it
    has replaces that.
    """
    if not sets:
        return recipe
    found = {name: _evaluation_set(name, place) for name, place in sets.items()}
    laid = recipe.setting("decontaminate.against")
    written = (
        _tables(f"against = {laid}", "decontaminate.against")
        if laid is not None
        else _tables(recipe.text, recipe.name)
    )
    tables = written if laid is not None else written.get("decontaminate", {})
    kept = [table for table in tables.get("against", []) if table.get("name") not in found]
    inline = [
        "{" + ", ".join(f"{key} = {_toml_string(str(text))}" for key, text in table.items()) + "}"
        for table in [*kept, *found.values()]
    ]
    overrides = (*recipe.overrides, ("decontaminate.against", f"[{', '.join(inline)}]"))
    _core.resolve(recipe.text, recipe.name, overrides)
    return Recipe(recipe.name, recipe.text, overrides)


def _evaluation_set(name: str, place: str) -> dict[str, str]:
    path, colon, field = place.rpartition(":")
    if not (name and path and colon and field):
        raise _core.ConfigError(
            f"evaluation set `{name}={place}`: write NAME=PATH:FIELD, as "
            "`mt_bench=eval/mt_bench.jsonl:turns`"
        )
    return {"name": name, "path": path, "field": field}


def _tables(text: str, name: str) -> dict[str, Any]:
    """TOML that the engine has taken; Python's reader may still refuse it, as it knows an older
    TOML and fewer levels.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _core.ConfigError(f"{name}: not TOML that can be read: {error}") from error


def _toml(value: Value) -> str:
    """A value as TOML; text that is no TOML value is taken by the engine as a string, so a
    shell's `a=b` needs no quotes.
    """
    if isinstance(value, str):
        return _utf8(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml_string(str(text)) for text in value)}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return brief(value)
    raise _core.ConfigError(
        "a key of a recipe is set to text, a number, true or false, or a list of texts, not to "
        f"{brief(value)}"
    )


def _toml_string(text: str) -> str:
    """Text in quotes. JSON escapes the same characters, but DEL, and what is not in the first
    plane it escapes in halves.
    """
    return json.dumps(_utf8(text), ensure_ascii=False).replace("\x7f", "\\u007f")


def _utf8(text: str) -> str:
    """The text; ConfigError where it is none, as of a name or an argument that is not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _core.ConfigError(f"not UTF-8 text: {brief(text)}") from error
    return text
