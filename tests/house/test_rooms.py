"""Imports run one way, down the list of rooms, and no two rooms use each other."""

import ast
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from imports import Arrow, gathered, python_arrows, rust_arrows

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "python" / "zephyr_fast"
RUST = ROOT / "rust" / "core" / "src"

Rooms = Sequence[Sequence[str]]
"""Rooms from top to bottom, each a folder or a file at the root; one level may have several."""

PYTHON_ROOMS: Rooms = [
    ["__main__"],
    ["__init__"],
    ["cli"],
    ["costs"],
    ["prepare"],
    ["evaluate"],
    ["train"],
    ["load"],
    ["feedback", "generate"],
    ["judge"],
    ["collection"],
    ["endpoint"],
    ["dataset"],
    ["untrusted"],
    ["printed", "exiting"],
    ["_core"],
]

RUST_ROOMS: Rooms = [
    ["lib"],
    ["pipeline"],
    ["encode"],
    [
        "read",
        "truecase",
        "filter",
        "binarize",
        "decontaminate",
        "dedup",
        "template",
        "control_tokens",
        "pack",
    ],
    ["tokenize"],
    ["dataset"],
    ["recipe"],
    ["disk"],
    ["stage", "dialogue", "sample", "code", "normal", "words", "progress", "panics", "error"],
    ["simd"],
]


def room_of(file: str) -> str:
    """The folder at the root that the file is in; the name of a file that is at the root."""
    return file.partition("/")[0] if "/" in file else Path(file).stem


def offences(rooms: Rooms, arrows: Sequence[Arrow]) -> list[str]:
    """Arrows that run up the list and circles of rooms: one line each, with files and names."""
    return [*strangers(rooms, arrows), *arrows_up(rooms, arrows), *circles(arrows, room_of)]


def strangers(rooms: Rooms, arrows: Sequence[Arrow]) -> list[str]:
    listed = {room for level in rooms for room in level}
    files = {file for arrow in arrows for file in (arrow.file, arrow.target)}
    return [
        f"{file} lies in no room of the list"
        for file in sorted(files)
        if room_of(file) not in listed
    ]


def arrows_up(rooms: Rooms, arrows: Sequence[Arrow]) -> list[str]:
    level = {room: number for number, same in enumerate(rooms) for room in same}
    return [
        f"{said(arrow)}, but `{room_of(arrow.target)}` is above `{room_of(arrow.file)}`"
        for arrow in gathered(arrows)
        if level.get(room_of(arrow.target), len(level)) < level.get(room_of(arrow.file), -1)
    ]


def circles(arrows: Sequence[Arrow], unit: Callable[[str], str]) -> list[str]:
    """The shortest circle through each unit (a room or a file) that is in one, each once."""
    ties: dict[str, dict[str, Arrow]] = {}
    for arrow in gathered(arrows):
        if unit(arrow.file) != unit(arrow.target):
            ties.setdefault(unit(arrow.file), {}).setdefault(unit(arrow.target), arrow)
    found: dict[frozenset[str], str] = {}
    for start in sorted(ties):
        circle = way_back(ties, start)
        if circle:
            words = "; ".join(said(arrow) for arrow in circle)
            found.setdefault(frozenset(unit(arrow.file) for arrow in circle), f"a circle: {words}")
    return list(found.values())


def way_back(ties: dict[str, dict[str, Arrow]], start: str) -> list[Arrow]:
    """The arrows of the shortest way from `start` to itself; none, if there is no such way."""
    ways: list[tuple[str, list[Arrow]]] = [(start, [])]
    seen: set[str] = set()
    for here, way in ways:  # grows as it is read: breadth first
        for target, arrow in ties.get(here, {}).items():
            if target == start:
                return [*way, arrow]
            if target not in seen:
                seen.add(target)
                ways.append((target, [*way, arrow]))
    return []


def said(arrow: Arrow) -> str:
    return f"{arrow.file} uses {', '.join(f'`{name}`' for name in arrow.names)} of {arrow.target}"


def listing(found: Sequence[str]) -> str:
    return "\n".join(["", *found])


def test_python_imports_run_one_way() -> None:
    arrows = python_arrows(PYTHON, "zephyr_fast")
    assert Arrow("load/shards.py", ("Manifest",), "dataset/manifest.py") in arrows, (
        "the reader sees nothing"
    )
    assert Arrow("__init__.py", ("ref_logprobs",), "train/ref_logprobs/compute.py") in arrows, (
        "under TYPE_CHECKING"
    )
    assert Arrow("train/sft.py", ("DistillationTrainer",), "train/distill.py") in arrows, (
        "within a function"
    )
    found = offences(PYTHON_ROOMS, arrows)
    assert not found, listing(found)


