"""What the documents name is there: files, the rooms in their order, and the versions of the
rules.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from test_rooms import PYTHON, PYTHON_ROOMS, ROOT, RUST, RUST_ROOMS, Rooms

NAMED = re.compile(r"`([\w<>./-]+\.(?:rs|py|pyi|toml|md|jinja|yaml|json|jsonl))`")
"""Files that a document names, in backticks; what a run writes (`manifest.json`) has no folder."""

HOMES = {
    "ARCHITECTURE.md": (ROOT, RUST, PYTHON),
    "CONTRIBUTING.md": (ROOT,),
    "README.md": (ROOT,),
    "docs/security.md": (ROOT, RUST),
    "docs/reliability.md": (ROOT, RUST),
    "docs/benchmarks.md": (ROOT,),
    "docs/benchmarks-log.md": (ROOT,),
    "SECURITY.md": (ROOT,),
}
"""By document, the folders that its paths are relative to."""


def gone_from(text: str, homes: Sequence[Path]) -> list[str]:
    """The files that a text names and that are in none of the folders."""
    names = {name for name in NAMED.findall(text) if "/" in name or name.endswith((".rs", ".py"))}
    return sorted(name for name in names if not any(stands(name, home) for home in homes))


def stands(name: str, home: Path) -> bool:
    """Whether the file is there; of one that is yet to be chosen (`<name>`), the folder."""
    if "<step>" in name:
        return True
    if "<" in name:
        return (home / name).parent.is_dir()
    if "/" not in name and home == ROOT:  # known by its name alone
        return any(
            path.name == name
            for folder in ("rust", "python", "tests", "scripts")
            for path in (ROOT / folder).rglob(name)
        )
    return (home / name).is_file()


@pytest.mark.parametrize("document", HOMES)
def test_every_file_that_a_document_names_is_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    assert not (gone := gone_from(text, HOMES[document])), f"{document} names {', '.join(gone)}"


def test_a_file_that_is_gone_is_noticed() -> None:
    text = (
        "`pipeline/row.rs`, `pipeline/walk.rs`, `load/shards.py`, `shards/`, `manifest.json`, "
        "`gone.rs`, `no/<name>.rs`"
    )
    assert gone_from(text, (ROOT, RUST, PYTHON)) == ["gone.rs", "no/<name>.rs", "pipeline/walk.rs"]


@pytest.mark.parametrize(
    ("folder", "rooms"), [("rust/core/src", RUST_ROOMS), ("python/zephyr_fast", PYTHON_ROOMS)]
)
def test_architecture_lists_the_rooms_in_their_order(folder: str, rooms: Rooms) -> None:
    (block,) = re.findall(
        rf"^{folder}\n((?:  .+\n)+)",
        (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert [
        line.split("   ")[0].split()
        for line in block.replace("\n  ", "\n").removeprefix("  ").splitlines()
    ] == [list(room) for room in rooms]


def test_contributing_says_when_each_version_is_raised() -> None:
    versions = (RUST / "pipeline" / "versions.rs").read_text(encoding="utf-8")
    listed = re.findall(r'\("(\w+)", (?:\w+::)+\w*VERSION\)', versions)
    table = re.findall(
        r"^\| `(\w+)` \| `([\w/.]+)` \| .+ \|$",
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert listed and [name for name, _ in table] == listed
    assert not [
        file for _, file in table if "VERSION: u32" not in (ROOT / file).read_text(encoding="utf-8")
    ]


LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def broken_links(document: Path) -> list[str]:
    """The relative links of a document whose file or heading does not exist."""
    broken = []
    for name, heading in LINK.findall(document.read_text(encoding="utf-8")):
        target = document.parent / name if name else document
        if not target.exists() or (heading and heading not in anchors_of(target)):
            broken.append(f"{name}#{heading}" if heading else name)
    return broken


def anchors_of(document: Path) -> set[str]:
    """The anchors of the headings of a Markdown file, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize(
    "document", [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")], ids=lambda path: path.name
)
def test_the_links_of_a_document_lead_somewhere(document: Path) -> None:
    assert broken_links(document) == []


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A heading: two words\n")
    (tmp_path / "page.md").write_text(
        "# Here\n[a](there.md#a-heading-two-words) [b](there.md#gone) [c](gone.md) [d](#here) "
        "[e](https://example.org/gone)"
    )
    assert broken_links(tmp_path / "page.md") == ["there.md#gone", "gone.md"]


SYMBOL = re.compile(r"`((?:[A-Za-z_]\w*(?:::|\.))*[A-Za-z_]\w*)(?:\(.*\))?`")


def unknown_symbols(text: str, known: set[str]) -> list[str]:
    """The names of code in backticks, such as `Walk::visit`, that no source has."""
    names = {
        part
        for symbol in SYMBOL.findall(NAMED.sub("", text))
        for part in re.split(r"::|\.", symbol)
        if "_" in part or "::" in symbol or re.search(r"[a-z][A-Z]|[A-Z]{3}", part)
    }
    return sorted(names - known)


def words_of_the_sources() -> set[str]:
    words: set[str] = set()
    for folder in ("rust", "python", "scripts", "tests"):
        for ending in (".rs", ".py", ".pyi", ".toml", ".yaml"):
            for path in (ROOT / folder).rglob(f"*{ending}"):
                if path != Path(__file__):
                    words |= set(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    return words


def test_the_names_of_code_in_the_documents_are_in_the_sources() -> None:
    known = words_of_the_sources()
    for document in ("ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"):
        unknown = unknown_symbols((ROOT / document).read_text(encoding="utf-8"), known)
        assert not unknown, f"{document} names {', '.join(unknown)}"


def test_a_name_that_no_source_has_is_noticed() -> None:
    text = "`Walk::visit`, `no_such_name`, `Seen::nowhere`, `word`, `FILTERS`, `GONE_LIST`, `f(x)`"
    known = {"Walk", "visit", "Seen", "FILTERS"}
    assert unknown_symbols(text, known) == ["GONE_LIST", "no_such_name", "nowhere"]
