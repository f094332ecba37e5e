"""Forty rows that any container can hold, and what a run makes of them."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

import zephyr_fast
from out_folder import documents, ledger

TEXTS = ['Say "hi" [1, {2}]', "two\nlines \\ \t é🙂", "], }", "plain words, of a kind"]
ROWS: list[dict[str, Any]] = [
    {
        "prompt_id": f"{number:04}",
        "messages": [
            {"role": "user", "content": f"{TEXTS[number % 4]} number {number}?"},
            {"role": "assistant", "content": f"{TEXTS[(number + 1) % 4]} is {number * 7}."},
        ],
    }
    for number in range(40)
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
ARRAY = json.dumps(ROWS).encode()
OPTIONS: dict[str, Any] = {
    "truecase": {"enabled": False},
    "dedup": {"near": False},
    "filter": [],
    "shards": {"test_fraction": 0.0},
}
# Where a row was found, which differs between containers.
PLACES = {"input", "input_name", "file", "line", "offset", "length"}


def table() -> pa.Table:
    return pa.Table.from_pylist(ROWS)


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


def built(given: object, out: Path) -> tuple[object, object]:
    """The tokens and labels of each row, and the ledger without the places of rows."""
    zephyr_fast.prep(input=given, out=out, tokenizer="sample", overrides=OPTIONS)  # type: ignore[arg-type]
    lines = [
        {name: value for name, value in line.items() if name not in PLACES} for line in ledger(out)
    ]
    return documents(out, "train"), lines
