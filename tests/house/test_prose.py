"""The documents are in plain English: few odd words, short sentences. `prose.py` has the lists."""

from pathlib import Path

import pytest

from prose import (
    ROOT,
    Text,
    files,
    hash_comments,
    joined,
    measure,
    prose_of,
    python_parts,
    rust_parts,
    texts_of,
)

HARD_MAX, SOFT_MAX, SEMICOLONS_MAX, LONG_MAX = 1.0, 12.0, 3.0, 0.10


def test_the_documents_are_in_plain_english() -> None:
    texts = texts_of("docs")
    assert {"README.md", "docs/benchmarks.md"} <= {str(one.path.relative_to(ROOT)) for one in texts}
    found = measure(texts)
    assert found.words > 10_000
    assert found.hard <= HARD_MAX, "\n".join(found.found)
    assert found.soft <= SOFT_MAX
    assert found.semicolons <= SEMICOLONS_MAX
    assert found.long_sentences <= LONG_MAX


@pytest.mark.parametrize("path", files(["*.md", "docs/*.md"]), ids=lambda path: path.name)
def test_no_document_is_much_odder_than_the_others(path: Path) -> None:
    found = measure([Text(path, 1, prose_of(path.read_text("utf-8")))])
    assert found.hard <= 3 * HARD_MAX, "\n".join(found.found)
    assert found.soft <= 2 * SOFT_MAX


def measured(words: str) -> tuple[float, float]:
    """Return hard and soft words of a sentence, as numbers."""
    found = measure([Text(ROOT / "README.md", 1, words)])
    return round(found.hard * found.words / 1000), round(found.soft * found.words / 1000)


@pytest.mark.parametrize(
    ("words", "hard", "soft"),
    [
        ("The shards lie in the folder and nothing else stands there", 2, 2),
        ("what was made of it is told once more", 2, 2),
        ("`shards/` is whole; type the same command again", 2, 0),
        ("a path of its own, left out unless given", 2, 2),
        ("without: all of them, as they are", 2, 0),
        ("Remove rows that overlap this evaluation set. Repeatable.", 0, 0),
        ("There is no manifest; the landing page understands standalone actors", 0, 0),
        ("The `lies` of `told` and {twin} are names", 0, 0),
    ],
)
def test_odd_words_are_counted_and_plain_ones_are_not(words: str, hard: int, soft: int) -> None:
    assert measured(words) == (hard, soft)


def test_sentences_and_semicolons_are_counted() -> None:
    long = " ".join(["word"] * 26)
    found = measure([Text(ROOT / "README.md", 1, f"{long}. Three short words; and more.")])
    assert found.long_sentences == 0.5
    assert round(found.semicolons * found.words / 1000) == 1


def test_markdown_is_read_without_its_code() -> None:
    text = "# Title\n\n```sh\nlies\n```\n\nSee [the page](lies.md) <!-- told --> and `twin`.\n"
    plain = prose_of(text)
    assert "See [the page]" in plain and plain.count("\n") == text.count("\n")
    assert not {"lies", "told", "twin"} & set(plain.replace("]", " ").split())


def test_texts_of_python_are_told_apart() -> None:
    source = (
        '"""About the file."""\n\n@click.command()\ndef verify(path: str) -> None:\n'
        '    """Check the files."""\n    # why it is so\n    # for two lines\n'
        '    raise InputError(f"cannot read {path}: no file")\n    run("a b", "x ^ y ^ z of it")\n'
    )
    parts = python_parts(source)
    assert parts["docstrings"] == [(1, "About the file."), (5, "Check the files.")]
    assert parts["comments"] == [(6, "why it is so\nfor two lines")]
    assert [text for _, text in parts["strings"]] == [
        "cannot read {}: no file",
        "Check the files.",
    ]


def test_texts_of_rust_are_told_apart() -> None:
    source = (
        "//! About the file.\n//! Two lines.\n\n// Why it is so.\nfn read<'a>(text: &'a str) {\n"
        "    let quote = '\"';\n"
        '    Err(format!("cannot read the \\"file\\" {path}, \\\n        see it"))\n'
        '    r#"a "raw text" of words"#;\n    "two words";\n}\n\n'
        '#[cfg(test)]\nmod tests {\n    "the text of a test";\n}\n'
    )
    parts = rust_parts(source)
    assert parts["docstrings"] == [(1, "About the file.\nTwo lines.")]
    assert parts["comments"] == [(4, "Why it is so.")]
    assert [line for line, _ in parts["strings"]] == [7, 9]


def test_comments_of_configs_are_read() -> None:
    assert hash_comments("# One.\n# Two.\nkey: 1 # three\ncolor: a#b\n") == [
        (1, "One.\nTwo.\nthree")
    ]
    assert joined([(1, "a"), (3, "b"), (4, "c")]) == [(1, "a"), (3, "b\nc")]
