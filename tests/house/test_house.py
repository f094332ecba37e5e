"""The house rules that a machine can check: a pure core, one thin border, small files that say
what they are for, one version.
"""

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import zephyr_fast

ROOT = Path(__file__).parents[2]
RUST = sorted((ROOT / "rust").rglob("*.rs"))
PYTHON = sorted(
    path for folder in ("python", "tests", "scripts") for path in (ROOT / folder).rglob("*.py")
)
BORDER = sorted((ROOT / "rust" / "py" / "src").rglob("*.rs"))


def locked_dependencies(package: str) -> set[str]:
    """Everything that a package stands on, by the lock file."""
    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    needs: dict[str, set[str]] = {}
    for entry in locked:
        needs.setdefault(entry["name"], set()).update(
            word.split()[0] for word in entry.get("dependencies", [])
        )
    found, waiting = set(), [package]
    while waiting:
        for name in needs[waiting.pop()] - found:
            found.add(name)
            waiting.append(name)
    return found


def test_the_core_stands_on_nothing_of_python() -> None:
    assert "pyo3" in locked_dependencies("zephyr-py"), "the border does, or this test sees nothing"
    assert not [
        name
        for name in locked_dependencies("zephyr-core")
        if name.startswith(("pyo3", "numpy", "python"))
    ]


def test_cargo_says_so_too() -> None:
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("no cargo here")
    words = [
        cargo,
        "tree",
        "-p",
        "zephyr-core",
        "-e",
        "normal",
        "--offline",
        "--locked",
        "--prefix",
        "none",
    ]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        pytest.skip(f"cargo cannot tell without a network: {told.stderr.splitlines()[-1]}")
    assert "arrow-ipc" in told.stdout and "pyo3" not in told.stdout


def test_the_core_never_names_the_binding() -> None:
    for path in [
        *(ROOT / "rust" / "core").rglob("*.rs"),
        *(ROOT / "rust" / "core").rglob("*.toml"),
    ]:
        assert not re.search(r"pyo3|PyResult|\bPy<", path.read_text(encoding="utf-8")), path


def test_no_two_test_modules_have_one_name() -> None:
    """Pytest imports them by name alone, so the second would fail."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert not {name for name in names if names.count(name) > 1}


def test_the_border_is_thin_and_has_one_door() -> None:
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in BORDER) < 250
    doors = [
        path.name
        for path in BORDER
        if re.search(r"\b(detach|allow_threads)\(", path.read_text(encoding="utf-8"))
    ]
    assert doors == ["border.rs"]


@pytest.mark.parametrize("path", RUST, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_rust_file_opens_with_what_it_is_for_and_is_small(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert re.match(r"//! .{15}", lines[0])
    assert len(lines) <= 400


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_python_file_opens_with_what_it_is_for_and_is_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    purpose = ast.get_docstring(ast.parse(text))
    assert purpose and len(purpose.splitlines()[0]) >= 15
    assert len(text.splitlines()) <= 400


def test_no_file_is_named_after_nothing() -> None:
    vague = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}
    assert not [
        path
        for path in [*RUST, *PYTHON]
        if vague & {path.stem, *(part.lower() for part in path.relative_to(ROOT).parts)}
    ]


def test_lints_are_expected_with_a_reason_and_never_allowed() -> None:
    for path in RUST:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"#!?\[allow\(", text), path
        for expected in re.findall(r"#!?\[expect\((.*?)\)\]", text, re.DOTALL):
            assert "reason" in expected, path


def test_there_is_one_version() -> None:
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    locked = {
        entry["name"]: entry["version"]
        for entry in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {version} == {zephyr_fast.__version__, locked["zephyr-core"], locked["zephyr-py"]}
    assert project.get("version", version) == version and (
        "version" in project or "version" in project["dynamic"]
    )
