"""Manifests from strangers: deep, wide, endless or talkative ones end in short typed errors."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from numbered import numbered
from zephyr_fast import InputError, IntegrityError, Manifest, Shards, ZephyrError
from zephyr_fast.dataset.manifest import BYTES_MAX, seal
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import CONTAINERS_MAX, VALUES_MAX, parse_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return numbered(tmp_path / "set", 6)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000,
        "[" * 1_000_000,
        '{"a":' * 100_000,
        "[" * 990 + "]" * 990,
        '{"schema":' + "[" * 900 + "]" * 900 + "}",
    ],
)
def test_deep_manifests_end_in_typed_errors(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises((IntegrityError, InputError)) as error:
        Shards(folder, "train")
    assert len(str(error.value)) < 1_000


def test_a_manifest_of_too_many_values_or_bytes_is_refused_before_it_is_parsed(
    folder: Path,
) -> None:
    (folder / "manifest.json").write_text("[" + "[]," * CONTAINERS_MAX + "[]]")
    with pytest.raises(IntegrityError, match="more than 1,000,000 objects"):
        Manifest.read(folder)
    (folder / "manifest.json").write_text("[" + "1e1," * VALUES_MAX + "1,1]")
    with pytest.raises(IntegrityError, match="more than 3,000,000 values"):
        Manifest.read(folder)
    os.truncate(folder / "manifest.json", BYTES_MAX + 1)
    with pytest.raises(InputError, match="more than 67,108,864 bytes"):
        Manifest.read(folder)


HOSTILE = [
    "\x1b]0;pwned\x07",
    "\x9b2J",
    "a" * 100_000,
    "\u202egnp",
    "a\nb\rc",
    "\u2028",
    {"a": "0" * 100_000},
    "\ud800",
    10**400,
    [[]] * 50_000,
]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_text_of_a_manifest_is_shown_short_and_escaped(folder: Path, value: Any) -> None:
    told = json.loads((folder / "manifest.json").read_text())
    places: list[tuple[Any, Any]] = [
        (told, "schema"),
        (told, "kind"),
        (told, "files"),
        (told["rows"], "read"),
        (told["splits"], "train"),
    ]
    places += [
        (told["splits"]["train"]["shards"][0], name) for name in ("file", "examples", "batches")
    ]
    places += [
        (told["splits"]["train"]["shards"][0]["batches"][0], "offset"),
        (told["tokenizer"], "vocab_size"),
        (told["splits"]["train"], "fill"),
    ]
    for where, name in places:
        kept = where.get(name)
        where[name] = value
        refused(folder, told)
        where[name] = kept
        if kept is None:
            del where[name]
    if isinstance(value, str):
        told["splits"][value] = told["splits"]["train"]
        refused(folder, told)


def refused(folder: Path, told: Any) -> None:
    text = json.dumps({name: value for name, value in told.items() if name != "sha256"}, indent=2)
    (folder / "manifest.json").write_text(resealed(text))
    with pytest.raises(ZephyrError) as error:
        Shards(folder, "train")
    said = str(error.value)
    assert len(said) < 1_000 and said.isprintable(), ascii(said)


def resealed(text: str) -> str:
    before = text.removesuffix("\n}")
    return f'{before},\n  "sha256": "{hashlib.sha256(before.encode()).hexdigest()}"\n}}\n'


@pytest.mark.parametrize("number", [-1, 2**63, 10**400, 1.5, True, "7", None])
def test_counts_are_whole_numbers_that_fit(folder: Path, number: Any) -> None:
    for change in ("tokens", "seq_len", "examples"):
        told = json.loads((folder / "manifest.json").read_text())
        told["splits"]["train"][change] = number
        with pytest.raises(IntegrityError):
            Manifest.parse(seal(told))


@pytest.mark.parametrize(
    "number", ["1e999", "-1e999", "NaN", "Infinity", "1" + "0" * 400, "1" + "0" * 5000]
)
def test_shares_are_finite(folder: Path, number: str) -> None:
    told = json.loads((folder / "manifest.json").read_text())
    told["splits"]["train"]["fill"] = 0.123456
    text = seal(told).rpartition(',\n  "sha256"')[0].replace("0.123456", number)
    with pytest.raises(IntegrityError):
        Manifest.parse(resealed(text + "\n}"))


def test_what_is_shown_is_printable_and_short() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for value in (*HOSTILE, deep, 10**5000, b"\x1b", None):
        assert shown(value).isprintable() and len(shown(value, 50)) <= 50 * 10 + 1
    while deep:  # taken down by hand: Python would do it recursively
        deep = deep.pop()
    assert shown("plain text, ünïcode 日本") == "plain text, ünïcode 日本"
    with pytest.raises(ValueError, match="deep"):
        parse_json(b"[" * 100_000)


def test_a_long_name_is_not_copied_for_each_batch(folder: Path) -> None:
    """10,000 batches in a split whose name has 10 MB: some 100 GB, if each of their places were
    spelt.
    """
    told = json.loads((folder / "manifest.json").read_text())
    split = told["splits"].pop("train")
    split["shards"][0]["batches"] *= 10_000
    split["shards"] *= 2
    told["splits"]["k" * 10_000_000] = split
    refused(folder, told)
