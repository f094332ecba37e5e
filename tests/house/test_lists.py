"""Every list of names stands once: no source file but its owner holds three words of one of the
engine's lists.
"""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from imports import rust_texts
from zephyr_fast import _core

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "python", ROOT / "rust" / "core" / "src"]
WORDS_MIN = 3
"""So many words of one list make a copy of it; pairs such as `prep` and `binarize` are too
common.
"""

OWNERS = {
    "compared": "recipe/mod.rs",
    "control_tokens": "recipe/tokens.rs",
    "endings": "read/open.rs",
    "filters": "filter/mod.rs",
    "presets": "recipe/mod.rs",
    "reasons": "stage.rs",
    "scores": "recipe/mod.rs",
    "shapes": "read/shape/mod.rs",
    "strategies": "recipe/mod.rs",
    "structural_reasons": "stage.rs",
    "train_end": "recipe/tokens.rs",
    "train_on": "recipe/tokens.rs",
}
"""The one file of the core that holds each list, of those that are long enough."""

FROM_FILES = {"templates"}
"""Lists that are made from the files of a folder."""

OTHERS = {
    ("endings", "dataset/layout.rs"): "endings of the files that are written",
    ("endings", "zephyr_fast/dataset/names.py"): "names of the files that are written",
    ("endings", "zephyr_fast/prepare/spool.py"): "formats that are known by their first bytes",
    (
        "templates",
        "encode/choice.rs",
    ): "the names that are no files, and the one of no name",
    ("scores", "dialogue.rs"): "the fields of UltraFeedback's rows that have these names",
}
"""Files that hold the same words for something else, and for what."""


def kinds() -> list[str]:
    """The kinds of lists; the engine names them where it is asked for another."""
    with pytest.raises(_core.ConfigError) as refused:
        _core.names("")
    return str(refused.value).rpartition(": ")[2].split(", ")


def texts_of(path: Path) -> list[str]:
    """The string literals of a source file; of Rust, those of its unit tests and comments left
    out.
    """
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".rs":
        return rust_texts(source)
    nodes = ast.walk(ast.parse(source))
    return [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def copied(words: Iterable[str], texts: list[str]) -> set[str]:
    """The words that stand as literals of their own, if they are too many, else those of a
    literal with too many.
    """
    whole = set(words) & set(texts)
    within = [
        {word for word in words if re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", text)}
        for text in texts
    ]
    return next((found for found in [whole, *within] if len(found) >= WORDS_MIN), set())


def holders(folders: list[Path]) -> dict[tuple[str, str], set[str]]:
    """Which file holds which words of which kind of list."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*.*"))]
    found = {}
    for path in paths:
        if path.suffix not in (".py", ".pyi", ".rs") or path.name == "tests.rs":
            continue
        texts = texts_of(path)
        home = next(folder for folder in folders if path.is_relative_to(folder))
        for kind in kinds():
            if words := copied(_core.names(kind), texts):
                found[kind, path.relative_to(home).as_posix()] = words
    return found


def test_a_list_stands_in_its_owner_alone() -> None:
    found = holders(SOURCES)
    twice = [
        f"{file} repeats {kind}: {', '.join(sorted(words))}"
        for (kind, file), words in found.items()
        if OWNERS.get(kind) != file and (kind, file) not in OTHERS
    ]
    assert not twice, "\n".join(twice)


def test_the_lists_are_found_where_they_stand() -> None:
    long = {kind for kind in kinds() if len(_core.names(kind)) >= WORDS_MIN}
    assert long - FROM_FILES == OWNERS.keys()
    found = holders(SOURCES)
    for kind, file in OWNERS.items():
        assert len(found.get((kind, file), ())) == len(_core.names(kind)), f"{kind} in {file}"
    assert not [exception for exception in OTHERS if exception not in found], (
        "an exception that is none any more"
    )


COPIES = {
    "a list in Python": (
        "copy.py",
        'STRATEGIES = ["all-lower", "best-vs-worst", "best-vs-random"]',
    ),
    "a text in Python": ("copy.py", 'HELP = "one of all-lower, best-vs-worst and best-vs-draw"'),
    "a list in Rust": (
        "copy.rs",
        'const A: [&str; 3] = ["all-lower", "best-vs-worst", r"best-vs-draw"];',
    ),
    "a text in Rust": (
        "copy.rs",
        'fn f() { refuse("known: all-lower, best-vs-worst, best-vs-draw") }',
    ),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_is_found(copy: tuple[str, str], tmp_path: Path) -> None:
    name, line = copy
    (tmp_path / name).write_text(f"{line}\n")
    assert list(holders([tmp_path])) == [("strategies", name)]


def test_what_is_no_copy_is_left_alone(tmp_path: Path) -> None:
    words = '"all-lower", "best-vs-worst", "best-vs-draw"'
    (tmp_path / "a.rs").write_text(
        f"// {words}\n/* {words} */\n#[cfg(test)]\nmod tests {{ const A: B = [{words}]; }}\n"
    )
    (tmp_path / "b.py").write_text(
        '# "all-lower", "best-vs-worst", "best-vs-draw"\nA = ["all-lower", "best-vs-worst"]\n'
    )
    (tmp_path / "c.py").write_text(
        'A = "all-lowers, best-vs-worst, a.best-vs-draw and not-best-vs-random"\n'
    )
    assert not holders([tmp_path])
