"""Prompts of files from other programs: marks, line ends, comments and characters that are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from collecting import written
from zephyr_fast import InputError
from zephyr_fast.collection import prompts

TEXTS: dict[str, tuple[bytes, list[str]]] = {
    "a byte order mark": (b"\xef\xbb\xbfOne?\nTwo?\n", ["One?", "Two?"]),
    "line ends of Windows": (b"One?\r\nTwo?\r\n", ["One?", "Two?"]),
    "old line ends": (b"One?\rTwo?", ["One?", "Two?"]),
    "other separators": (
        "One\u2028line?\nA\x0cform?\nA\x85b".encode(),
        ["One\u2028line?", "A\x0cform?", "A\x85b"],
    ),
    "comments": (b"# a list\n\nOne?\n  # and more\n", ["One?"]),
}


@pytest.mark.parametrize(("content", "wanted"), TEXTS.values(), ids=TEXTS)
def test_a_text_file_has_one_prompt_per_line(
    content: bytes, wanted: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    assert [one.text for one in prompts.load([path]).rows] == wanted


def test_a_byte_order_mark_is_no_part_of_a_row(tmp_path: Path) -> None:
    path = written(tmp_path / "prompts.jsonl", [{"prompt": "One?"}, {"prompt": "Two?"}])
    plain = prompts.load([path])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert prompts.load([path]) == plain


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("prompt", "\ud800"),
        ("id", "\udfff"),
        ("source", "\ud800x"),
        ("correct_answers", ["good", "\ud800"]),
        ("incorrect_answers", ["\ud800"]),
    ],
)
def test_half_a_character_is_refused_before_anything_is_paid(
    key: str, value: Any, tmp_path: Path
) -> None:
    rows = [{"prompt": "One?"}, {"prompt": "Two?", key: value}]
    with pytest.raises(InputError, match=f"`:2: `{key}` has a lone surrogate"):
        prompts.load([written(tmp_path / "prompts.jsonl", rows)])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("prompts.csv", b"prompt\nOne?\n", "read from .jsonl, .parquet and .txt files"),
        ("prompts.jsonl", b"", "the input has no prompts"),
        ("prompts.txt", b"\n# nothing\n", "has no lines"),
        ("prompts.jsonl", json.dumps({"prompt": "One?"}).encode("utf-16"), ":1 is not JSON: 'utf"),
        ("prompts.txt", "One?".encode("utf-16"), "is not UTF-8"),
        ("prompts.jsonl", b'{"prompt": NaN}', "`prompt` is not a text but nan"),
    ],
)
def test_what_is_no_file_of_prompts_is_one_line(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        prompts.load([path])


def test_a_limit_above_the_number_of_prompts_keeps_all(tmp_path: Path) -> None:
    path = written(tmp_path / "prompts.jsonl", [{"prompt": "One?"}] * 3 + [{"prompt": "Two?"}])
    found = prompts.load([path], limit=9)
    assert (len(found.rows), found.repeated) == (2, 2)