def test_no_two_python_files_use_each_other() -> None:
    found = circles(python_arrows(PYTHON, "zephyr_fast"), str)
    assert not found, listing(found)


def test_every_python_file_has_a_room() -> None:
    listed = {room for level in PYTHON_ROOMS for room in level}
    files = [
        path.relative_to(PYTHON).as_posix()
        for path in PYTHON.rglob("*.py*")
        if path.suffix in (".py", ".pyi")
    ]
    assert not [file for file in files if room_of(file) not in listed]


@pytest.mark.parametrize(
    "door", sorted(PYTHON.glob("*/**/__init__.py")), ids=lambda door: door.parent.name
)
def test_a_room_opens_by_naming_what_is_in_it(door: Path) -> None:
    opening = door.read_text(encoding="utf-8").split('"""')[1]
    inside = [
        path
        for path in door.parent.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    ]
    names = [path.stem for path in inside if not path.stem.startswith("__")]
    assert names and not [name for name in names if not re.search(rf"\b{name}\b", opening)]


def test_rust_paths_run_one_way() -> None:
    arrows = rust_arrows(RUST)
    assert any(arrow.target == "error.rs" for arrow in arrows), "the reader sees nothing"
    found = offences(RUST_ROOMS, arrows)
    assert not found, listing(found)


MADE_UP: Rooms = [["__init__"], ["top"], ["left", "right"], ["low"]]


def tree(folder: Path, ending: str, files: dict[str, str]) -> Path:
    """Writes sources. A folder without a file of its name beside it gets a `__init__` or `mod`."""
    door = {"py": "__init__.py", "rs": "mod.rs"}[ending]
    for name, line in files.items():
        path = folder / f"{name}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line + "\n", encoding="utf-8")
        if path.parent != folder and not path.parent.with_suffix(f".{ending}").exists():
            (path.parent / door).touch()
    return folder


PYTHON_UP = {
    "plain": "from house.top.roof import tile",
    "of a module": "from house.top import roof",
    "whole": "import house.top.roof",
    "relative": "from ..top.roof import tile",
    "in a function": "def build():\n    from house.top.roof import tile",
    "for types": "if TYPE_CHECKING:\n    from house.top.roof import tile",
    "as a text": "LATER = {'tile': 'house.top.roof'}",
}


@pytest.mark.parametrize("line", PYTHON_UP.values(), ids=PYTHON_UP)
def test_a_python_import_that_runs_up_is_found(tmp_path: Path, line: str) -> None:
    files = {"top/roof": "from house.low.cellar import stone", "low/cellar": "stone = 1"}
    assert not offences(MADE_UP, python_arrows(tree(tmp_path / "a", "py", files), "house"))
    found = offences(
        MADE_UP, python_arrows(tree(tmp_path / "b", "py", files | {"low/cellar": line}), "house")
    )
    assert re.match(
        "low/cellar.py uses `[a-z.]+` of top/roof.py, but `top` is above `low`", found[0]
    )
    assert (
        "a circle: low/cellar.py uses" in found[1]
        and "top/roof.py uses `stone` of low/cellar.py" in found[1]
    )


def test_a_circle_of_python_rooms_is_found_and_a_way_across_is_not(tmp_path: Path) -> None:
    files = {
        "left/door": "from house.right.wall import brick",
        "right/wall": "brick = 1",
        "right/sill": "wood = 1",
    }
    assert not offences(MADE_UP, python_arrows(tree(tmp_path, "py", files), "house"))
    tree(
        tmp_path, "py", {"right/sill": "from house.left.hinge import pin", "left/hinge": "pin = 1"}
    )
    arrows = python_arrows(tmp_path, "house")
    (found,) = offences(MADE_UP, arrows)
    way, back = (
        "left/door.py uses `brick` of right/wall.py",
        "right/sill.py uses `pin` of left/hinge.py",
    )
    assert found == f"a circle: {way}; {back}"
    assert not circles(arrows, str), "no file uses itself, not even by others"


def test_a_file_outside_of_all_rooms_is_found(tmp_path: Path) -> None:
    arrows = python_arrows(
        tree(tmp_path, "py", {"shed": "from house.low.cellar import stone", "low/cellar": ""}),
        "house",
    )
    assert offences(MADE_UP, arrows) == ["shed.py lies in no room of the list"]


RUST_UP = {
    "use": "use crate::top::roof::Tile;",
    "use of many": "use crate::{low::Stone, top::{self, roof::{Tile as Slate, Beam}}};",
    "in code": "fn build() -> crate::top::roof::Tile { todo!() }",
    "from its parent": "use super::super::top::roof::Tile;",
    "after a quote": "const QUOTE: char = '\"'; use crate::top::roof::Tile;",
}


