"""Nothing vanishes: every line of every input is in the ledger, and each place that the
quarantine names holds just the bytes it keeps.

Against raw files of plain lines, gzip and zstd, with every kind of bad row at every place; the
matrix row by row is `test_quarantine.py`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from bad_rows import BAD, BROKEN, DEEP, MANY, SHAPELESS, good, quarantine, written
from faulty import Faulty
from out_folder import ledger, manifest
from reference_rows import plain

Prep = Callable[[Path, Path], None]


def check(folder: Path, prep: Prep) -> None:
    """One run over three inputs; places and sums against the files themselves."""
    bad = [
        *(
            row
            for reason, row in BAD.items()
            if reason not in ("template_error", "mask_not_provable")
        ),
        *BROKEN,
        *DEEP,
        *MANY,
        *SHAPELESS,
    ]
    inputs = {}
    for number, ending in enumerate(("jsonl", "jsonl.gz", "jsonl.zst")):
        lines = [row for place, row in enumerate(bad) for row in (good(100 * number + place), row)]
        lines = lines if number != 1 else lines[::-1]
        inputs[f"part-{number}.{ending}"] = (
            written(folder / f"part-{number}.{ending}", lines),
            lines,
        )
    prep(folder, folder / "out")
    told, books = manifest(folder / "out"), ledger(folder / "out")
    assert [card["rows"] for card in told["inputs"]] == [len(lines) for _, lines in inputs.values()]
    assert told["rows"]["read"] == len(books) == sum(len(lines) for _, lines in inputs.values())
    assert told["rows"]["written"] == len(bad) * 3
    streams = {name: plain(path) for name, (path, _) in inputs.items()}
    names = [card["name"] for card in told["inputs"]]
    rows = {name: iter(lines) for name, (_, lines) in inputs.items()}
    for line in books:
        name = names[line["input"]]
        assert streams[name][line["offset"] : line["offset"] + line["length"]] == next(rows[name])
    aside = quarantine(folder / "out")
    assert [row["row_id"] for row in aside] == [
        line["row_id"] for line in books if line["outcome"] == "quarantined"
    ]
    for row in aside:
        place: Any = row
        again = streams[place["input"]][place["offset"] : place["offset"] + place["length"]]
        kept = bytes.fromhex(place["raw_hex"]) if "raw_hex" in place else place["raw"].encode()
        assert kept == again[: 64 << 10]
        assert streams[place["input"]][: place["offset"]].count(b"\n") + 1 == place["line"]


def options(folder: Path, out: Path) -> dict[str, Any]:
    settings = {"dedup.near": False, "dedup.exact": False, "source.shape": "alternating"}
    return {
        "input": str(folder / "part-*"),
        "tokenizer": "sample",
        "out": str(out),
        "overrides": settings,
        "max_bad_rows": 1_000,
    }


def test_every_line_is_in_the_books_and_every_place_holds_its_bytes(tmp_path: Path) -> None:
    check(tmp_path, lambda folder, out: zephyr_fast.prep(**options(folder, out)) and None)


def test_the_check_fails_where_a_place_is_one_byte_off(faulty: Faulty, tmp_path: Path) -> None:
    def prep(folder: Path, out: Path) -> None:
        assert faulty.run("prep", options(folder, out), SABOTAGE="offset").code == 0

    with pytest.raises(AssertionError):
        check(tmp_path, prep)


def test_verify_without_digests_would_pass_damage(faulty: Faulty, tmp_path: Path) -> None:
    zephyr_fast.prep(input="sample", out=tmp_path / "out")
    path = tmp_path / "out" / "README.md"
    path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(zephyr_fast.IntegrityError):
        zephyr_fast.verify(tmp_path / "out")
    assert faulty.run("verify", {"folder": str(tmp_path / "out")}, SABOTAGE="no_digests").code == 0


@pytest.mark.parametrize(
    ("verb", "row"),
    [
        ("prep", {"messages": [["user", "hi"], ["assistant", "ho"]]}),
        (
            "binarize",
            {
                "chosen": [["user", "hi"], ["assistant", "ho"]],
                "rejected": [["user", "hi"], ["assistant", "no"]],
            },
        ),
        ("binarize", {"instruction": "hi", "completions": [["model", "ho", None, 5.0, None]]}),
    ],
)
def test_fields_written_as_an_array_are_not_guessed_at(
    verb: str, row: dict[str, Any], tmp_path: Path
) -> None:
    sound = {"prompt": "Which tree?", "messages": [], "chosen": [], "rejected": []}
    for side, answer in (("messages", "Oak."), ("chosen", "Oak."), ("rejected", "Elm.")):
        sound[side] = [{"role": "user", "content": "Which tree?"}]
        sound[side] += [{"role": "assistant", "content": answer}]
    if "completions" in row:
        answers = [
            {"model": name, "response": f"{name} tree.", "overall_score": score}
            for name, score in (("Oak", 8.0), ("Elm", 3.0))
        ]
        sound = {"instruction": "Which tree?", "completions": answers}
    path = written(tmp_path / "rows.jsonl", [json.dumps(one).encode() for one in (sound, row)])
    getattr(zephyr_fast, verb)(input=path, tokenizer="sample", out=tmp_path / "out")
    (told,) = quarantine(tmp_path / "out")
    assert told["reason"] == "invalid_row" and "expected an object" in str(told["detail"])
