"""The materials of each sector of dialogues: a directory of text files that can be replaced.

sector.toml     `rounds = [3, 7]`: the least and the most messages of the user
topics.txt      one topic per line
seeds.txt       one instruction per line, used as examples
first.txt       prompt for the first message, with {{topic}} and {{examples}}
next.txt        prompt for each later message, with {{dialogue}}
materials.txt   optional: one text per line, for {{material}}; follows the first message
"""

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_fast._core import ConfigError, InputError
from zephyr_fast.collection import prompt_file
from zephyr_fast.collection.prompt_file import PromptFile, lines, read_text
from zephyr_fast.printed import shown

BUNDLED = Path(__file__).parent / "sectors"
ROUNDS_MAX = 20


@dataclass(frozen=True, slots=True)
class Sector:
    """A kind of dialogue. `materials` is empty if its dialogues need no text."""

    name: str
    rounds: tuple[int, int]
    topics: Sequence[str]
    seeds: Sequence[str]
    first: PromptFile
    later: PromptFile
    materials: Sequence[str] = ()

    def settings(self) -> dict[str, Any]:
        """Return what its dialogues depend on, for the settings of a run."""
        lists = {"topics": self.topics, "seeds": self.seeds, "materials": self.materials}
        return {
            "rounds": list(self.rounds),
            "first": self.first.digest,
            "next": self.later.digest,
            **{name: _digest(texts) for name, texts in lists.items()},
        }


def load(name: str, directory: Path, seeds: Sequence[str] | None = None) -> Sector:
    """Read the sector `name` of a directory of sectors. `seeds` replace those of the file.

    Raises:
        InputError: A file is missing or cannot be read.
        ConfigError: A file has unknown keys or names.
    """
    folder = directory / name
    if not folder.is_dir() or name != folder.name:
        known = ", ".join(sorted(path.parent.name for path in directory.glob("*/sector.toml")))
        raise InputError(f"`{shown(directory)}` has no sector `{shown(name)}`; known: {known}")
    has_materials = (folder / "materials.txt").exists()
    needed = ("topic", "examples", *(("material",) if has_materials else ()))
    return Sector(
        name,
        _rounds(folder / "sector.toml"),
        lines(folder / "topics.txt"),
        lines(folder / "seeds.txt") if seeds is None else seeds,
        prompt_file.load(folder / "first.txt", needed),
        prompt_file.load(folder / "next.txt", ("dialogue",), ("topic",)),
        lines(folder / "materials.txt") if has_materials else (),
    )


def _rounds(path: Path) -> tuple[int, int]:
    try:
        table = tomllib.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"`{shown(path)}`: {shown(error)}") from None
    given = table.pop("rounds", None)
    if table:
        raise ConfigError(f"`{shown(path)}`: unknown key `{shown(min(table))}`; known: rounds")
    is_pair = isinstance(given, list) and [type(one) for one in given] == [int, int]
    if not isinstance(given, list) or not is_pair or not 1 <= given[0] <= given[1] <= ROUNDS_MAX:
        raise ConfigError(
            f"`{shown(path)}`: `rounds` must be two whole numbers from 1 to {ROUNDS_MAX}, such as "
            "[3, 7]"
        )
    return given[0], given[1]


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