@pytest.mark.parametrize("line", RUST_UP.values(), ids=RUST_UP)
def test_a_rust_path_that_runs_up_is_found(tmp_path: Path, line: str) -> None:
    files = {
        "lib": "mod top; mod low;",
        "top/roof": "use crate::low::cellar::Stone;",
        "low/cellar": line,
    }
    found = offences([["lib"], *MADE_UP], rust_arrows(tree(tmp_path, "rs", files)))
    assert any(
        re.match("low/cellar.rs uses .*`Tile`.* of top/roof.rs, but `top` is above `low`", one)
        for one in found
    )
    assert any("a circle: low/cellar.rs uses" in one for one in found)


RUST_STILL = {
    "comments": "/// See [`crate::top::roof`].\n/* use crate::top::roof::Tile; */ // crate::top",
    "texts": 'const A: &str = "use crate::top::roof::Tile;"; const B: &str = r#"" crate::top"#;',
    "visibility": "pub(in crate::top) fn stone() {}",
    "unit tests": '#[cfg(test)]\nmod tests { use crate::top::roof::Tile; fn f() { g("}"); } }',
    "one test import": "#[cfg(test)]\nuse crate::top::roof::Tile;",
}


@pytest.mark.parametrize("line", RUST_STILL.values(), ids=RUST_STILL)
def test_what_uses_nothing_in_rust_is_no_arrow(tmp_path: Path, line: str) -> None:
    files = {
        "lib": "mod top; mod low;",
        "top/roof": "use crate::low::cellar::Stone;",
        "low/cellar": line,
    }
    assert rust_arrows(tree(tmp_path, "rs", files)) == [
        Arrow("top/roof.rs", ("Stone",), "low/cellar.rs")
    ]
    tree(tmp_path, "rs", {"low/cellar": f"{line}\nuse crate::top::roof::Tile;"})
    assert len(rust_arrows(tmp_path)) == 2, "what comes behind is read"


def test_a_circle_of_rust_rooms_on_one_level_is_found(tmp_path: Path) -> None:
    files = {
        "lib": "",
        "left": "use crate::right::Brick;",
        "right": "use crate::right::wall::Brick;",
        "right/wall": "",
    }
    assert not offences([["lib"], *MADE_UP], rust_arrows(tree(tmp_path, "rs", files)))
    tree(tmp_path, "rs", {"right/wall": "use crate::left::Hinge;"})
    (found,) = offences([["lib"], *MADE_UP], rust_arrows(tmp_path))
    assert (
        found == "a circle: left.rs uses `Brick` of right.rs; right/wall.rs uses `Hinge` of left.rs"
    )


def test_every_module_that_a_text_names_is_there() -> None:
    sources = [
        path for folder in ("python", "tests", "scripts") for path in (ROOT / folder).rglob("*.py*")
    ]
    texts = [
        path
        for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        if path.name != "CHANGELOG.md"
    ]
    gone = [
        f"{path.relative_to(ROOT)} names zephyr_fast{dotted}"
        for path in [*(path for path in sources if path.suffix in (".py", ".pyi")), *texts]
        for dotted in re.findall(
            r"\bzephyr_fast((?:\.[A-Za-z_]\w*)+)", path.read_text(encoding="utf-8")
        )
        if not is_there(dotted.removeprefix(".").split("."))
    ]
    assert not gone, listing(gone)
    assert is_there(["load", "stream", "LoaderState"]) and is_there(["prep"])
    assert (
        not is_there(["stream"])
        and not is_there(["load", "LoaderState"])
        and not is_there(["load", "stream", "Stat"])
    )


def is_there(parts: Sequence[str]) -> bool:
    """Whether the parts name a module of the package, or something that a module of it defines."""
    here = PYTHON
    for part in parts:
        within = (here / part, here / f"{part}.py", here / f"{part}.pyi")
        found = next((path for path in within if path.exists()), None) if here.is_dir() else None
        if found is None:
            source = here / "__init__.py" if here.is_dir() else here
            return part.startswith("__") or part in names_of(source)
        here = found
    return True


def names_of(source: Path) -> set[str]:
    """What a module defines or imports."""
    nodes = list(ast.walk(ast.parse(source.read_text(encoding="utf-8"))))
    named = (ast.FunctionDef, ast.ClassDef, ast.alias)
    return {node.name for node in nodes if isinstance(node, named)} | {
        node.id for node in nodes if isinstance(node, ast.Name)
    }
