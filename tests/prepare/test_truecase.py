"""Truecasing on published rows: `h4` changes none of them, and `careful` restores their capitals
where they are taken away. `scripts/quality.py` writes the figures of docs/quality.md.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from real_data import DATA, needs_real_data
from zephyr_fast import prep, scan_ledger

PUBLISHED = DATA / "ultrachat" / "raw_real.jsonl.gz"


@needs_real_data
@pytest.mark.parametrize("source", ["raw_real.jsonl.gz", "200k_real.parquet"])
def test_published_rows_pass_the_rules_of_their_recipe_unchanged(
    source: str, tmp_path: Path
) -> None:
    manifest = prep(
        "ultrachat-200k",
        input=DATA / "ultrachat" / source,
        out=tmp_path / "out",
        overrides={"shards.tokens": False},
    )
    assert manifest.truecase.letters_changed == 0
    assert manifest.rows.written == manifest.rows.read == 523


@needs_real_data
def test_careful_changes_no_published_row(tmp_path: Path) -> None:
    manifest = prep(
        "ultrachat",
        input=PUBLISHED,
        out=tmp_path / "out",
        overrides={"shards.tokens": False, "dedup.near": False},
    )
    assert manifest.truecase.rows <= 0.005 * manifest.rows.read


@needs_real_data
def test_careful_restores_most_capitals_of_lowercased_rows(tmp_path: Path) -> None:
    with gzip.open(PUBLISHED, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    # The first turn of these rows is prose of the user, and it has at least one sentence.
    rows = [row for row in rows if row["data"][0].lower() != row["data"][0]]
    path = tmp_path / "lower.jsonl"
    lower = [{**row, "data": [turn.lower() for turn in row["data"]]} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in lower), encoding="utf-8")
    overrides: dict[str, Any] = {"shards.tokens": False, "dedup.near": False}
    prep("ultrachat", input=path, out=tmp_path / "out", overrides=overrides)
    changed = scan_ledger(tmp_path / "out").select((pl.col("letters_changed") > 0).mean()).collect()
    assert changed.item() > 0.97
