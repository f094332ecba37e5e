"""CONTRIBUTING's table is complete: what it says to touch for a new thing is enough, and compiles.

A dummy filter, row shape, pairing strategy, bundled template and recipe key are added to a copy
of the sources. Each edit must be in a file that its row names, and each file that a row names is
edited.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CORE = "rust/core/src"
CHOSEN = {"<name>": "dummy", "<step>": "dedup"}

Edit = Callable[[str], str]
Edits = Mapping[str, list[Edit]]
"""By file, what is done to its text; that of a new file is empty."""


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


def write(text: str) -> Edit:
    return lambda before: before + text


def behind(pattern: str, text: str) -> Edit:
    """Puts `text` behind the one place that matches; a number in a group of it goes up by one."""

    def edit(before: str) -> str:
        places = list(re.finditer(pattern, before))
        assert len(places) == 1, f"{len(places)} places look like {pattern}"
        (found,) = places
        head = found[0].replace(found[1], str(int(found[1]) + 1)) if found.groups() else found[0]
        return f"{before[: found.start()]}{head}{text}{before[found.end() :]}"

    return edit


FILTER = """//! Lets every dialogue through.

use serde::Deserialize;

use crate::dialogue::Dialogue;
use crate::stage::{Notes, Reason, Stage};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dummy {}

pub(super) fn build(table: toml::Table) -> Result<Box<dyn Stage>, toml::de::Error> {
    Ok(Box::new(table.try_into::<Dummy>()?))
}

impl Stage for Dummy {
    fn visit(&self, _: &mut Dialogue, _: &mut Notes) -> Result<(), Reason> {
        Ok(())
    }
}
"""

SHAPE = """//! The same as raw UltraChat.

use super::alternating;
use super::unread::Unread;
use crate::dialogue::Dialogue;
use crate::stage::Reason;

pub(super) fn parse(row: &[u8], unread: &mut Unread) -> Result<Dialogue, Reason> {
    alternating::parse(row, unread)
}
"""

TEMPLATE = """{% for message in messages %}\
<|{{ message['role'] }}|>{{ message['content'] }}{% endfor %}
"""

BOUNDS = """
        if self.dedup.dummy == 0 {
            return wrong("dedup.dummy", "at least 1");
        }"""

ADDED: Mapping[str, Edits] = {
    "a filter": {
        f"{CORE}/filter/dummy.rs": [write(FILTER)],
        f"{CORE}/filter/mod.rs": [
            behind(r"\nmod length;", "\nmod dummy;"),
            behind(r"FILTERS: \[\(&str, Build\); (\d+)\] =\s*\[", '("dummy", dummy::build), '),
        ],
    },
    "a row shape": {
        f"{CORE}/read/shape/dummy.rs": [write(SHAPE)],
        f"{CORE}/read/shape/mod.rs": [
            behind(r"\nmod cursor;", "\nmod dummy;"),
            behind(
                r"SHAPES: \[Shape; (\d+)\] =\s*\[",
                'Shape { name: "dummy", told_by: &["dummy"], compares: false, '
                "reader: Reader::Row(dummy::parse) }, ",
            ),
        ],
        "rust/core/tests/twins/slow/rows.rs": [
            behind(r"match shape \{", '\n        "dummy" => alternating(row),')
        ],
        "rust/core/tests/twins/hostile_rows.jsonl": [write('{"dummy":1,"data":["a"]}\n')],
        "rust/core/tests/twins/read.rs": [
            behind(r"const PIECES: &\[&str\] = &\[", r'"\"dummy\":", ')
        ],
    },
    "a pairing strategy": {
        f"{CORE}/recipe/mod.rs": [
            behind(r"pub enum Strategy \{", '\n        /// As all-lower.\n        Dummy "dummy",')
        ],
        f"{CORE}/binarize/strategy.rs": [
            behind(r"let rejected = match strategy \{", "Strategy::Dummy => lower,"),
            behind(r"Reason::from\(match strategy \{", "Strategy::Dummy => Code::Tie,"),
        ],
    },
    "a bundled template": {"python/zephyr_fast/templates/dummy.jinja": [write(TEMPLATE)]},
    "a recipe key": {
        f"{CORE}/recipe/mod.rs": [
            behind(r"pub struct Dedup \{", "\n    /// A number.\n    pub dummy: u32,"),
            behind(r"fn default\(\) -> Dedup \{\s*Dedup \{", " dummy: 1,"),
        ],
        f"{CORE}/recipe/read.rs": [
            behind(r"let wrong =\s*\|key: &str, rule: &str\|[^;]*;", BOUNDS)
        ],
        f"{CORE}/pipeline/fit.rs": [
            behind(
                r"fn without_effect_on_pairs[^{]*\{\s*let keys =\s*\[",
                '("dedup.dummy", recipe.dedup.dummy != 1, "is for dialogues"), ',
            )
        ],
        f"{CORE}/dedup/mod.rs": [
            behind(
                r"pub fn new\(folder: &Folder, dedup: &Dedup\) -> Result<Seen> \{",
                "\n        assert!(dedup.dummy > 0);",
            )
        ],
    },
}

SEEN = """
#[cfg(test)]
mod adding {
    use super::{Product, names};
    use crate::pipeline::fit;

    #[test]
    fn what_was_added_is_in_the_lists() {
        for kind in ["filters", "shapes", "strategies", "templates"] {
            assert!(names(kind).expect("is a list").contains(&"dummy"), "{kind}");
        }
        let recipe = fit::read("[dedup]\\ndummy = 3\\n[[filter]]\\nkind = 'dummy'\\n", "x", &[]);
        assert!(recipe.and_then(|recipe| recipe.to_toml()).expect("prints").contains("dummy = 3"));
        assert!(fit::read("[dedup]\\ndummy = 0\\n", "x", &[]).is_err());
        let pairs = fit::read("[binarize]\\n[dedup]\\ndummy = 3\\n", "x", &[]);
        let refused = pairs.and_then(|mut recipe| fit::resolve(Product::Pairs, &mut recipe));
        assert!(refused.expect_err("does nothing").to_string().starts_with("`dedup.dummy`"));
        println!("added in {}", env!("CARGO_MANIFEST_DIR"));
    }
}
"""


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
    lists = tree / CORE / "pipeline" / "names.rs"
    lists.write_text(lists.read_text(encoding="utf-8") + SEEN, encoding="utf-8")
    core = ("-p", "zephyr-core", "--locked", "--offline")
    cargo(tree, "check", *core, "--tests", "--benches")
    ran = cargo(tree, "test", *core, "--lib", "--", "pipeline::names::adding", "--nocapture")
    assert f"added in {tree}/rust/core" in ran and "1 passed" in ran
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
