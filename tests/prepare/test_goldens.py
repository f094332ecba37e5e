"""Every byte of an out folder stays what it was: hashes of whole folders, taken once and kept in
fixtures/goldens.json.

A change that means to write other bytes renews them with `ZEPHYR_FAST_RENEW_GOLDENS=1 pytest
tests/prepare/test_goldens.py` and raises a rule's VERSION. The manifest's fingerprint and the
data card that quotes it are left out: they also change with the version of a library.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from real_data import DATA, MISSING

GOLDENS = Path(__file__).parents[1] / "fixtures" / "goldens.json"
MISTRAL = DATA / "tokenizers" / "mistral-7b-v0.1"

RUNS: dict[str, dict[str, Any]] = {
    "prep sample": {"recipe": "ultrachat", "input": "sample"},
    "prep sample 200k": {"recipe": "ultrachat-200k", "input": "sample"},
    "prep sample trl07": {"recipe": "ultrachat-200k-trl07", "input": "sample"},
    "binarize sample": {"recipe": "ultrafeedback", "input": "sample"},
    "binarize sample paper": {
        "recipe": "ultrafeedback",
        "input": "sample",
        "overrides": {"binarize.preset": "paper"},
    },
    "prep raw_real": {
        "recipe": "ultrachat",
        "input": DATA / "ultrachat/raw_real.jsonl.gz",
        "tokenizer": MISTRAL,
    },
    "binarize raw_scored": {
        "recipe": "ultrafeedback",
        "input": DATA / "ultrafeedback/raw_scored.jsonl.gz",
        "tokenizer": MISTRAL,
    },
}


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file, and of what the manifest counted."""
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "README.md")
    }
    told = json.loads((folder / "manifest.json").read_text())
    counted = {
        key: told[key]
        for key in ("rows", "phrases", "truecase", "dedup", "decontamination", "splits")
    }
    return found | {
        "manifest.json": hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()
    }


@pytest.mark.parametrize("threads", [1, 5])
@pytest.mark.parametrize("name", RUNS)
def test_a_folder_holds_the_bytes_that_it_always_held(
    name: str, threads: int, tmp_path: Path
) -> None:
    run = dict(RUNS[name])
    if run["input"] != "sample" and not MISTRAL.is_dir():
        pytest.skip(MISSING)
    verb = zephyr_fast.prep if name.startswith("prep") else zephyr_fast.binarize
    verb(run.pop("recipe"), out=tmp_path / "out", threads=threads, **run)
    found, goldens = digests(tmp_path / "out"), json.loads(GOLDENS.read_text())
    if os.environ.get("ZEPHYR_FAST_RENEW_GOLDENS"):
        GOLDENS.write_text(json.dumps(goldens | {name: found}, indent=2, sort_keys=True) + "\n")
    assert found == json.loads(GOLDENS.read_text())[name]
