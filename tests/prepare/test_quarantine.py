"""Rows that cannot or must not be used: each is set aside with its place and its bytes, wherever
it stands, and the run goes on.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

import commands
import zephyr_fast
from bad_rows import BAD, BROKEN, DEEP, MANY, SHAPELESS, good, quarantine, written
from out_folder import ledger, manifest
from reference_rows import plain

PICKY = (
    "{% for m in messages %}{% if m.content == 'FORBIDDEN' %}{{ raise_exception('no') }}{% endif %}"
    "<{{ m.role }}>\n{{ '...' if 'SECRET' in m.content else m.content }}{{ eos_token }}\n{% endfor "
    "%}"
)
ODD = (
    "{% if 'ODD' in messages[-1].content %}odd: {% endif %}"
    "{% for m in messages %}<{{ m.role }}>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
)


def pair(number: int, chosen: str) -> bytes:
    prompt = {"role": "user", "content": f"Question {number}?"}
    replies = {
        name: [prompt, {"role": "assistant", "content": reply}]
        for name, reply in (("chosen", chosen), ("rejected", "No."))
    }
    return json.dumps({"prompt": f"Question {number}?", **replies}).encode()


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst"])
@pytest.mark.parametrize("reason", BAD)
def test_a_bad_row_is_set_aside_with_its_place_and_its_bytes(
    reason: str, ending: str, place: str, tmp_path: Path
) -> None:
    lines = [good(number) for number in range(6)]
    settings: dict[str, Any] = {"dedup.near": False}
    if reason in ("template_error", "mask_not_provable"):
        (tmp_path / "picky.jinja").write_text(PICKY)
        settings["template.name"] = str(tmp_path / "picky.jinja")
    check_one_bad_row(
        "prep", reason, BAD[reason], lines, place, tmp_path / f"rows.{ending}", settings
    )


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst"])
def test_a_pair_whose_prompt_is_no_prefix_is_set_aside_with_its_place_and_its_bytes(
    ending: str, place: str, tmp_path: Path
) -> None:
    (tmp_path / "odd.jinja").write_text(ODD)
    lines = [pair(number, "Yes.") for number in range(6)]
    settings: dict[str, Any] = {"template.name": str(tmp_path / "odd.jinja")}
    check_one_bad_row(
        "binarize",
        "prompt_not_prefix",
        pair(9, "ODD"),
        lines,
        place,
        tmp_path / f"rows.{ending}",
        settings,
    )


def check_one_bad_row(
    command: str,
    reason: str,
    bad: bytes,
    lines: list[bytes],
    place: str,
    path: Path,
    settings: dict[str, Any],
) -> None:
    at, out = {"first": 0, "middle": 3, "last": 6}[place], path.parent / "out"
    lines.insert(at, bad)
    run = commands.function(command)
    run(input=written(path, lines), tokenizer="sample", out=out, overrides=settings)
    rows = manifest(out)["rows"]
    assert (rows["read"], rows["written"], rows["quarantined"], rows["dropped"]) == (
        7,
        6,
        {reason: 1},
        {},
    )
    (told,) = quarantine(out)
    assert (told["row_id"], told["reason"], told["input"], told["line"]) == (
        at,
        reason,
        path.name,
        at + 1,
    )
    stream = plain(path)
    again = stream[int(told["offset"]) : int(told["offset"]) + int(told["length"])]  # type: ignore[call-overload]
    assert again == bad
    raw = bytes.fromhex(str(told["raw_hex"])) if "raw_hex" in told else str(told["raw"]).encode()
    assert raw == again[: 64 << 10] and ("raw_hex" in told) == (reason == "invalid_utf8")
    books = ledger(out)
    assert [line["row_id"] for line in books] == list(range(7))
    assert [line["outcome"] for line in books] == [
        "quarantined" if number == at else "written" for number in range(7)
    ]
    assert all(
        stream[line["offset"] : line["offset"] + line["length"]] == lines[line["row_id"]]
        for line in books
    )


@pytest.mark.parametrize(
    ("reason", "bad"),
    [
        ("invalid_row", SHAPELESS),
        ("invalid_json", BROKEN),
        ("too_deep", DEEP),
        ("too_many_messages", MANY),
    ],
    ids=["invalid_row", "invalid_json", "too_deep", "too_many_messages"],
)
def test_whatever_is_no_row_is_counted_by_what_it_is_and_never_guessed_at(
    reason: str, bad: list[bytes], tmp_path: Path
) -> None:
    path = written(tmp_path / "rows.jsonl", [good(0), *bad, good(1)])
    zephyr_fast.prep(input=path, tokenizer="sample", out=tmp_path / "out")
    told = [
        (line["reason"] or line["outcome"], line["detail"]) for line in ledger(tmp_path / "out")
    ]
    assert [word for word, _ in told] == ["written", *[reason] * len(bad), "written"], told
    assert all(detail for _, detail in told[1:-1])


def test_places_stay_true_behind_blank_lines_carriage_returns_and_a_byte_order_mark(
    tmp_path: Path,
) -> None:
    lines = [
        b"\xef\xbb\xbf" + good(0),
        b"",
        BAD["invalid_json"],
        b"  \t",
        good(1),
        BAD["invalid_row"],
    ]
    path = written(tmp_path / "rows.jsonl", lines, b"\r\n")
    zephyr_fast.prep(input=path, tokenizer="sample", out=tmp_path / "out")
    stream = plain(path)
    assert [(line["row_id"], line["outcome"]) for line in ledger(tmp_path / "out")] == [
        (0, "written"),
        (1, "quarantined"),
        (2, "written"),
        (3, "quarantined"),
    ]
    for told, (number, line) in zip(
        quarantine(tmp_path / "out"),
        [(3, BAD["invalid_json"]), (6, BAD["invalid_row"])],
        strict=True,
    ):
        assert told["line"] == number
        assert (
            stream[int(told["offset"]) : int(told["offset"]) + int(told["length"])].rstrip(b"\r")
            == line
        )  # type: ignore[call-overload]


def test_every_input_has_a_quarantine_of_its_own_and_its_own_sums(tmp_path: Path) -> None:
    inputs = [
        written(tmp_path / f"part-{number}.jsonl", [good(number), *[BAD["invalid_json"]] * number])
        for number in range(3)
    ]
    zephyr_fast.prep(input=inputs, tokenizer="sample", out=tmp_path / "out")
    assert [card["rows"] for card in manifest(tmp_path / "out")["inputs"]] == [1, 2, 3]
    assert [(line["row_id"], line["input"]) for line in quarantine(tmp_path / "out")] == [
        (2, "part-1.jsonl"),
        (4, "part-2.jsonl"),
        (5, "part-2.jsonl"),
    ]


def test_a_run_without_bad_rows_has_no_quarantine_file(tmp_path: Path) -> None:
    zephyr_fast.prep(
        input=written(tmp_path / "rows.jsonl", [good(0)]), tokenizer="sample", out=tmp_path / "out"
    )
    assert quarantine(tmp_path / "out") == []


def test_a_row_that_the_tokenizer_fails_on_is_set_aside(tmp_path: Path) -> None:
    folder = shutil.copytree(
        Path(zephyr_fast.__file__).parent / "sample" / "tokenizer", tmp_path / "tokenizer"
    )
    known = ["<s>", "</s>", "a", "<|", "|>", "user", "assistant", "Known"]
    words = {word: place for place, word in enumerate(known)}
    whole = Tokenizer(WordLevel(words, unk_token="[UNK]"))  # which the vocabulary does not have
    whole.pre_tokenizer = Whitespace()
    whole.add_special_tokens(["<s>", "</s>"])
    whole.save(str(folder / "tokenizer.json"))
    rows = [{"data": ["Known", "Known"]}, {"data": ["Known", "Unheard"]}]
    path = written(tmp_path / "rows.jsonl", [json.dumps(row).encode() for row in rows])
    zephyr_fast.prep(input=path, tokenizer=folder, out=tmp_path / "out")
    assert [line["reason"] for line in ledger(tmp_path / "out")] == [None, "tokenizer"]
