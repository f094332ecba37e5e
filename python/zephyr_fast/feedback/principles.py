"""The system prompt that a model answers with: a principle drawn by the prompt's source.

A directory of principles has a file `mix.toml` with weights by source, and a text file for each
principle with one system prompt per line.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_fast._core import ConfigError
from zephyr_fast.collection import drawn
from zephyr_fast.collection.prompt_file import lines, read_text
from zephyr_fast.printed import brief, shown

BUNDLED = Path(__file__).parent / "principles"

Weights = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Principles:
    """Weights by source, and the system prompts of each principle."""

    sources: Mapping[str, Weights]
    default: Weights
    instead: Mapping[str, tuple[str, float]]
    texts: Mapping[str, list[str]]

    def draw(self, seed: int, prompt_id: str, source: str, model: str) -> tuple[str, str]:
        """Return a principle and a system prompt of it, by hash of seed, prompt and model."""
        names = (prompt_id, model)
        weights = self.sources.get(source, self.default)
        principle = drawn.weighted(weights, seed, "principle", *names)
        if principle in self.instead:
            other, probability = self.instead[principle]
            if drawn.fraction(seed, "instead", *names) < probability:
                principle = other
        return principle, drawn.one_of(self.texts[principle], seed, "text", *names)

    def settings(self) -> dict[str, Any]:
        """Return all of it as JSON, for the settings of a run."""
        return {
            "sources": {name: dict(weights) for name, weights in self.sources.items()},
            "default": dict(self.default),
            "instead": {name: list(other) for name, other in self.instead.items()},
            "texts": dict(self.texts),
        }


def load(directory: Path) -> Principles:
    """Read a directory of principles. ConfigError, which names the file and the key."""
    path = directory / "mix.toml"
    try:
        table = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"`{shown(path)}`: {shown(error)}") from None
    if unknown := sorted(table.keys() - {"sources", "default", "instead"}):
        raise ConfigError(f"`{shown(path)}`: unknown key `{shown(unknown[0])}`")
    sources = {
        name: _weights(path, f"sources.{name}", given)
        for name, given in _table(path, "sources", table.get("sources", {})).items()
    }
    default = _weights(path, "default", table.get("default"))
    instead = {
        name: _other(path, name, given)
        for name, given in _table(path, "instead", table.get("instead", {})).items()
    }
    used = {name for weights in (default, *sources.values()) for name in weights}
    used |= {other for other, _ in instead.values()}
    texts = {name: lines(directory / f"{name}.txt") for name in sorted(used)}
    return Principles(sources, default, instead, texts)


def _table(path: Path, key: str, given: object) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ConfigError(f"`{shown(path)}`: `{key}` is not a table")
    return given


def _weights(path: Path, key: str, given: object) -> Weights:
    table = _table(path, key, given)
    for name, weight in table.items():
        if not name.isidentifier() or not _is_number(weight):
            raise ConfigError(
                f"`{shown(path)}`: `{shown(key)}.{shown(name)}` must be a weight of at least 0, "
                f"not {brief(weight)}"
            )
    if not sum(table.values()) > 0:
        raise ConfigError(f"`{shown(path)}`: `{shown(key)}` needs a weight above 0")
    return table


def _other(path: Path, name: str, given: object) -> tuple[str, float]:
    table = _table(path, f"instead.{name}", given)
    other, probability = table.get("principle"), table.get("probability", -1)
    is_named = isinstance(other, str) and other.isidentifier()
    if not is_named or not _is_number(probability) or probability > 1 or len(table) != 2:
        raise ConfigError(
            f"`{shown(path)}`: `instead.{shown(name)}` needs a `principle` and a `probability` "
            "from 0 to 1"
        )
    return str(other), float(probability)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= 0
