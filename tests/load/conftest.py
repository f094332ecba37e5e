"""Data sets of both products, dialogues packed and pairs, and copies of them to be damaged."""

import json
import random
import shutil
from pathlib import Path

import pytest

import zephyr_fast


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dialogues enough for several shards of the smallest size there is."""
    chance, folder = random.Random(5), tmp_path_factory.mktemp("many")
    words = [chr(97 + place % 26) * (1 + place % 7) for place in range(200)]
    rows = [
        {"data": [f"Question {row}?", " ".join(chance.choices(words, k=300))]}
        for row in range(2_400)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "dedup.near": False,
        "pack.seq_len": 1024,
        "shards.shard_bytes_max": 1 << 20,
        "shards.test_fraction": 0.3,
    }
    zephyr_fast.prep(
        input=folder / "rows.jsonl", tokenizer="sample", out=folder / "out", overrides=settings
    )
    assert len(list((folder / "out").glob("train-*.arrow"))) >= 3
    return folder / "out"


@pytest.fixture(scope="session")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pairs") / "out"
    zephyr_fast.binarize(input="sample", out=out, overrides={"shards.test_fraction": 0.3})
    return out


@pytest.fixture(params=["packed", "paired"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The data set, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))
