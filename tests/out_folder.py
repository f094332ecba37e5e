"""Reads an out folder with pyarrow alone, into plain lists, and compares it with what a slow
twin says must be in it.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reference import Outcome
from reference_rows import Row


def manifest(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return read


def ledger(folder: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = pq.read_table(folder / "_ledger").to_pylist()
    return lines


def shard_rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return [
        row
        for path in sorted(folder.glob(f"{split}-*.arrow"))
        for row in pa.ipc.open_file(str(path)).read_all().to_pylist()
    ]


def text_rows(folder: Path, split: str) -> list[dict[str, Any]]:
    return [
        row
        for path in sorted((folder / "text").glob(f"{split}-*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


def documents(folder: Path, split: str) -> dict[int, dict[str, list[int]]]:
    """Packed windows taken apart: ids and labels by row_id. No row may stand in two windows."""
    found: dict[int, dict[str, list[int]]] = {}
    for window in shard_rows(folder, split):
        start = 0
        for row_id, length in zip(window["row_ids"], window["seq_lengths"], strict=True):
            assert row_id not in found
            found[row_id] = {
                name: window[column][start : start + length]
                for name, column in (("ids", "input_ids"), ("labels", "labels"))
            }
            start += length
        assert start == len(window["input_ids"]) == len(window["labels"])
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path within."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def plain(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample with lists in place of arrays."""
    return {
        name: value.tolist() if hasattr(value, "tolist") else value
        for name, value in sample.items()
    }


def assert_is_what_the_twin_says(folder: Path, rows: list[Row], outcomes: list[Outcome]) -> None:
    """Ledger, sums, shards and text of one run over one input, each row by row."""
    lines = ledger(folder)
    assert [line["row_id"] for line in lines] == list(range(len(rows)))
    for row, wanted, line in zip(rows, outcomes, lines, strict=True):
        told = {
            name: line[name]
            for name in (
                "outcome",
                "reason",
                "duplicate_of",
                "prompt_id",
                "split",
                "letters_changed",
                "tokens_truncated",
                "source_id",
            )
        }
        assert told == {name: getattr(wanted, name) for name in told}, (
            wanted.row_id,
            row.raw[:300] if isinstance(row.raw, bytes) else row.raw,
        )
        assert (line["offset"], line["length"]) == (row.offset, row.length)
    sums = manifest(folder)
    assert Counter(phrase for wanted in outcomes for phrase in wanted.phrases) == sums["phrases"]
    doubts = Counter(name for o in outcomes if o.outcome == "written" for name in o.doubts)
    assert sums["doubtful_pairs"] == doubts, (sums["doubtful_pairs"], dict(doubts))
    words = {word for wanted in outcomes for word in wanted.role_words}
    assert words == {
        (shape, word, role)
        for shape, entry in sums["role_words"].items()
        for word, role in entry["roles"].items()
    }
    assert sums["truecase"] == {
        "rows": sum(o.letters_changed > 0 for o in outcomes),
        "letters_changed": sum(o.letters_changed for o in outcomes),
    }
    for split in ("train", "test"):
        here = [wanted for wanted in outcomes if wanted.split == split]
        assert text_rows(folder, split) == [text for wanted in here for text in wanted.texts]
        if sums["kind"] == "sft":
            assert documents(folder, split) == {wanted.row_id: wanted.samples[0] for wanted in here}
        else:
            assert shard_rows(folder, split) == [
                {**sample, "row_id": wanted.row_id} for wanted in here for sample in wanted.samples
            ]
