"""CONTRIBUTING's table is complete: what it says to touch for a new thing is enough, and compiles.

A dummy filter, row shape, pairing strategy, bundled template, recipe key and product are added to
a copy of the sources. Each edit must be in a file that its row names, and each file that a row
names is edited.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from added import ADDED, CORE, SEEN, Edits

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CHOSEN = {"<name>": "dummy", "<step>": "dedup"}


def rows_of(table: str) -> dict[str, set[str]]:
    """By what is added, the files of rust/ and python/ that its row names."""
    rows = re.findall(r"^\| \*\*(.+?)\*\* \|(.*)\|$", table, re.MULTILINE)
    return {
        what: {chosen(name) for name in re.findall(r"`((?:rust|python)/[^`\s]+\.\w+)`", cells)}
        for what, cells in rows
    }


def chosen(name: str) -> str:
    for placeholder, choice in CHOSEN.items():
        name = name.replace(placeholder, choice)
    return name


def add(tree: Path, edits: Edits, named: Iterable[str]) -> None:
    """Edits the files of a tree; fails where the table's row names other ones."""
    assert set(edits) == set(named)
    for name, changes in edits.items():
        path = tree / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for change in changes:
            text = change(text)
        path.write_text(text, encoding="utf-8")


def copied(tree: Path) -> Path:
    """A copy of the sources as another version, so that cargo takes it for another package.

    Of two trees with the same names and versions in one target directory, it would take the younger
    one's library for the older one's.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("no git, or no checkout, to ask for the files of the project")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
    for name, pattern in {
        "Cargo.toml": r"(\[workspace\.package\]\s*version)",
        "Cargo.lock": r'(name = "zephyr-\w+"\s*version)',
    }.items():
        text = (tree / name).read_text(encoding="utf-8")
        (tree / name).write_text(
            re.sub(pattern + r' = "([^"]+)"', r'\1 = "\2-adding"', text), encoding="utf-8"
        )
    return tree


# What is compiled runs one test for a moment; dependencies are those of every other build.
QUICK = {
    "CARGO_INCREMENTAL": "0",
    "CARGO_PROFILE_DEV_OPT_LEVEL": "0",
    "CARGO_PROFILE_DEV_DEBUG": "0",
}


def cargo(tree: Path, *words: str) -> str:
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    done = subprocess.run(
        ["cargo", *words],
        cwd=tree,
        env=os.environ | QUICK | {"CARGO_TARGET_DIR": target},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (
        f"cargo {' '.join(words)}\n{done.stderr[-6000:]}\n{done.stdout[-2000:]}"
    )
    return done.stdout


def test_the_files_that_the_table_names_are_all_that_a_new_thing_needs(tmp_path: Path) -> None:
    if shutil.which("cargo") is None:
        pytest.skip("no cargo here")
    if (
        subprocess.run(
            ["cargo", "fetch", "--locked", "--offline"], cwd=ROOT, capture_output=True, check=False
        ).returncode
        != 0
    ):
        pytest.skip("the dependencies are not on this machine")
    tree, rows = copied(tmp_path), rows_of(TABLE)
    for what, edits in ADDED.items():
        add(tree, edits, rows[what])
    for what in ADDED:
        for name in filter(lambda name: name.endswith(".py"), ADDED[what]):
            compile((tree / name).read_text(encoding="utf-8"), name, "exec")
    lists = tree / CORE / "pipeline" / "names.rs"
    lists.write_text(lists.read_text(encoding="utf-8") + SEEN, encoding="utf-8")
    core = ("-p", "zephyr-core", "--locked", "--offline")
    cargo(tree, "check", *core, "--tests", "--benches")
    ran = cargo(tree, "test", *core, "--lib", "--", "pipeline::names::adding", "--nocapture")
    assert f"added in {tree}/rust/core" in ran and "2 passed" in ran
    twins = cargo(
        tree, "test", *core, "--test", "twins", "--", "read::depth_and_size_have_the_same_ends"
    )
    assert "1 passed" in twins


def test_a_file_that_a_row_does_not_name_or_names_for_nothing_is_noticed(tmp_path: Path) -> None:
    rows = rows_of(TABLE)
    assert len(rows) >= 20 and ADDED.keys() <= rows.keys()
    for what, edits in ADDED.items():
        with pytest.raises(AssertionError):
            add(tmp_path, edits, rows[what] - {next(iter(edits))})
        with pytest.raises(AssertionError):
            add(tmp_path, edits, rows[what] | {f"{CORE}/lib.rs"})
    assert not list(tmp_path.iterdir())
