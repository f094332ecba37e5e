"""Tokenizers are programs of others: what they do to a text is counted, and one that fails on a
row spoils that row alone.
"""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from zephyr_fast import InputError, Manifest, _core

SAMPLE = Path(_core.__file__).parent / "sample" / "tokenizer"
PLAIN = ["An ordinary question about rivers?", "An ordinary answer: they flow."]


def tokenizer(folder: Path, **parts: Any) -> Path:
    """The sample tokenizer with other parts."""
    shutil.copytree(SAMPLE, folder)
    made = json.loads((folder / "tokenizer.json").read_text()) | parts
    (folder / "tokenizer.json").write_text(json.dumps(made))
    return folder


def prep(tmp_path: Path, made: Path, *texts: str) -> Manifest:
    """A run over one row of each text and a plain one."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"messages": dialogue(text)}) + "\n" for text in (*texts, PLAIN[0]))
    )
    settings: dict[str, Any] = {
        "truecase.enabled": False,
        "dedup.near": False,
        "filter": "[]",
        "pack.seq_len": 64,
    }
    return zephyr_fast.prep(out=tmp_path / "out", input=rows, tokenizer=made, overrides=settings)


def dialogue(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}, {"role": "assistant", "content": PLAIN[1]}]


def replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


GROW = {
    "ten times, nine times over": sequence(*[replace({"String": "z"}, "z" * 10)] * 9),
    "a thousand times, thrice": sequence(*[replace({"String": "z"}, "z" * 1_000)] * 3),
    "a text at every place": replace({"Regex": "(?=z)"}, "y" * 100_000),
    "once, by a megabyte": replace({"String": "z"}, "y" * 1_000_000),
    "in front": {"type": "Prepend", "prepend": "y" * 1_000_000},
}


@pytest.mark.parametrize("name", GROW)
def test_a_normalizer_that_grows_a_text_loses_that_row_alone(name: str, tmp_path: Path) -> None:
    made = tokenizer(tmp_path / "tokenizer", normalizer=GROW[name], pre_tokenizer=None)
    if name == "in front":
        # Of any text, also of the one that it is loaded with.
        with pytest.raises(InputError, match="the normalizer's output exceeds"):
            prep(tmp_path, made)
        return
    manifest = prep(tmp_path, made, "zzz " * 100)
    assert manifest.rows.quarantined == {"tokenizer": 1}
    assert manifest.rows.written == 1


BACKTRACK = {
    "alternatives that are the same": (r"(a|a)*$", "a" * 40 + "b"),
    "repeats of repeats": (r"(x+x+)+y", "x" * 60),
    "a little at every place": (
        r".*.*.*§|.",
        "one line of words that has no such sign in it " * 60,
    ),
}


@pytest.mark.parametrize("name", BACKTRACK)
@pytest.mark.parametrize("part", ["normalizer", "pre_tokenizer"])
def test_a_pattern_that_does_not_end_loses_that_row_alone(
    name: str, part: str, tmp_path: Path
) -> None:
    pattern, text = BACKTRACK[name]
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    parts = (
        {"normalizer": replace({"Regex": pattern}, "-")}
        if part == "normalizer"
        else {"pre_tokenizer": split}
    )
    made = tokenizer(tmp_path / "tokenizer", **({"normalizer": None} | parts))
    manifest = prep(tmp_path, made, text)
    assert manifest.rows.quarantined == {"tokenizer": 1}
    assert manifest.rows.written == 1


def charsmap(written: bytes) -> dict[str, Any]:
    blob = (4).to_bytes(4, "little") + bytes(4) + written
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()}


WORDS = {
    "type": "WordPiece",
    "unk_token": "[UNK]",
    "continuing_subword_prefix": "##",
    "vocab": {"[UNK]": 0, "a": 1, "##a": 2},
}
REFUSED = {
    "words without end": (
        {"model": WORDS | {"max_input_chars_per_word": 10**9}},
        "max_input_chars_per_word",
    ),
    "pieces without end": (
        {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["?", 0.0], ["a" * 40_000, -1.0]]}},
        "longest piece",
    ),
    "pieces without a type": (
        {"model": {"unk_id": 0, "vocab": [["?", 0.0], ["a" * 40_000, -1.0]]}},
        "longest piece",
    ),
    "an atomic group": (
        {"normalizer": replace({"Regex": "(?=(?>a*)b)a|b"}, "")},
        "an atomic group",
    ),
    "chance": (
        {"model": WORDS | {"type": "BPE", "dropout": 0.5, "merges": []}},
        "uses BPE dropout",
    ),
    "a long character map": (
        {"normalizer": charsmap(b"x" * 5_000 + b"\0")},
        "replaces one character by 5000 bytes",
    ),
    "a damaged character map": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
        "",
    ),
    "too many normalizers": (
        {"normalizer": sequence(*[{"type": "NFC"}] * 65)},
        "too many normalizers (limit: 64)",
    ),
    "no model": ({"model": {"type": "BPE"}}, ""),
    "no pattern": ({"normalizer": replace({"Regex": "("}, "")}, ""),
    "a list": ({"added_tokens": [[[[]]]]}, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_tokenizer_that_cannot_be_trusted_is_refused_by_name(name: str, tmp_path: Path) -> None:
    parts, why = REFUSED[name]
    made = tokenizer(tmp_path / "tokenizer", **parts)
    with pytest.raises(InputError, match=r"tokenizer\.json") as refused:
        prep(tmp_path, made)
    assert why in str(refused.value)
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("content", ["", "[" * 100_000, "{}", '{"model": null}', "\0"])
def test_what_is_no_tokenizer_is_an_input_error(content: str, tmp_path: Path) -> None:
    made = tokenizer(tmp_path / "tokenizer")
    (made / "tokenizer.json").write_text(content)
    with pytest.raises(InputError, match=r"tokenizer\.json"):
        prep(tmp_path, made)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]
)
def test_a_file_beside_the_tokenizer_is_bounded_before_it_is_read(
    name: str, tmp_path: Path
) -> None:
    made = tokenizer(tmp_path / "tokenizer")
    with (made / name).open("wb") as file:
        file.truncate(17 << 20)
    with pytest.raises(InputError, match="has more than 16777216 bytes"):
        prep(tmp_path, made)
