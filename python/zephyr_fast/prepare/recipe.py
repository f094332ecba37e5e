"""Finds a data recipe by name or path, and reads the keys that name its source and tokenizer."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_fast import _core
from zephyr_fast.printed import brief, did_you_mean
from zephyr_fast.untrusted.bounded import read_bytes

RECIPE_BYTES_MAX = 1 << 20
"""Maximum size of a recipe. One with a thousand evaluation sets has 100 KB."""

RECIPES = Path(__file__).parents[1] / "recipes"

Value = str | int | float | bool | Sequence["Value"] | Mapping[str, "Value"]
"""Type of the value of a recipe key, or of a table of keys."""


@dataclass(frozen=True)
class Recipe:
    """A recipe's text, its name in errors, and its overrides (dotted key, value as TOML)."""

    name: str
    text: str
    overrides: tuple[tuple[str, str], ...]

    @property
    def arguments(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """The recipe in the form that the core expects."""
        return self.text, self.name, self.overrides

    def setting(self, dotted: str) -> str | None:
        """Return the last override of a key, as TOML."""
        return next((value for key, value in reversed(self.overrides) if key == dotted), None)

    def get(self, table: str, key: str) -> str | None:
        """Return a string that names a source. The core does not use it, so it is read here."""
        override = self.setting(f"{table}.{key}")
        if override is not None:
            return override.strip("\"'")
        found = _tables(self.text, self.name).get(table, {}).get(key)
        return None if found is None else str(found)

    def wants_tokens(self) -> bool:
        """Whether tokens are written, which requires a tokenizer, or only text."""
        return bool(_tables(_resolve(self), self.name)["shards"]["tokens"])


def bundled(command: str | None = None) -> list[str]:
    """Return the names of the bundled recipes: all, or those of a command."""
    paths = sorted(RECIPES.glob("*.toml"), key=lambda path: path.stem)
    if command is not None:
        paths = [path for path in paths if _command_of(path.read_text("utf-8")) == command]
    return [path.stem for path in paths]


def _command_of(text: str) -> str:
    """Return the command that a recipe is for: the one that its only table is named after, or else
    the first.
    """
    tables, commands = tomllib.loads(text), _core.names("commands")
    return next((command for command in commands if command in tables), commands[0])


def read(name: str | Path, settings: Mapping[str, Value] | None = None) -> Recipe:
    """Read the bundled recipe of that name, or the TOML file at that path, and check every key.

    Raises ConfigError with file and line.
    """
    known, name = bundled(), str(name)
    path = RECIPES / f"{name}.toml" if name in known else Path(name)
    shown = path.name if name in known else name.encode("utf-8", "backslashreplace").decode()
    try:
        text = read_bytes(path, RECIPE_BYTES_MAX).decode("utf-8")
    except FileNotFoundError as error:
        raise _core.ConfigError(
            f"no recipe `{name}`: not a file, and the bundled recipes are {', '.join(known)}"
            f"{did_you_mean(name, known)}"
        ) from error
    except OSError as error:
        raise _core.ConfigError(f"cannot read the recipe `{name}`: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _core.ConfigError(
            f"the recipe `{name}` is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    except ValueError as error:  # a NUL byte
        raise _core.ConfigError(f"{brief(name)} is not a valid path of a recipe") from error
    overrides = tuple((_utf8(key), _toml(value)) for key, value in _dotted(settings or {}))
    recipe = Recipe(shown, text, overrides)
    _resolve(recipe)
    return recipe


def _resolve(recipe: Recipe) -> str:
    """Return the recipe with all its defaults, as TOML. A typo gets a suggestion."""
    try:
        return _core.resolve(recipe.arguments, as_run=False)
    except _core.ConfigError as error:
        raise _core.ConfigError(f"{error}{_suggestion(str(error))}") from None


def _suggestion(message: str) -> str:
    """Return the known name closest to an unknown one. The message lists the known names."""
    found = re.search(r"unknown [a-z ]+ `([^`]*)`(.*)", message, re.DOTALL)
    if found is None:
        return ""
    return did_you_mean(found[1], re.findall(r"[\w.-]+", found[2].partition(" (")[0]))


def against(recipe: Recipe, sets: Mapping[str, str]) -> Recipe:
    """Return the recipe with evaluation sets added, as `{name: "path:field"}`. A set replaces
    another of the same name.
    """
    if not sets:
        return recipe
    found = {name: _evaluation_set(name, location) for name, location in sets.items()}
    override = recipe.setting("decontaminate.against")
    written = (
        _tables(f"against = {override}", "decontaminate.against")
        if override is not None
        else _tables(recipe.text, recipe.name)
    )
    tables = written if override is not None else written.get("decontaminate", {})
    kept = [table for table in tables.get("against", []) if table.get("name") not in found]
    inline = [
        "{" + ", ".join(f"{key} = {quoted(str(text))}" for key, text in table.items()) + "}"
        for table in [*kept, *found.values()]
    ]
    overrides = (*recipe.overrides, ("decontaminate.against", f"[{', '.join(inline)}]"))
    result = Recipe(recipe.name, recipe.text, overrides)
    _resolve(result)
    return result


def _evaluation_set(name: str, location: str) -> dict[str, str]:
    path, colon, field = location.rpartition(":")
    if not (name and path and colon and field):
        raise _core.ConfigError(
            f"evaluation set `{name}={location}`: expected NAME=PATH:FIELD, e.g. "
            "`mt_bench=eval/mt_bench.jsonl:turns`"
        )
    return {"name": name, "path": path, "field": field}


def _tables(text: str, name: str) -> dict[str, Any]:
    """Parse TOML that the core has accepted. Python's parser may still reject it, because it
    implements an older TOML and allows fewer levels.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _core.ConfigError(f"{name}: invalid TOML: {error}") from error


def _dotted(settings: Mapping[str, Value], above: str = "") -> Iterator[tuple[str, Value]]:
    """Yield all keys of nested tables as dotted keys, with their values."""
    for key, value in settings.items():
        if not isinstance(key, str):
            raise _core.ConfigError(f"the name of a recipe key must be text, not {brief(key)}")
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{above}{key}.")
        else:
            # A key of a table is one name. At the top, `pack.seq_len` is short for a table.
            name = quoted(key) if above and "." in key else key
            yield f"{above}{name}", value


def _toml(value: Value) -> str:
    """Return a value as TOML. The core reads text that is not a TOML value as a string, so
    `a=b` in a shell needs no quotes.
    """
    return _utf8(value) if isinstance(value, str) else _toml_inner(value)


def _toml_inner(value: Value) -> str:
    """Return a value within a list or a table as TOML."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return brief(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_inner, value))}]"
    if isinstance(value, Mapping):
        items = (f"{quoted(str(key))} = {_toml_inner(of)}" for key, of in value.items())
        return f"{{{', '.join(items)}}}"
    raise _core.ConfigError(
        "the value of a recipe key must be text, a number, true or false, a list or a table of "
        f"these, not {brief(value)}"
    )


def quoted(text: str) -> str:
    """Return text in quotes, as TOML. JSON escapes the same characters except DEL. Characters
    outside the first plane are not escaped, because JSON writes them as two halves.
    """
    return json.dumps(_utf8(text), ensure_ascii=False).replace("\x7f", "\\u007f")


def _utf8(text: str) -> str:
    """Return the text. Raises ConfigError for a name or an argument that is not UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _core.ConfigError(f"not UTF-8 text: {brief(text)}") from error
    return text
