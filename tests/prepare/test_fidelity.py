"""Real rows, the real Mistral tokenizer, and for every row the slow twin's word: text, ids,
labels, pairs, verdicts and sums.

Takes the small sets whole and every so-many-th row of the large ones; ZEPHYR_FAST_LONG=1 takes
all rows of all.
"""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
import xxhash

import zephyr_fast
from out_folder import assert_is_what_the_twin_says, documents, files, ledger, manifest, shard_rows
from reference import Walk, recipe
from reference_rows import Row, every, read
from reference_tokens import Tokens
from zephyr_fast import _core

# Near duplicates are left in: the twin compares every row with every other, which only the packaged
# rows are few enough for.
SFT = {"dedup.near": False, "shards.test_fraction": 0.05}


@pytest.fixture(scope="module")
def mistral(real: Path) -> Path:
    return real / "tokenizers" / "zephyr-7b-beta-composed"


@pytest.fixture(scope="module")
def tokens(mistral: Path) -> Tokens:
    return Tokens(mistral)


def assert_sums_hold(out: Path) -> None:
    """No row vanished, in all and by input; every file and every batch is the one that the
    manifest describes.
    """
    told, lines, found = manifest(out), ledger(out), files(out)
    rows = told["rows"]
    gone = sum(
        count
        for outcome in ("dropped", "duplicates", "quarantined")
        for count in rows[outcome].values()
    )
    assert rows["read"] == rows["written"] + gone == len(lines)
    for number, card in enumerate(told["inputs"]):
        assert card["rows"] == sum(line["input"] == number for line in lines)
    cards = list(told["files"])
    for name, split in told["splits"].items():
        here = [line for line in lines if line["split"] == name]
        assert split["rows"] == len(here)
        assert (
            split["tokens"]
            == sum(line["tokens"] for line in here)
            == sum(shard["tokens"] for shard in split["shards"])
        )
        assert split["label_tokens"] == sum(line["label_tokens"] for line in here)
        assert split["tokens_truncated"] == sum(line["tokens_truncated"] for line in here)
        assert (
            split["examples"]
            == sum(shard["examples"] for shard in split["shards"])
            == len(shard_rows(out, name))
        )
        cards += [*split["shards"], *split["text"]]
        for shard in split["shards"]:
            for batch in shard["batches"]:
                message = found[shard["file"]][batch["offset"] : batch["offset"] + batch["bytes"]]
                assert xxhash.xxh3_64(message).hexdigest() == batch["xxh3"]
    assert {card["file"] for card in cards} == set(found) - {"manifest.json"}
    for card in cards:
        assert (card["bytes"], card["sha256"]) == (
            len(found[card["file"]]),
            hashlib.sha256(found[card["file"]]).hexdigest(),
        )


@pytest.mark.parametrize(
    ("name", "step", "settings"),
    [
        ("raw_real.jsonl.gz", 1, {}),
        ("200k_real.jsonl.gz", 1, {"truecase.enabled": False, "pack.seq_len": 512}),
        ("raw_mix_open.jsonl.zst", 20, {}),
        ("raw_mix_nc.jsonl.zst", 20, {"tokenize.control_tokens": "allow"}),
    ],
)
def test_dialogues_have_the_text_ids_and_labels_that_transformers_gives(
    name: str,
    step: int,
    settings: dict[str, Any],
    real: Path,
    mistral: Path,
    tokens: Tokens,
    tmp_path: Path,
) -> None:
    path = every(step, real / "ultrachat" / name, tmp_path)
    zephyr_fast.prep(
        input=path, tokenizer=mistral, out=tmp_path / "out", overrides={**SFT, **settings}
    )
    rows = read(path)
    assert_is_what_the_twin_says(
        tmp_path / "out",
        rows,
        Walk("prep", recipe("ultrachat", {**SFT, **settings}), tokens).outcomes(rows),
    )
    assert_sums_hold(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "step", "settings"),
    [
        ("binarized_real.jsonl.gz", 1, {"binarize.max_length": 512}),
        ("pairs_noscore.jsonl.gz", 2, {}),
        ("raw_scored.jsonl.gz", 1, {"binarize.strategy": "all-lower", "binarize.preset": "paper"}),
        ("raw_alpacaeval_weighted_1k.parquet", 1, {"binarize.max_length": 400}),
    ],
)
def test_pairs_have_the_text_and_ids_that_transformers_gives(
    name: str,
    step: int,
    settings: dict[str, Any],
    real: Path,
    mistral: Path,
    tokens: Tokens,
    tmp_path: Path,
) -> None:
    path = every(step, real / "ultrafeedback" / name, tmp_path)
    zephyr_fast.binarize(input=path, tokenizer=mistral, out=tmp_path / "out", overrides=settings)
    rows = read(path)
    assert_is_what_the_twin_says(
        tmp_path / "out",
        rows,
        Walk("binarize", recipe("ultrafeedback", settings), tokens).outcomes(rows),
    )
    assert_sums_hold(tmp_path / "out")


def test_parquet_and_json_lines_give_the_same_ids(
    real: Path, mistral: Path, tmp_path: Path
) -> None:
    for ending in ("jsonl.gz", "parquet"):
        zephyr_fast.prep(
            input=real / "ultrachat" / f"200k_real.{ending}",
            tokenizer=mistral,
            out=tmp_path / f"sft-{ending}",
        )
        pairs = real / "ultrafeedback" / f"binarized_real.{ending}"
        zephyr_fast.binarize(input=pairs, tokenizer=mistral, out=tmp_path / f"dpo-{ending}")
    for split in ("train", "test"):
        assert documents(tmp_path / "sft-jsonl.gz", split) == documents(
            tmp_path / "sft-parquet", split
        )
        assert shard_rows(tmp_path / "dpo-jsonl.gz", split) == shard_rows(
            tmp_path / "dpo-parquet", split
        )


def test_what_is_trained_of_a_real_dialogue_decodes_to_the_assistants_words(
    real: Path, mistral: Path, tmp_path: Path
) -> None:
    path = real / "ultrachat" / "raw_real.jsonl.gz"
    zephyr_fast.prep(
        input=path,
        tokenizer=mistral,
        out=tmp_path / "out",
        overrides={"pack.seq_len": 1 << 15, "truecase.enabled": False},
    )
    found, rows, tokens = documents(tmp_path / "out", "train"), read(path), Tokens(mistral)
    for row_id, document in found.items():
        data = json.loads(rows[row_id].raw)["data"]
        said = "".join(text + tokens.eos for text in data[1::2])
        trained = [label for label in document["labels"] if label != -100]
        # The byte-level decoder puts back what the normaliser took: one leading space.
        assert tokens.inner.decode(trained, skip_special_tokens=False).replace(
            " ", ""
        ) == said.replace(" ", "")


def test_the_rendered_text_of_a_row_is_that_of_transformers(
    real: Path, mistral: Path, tokens: Tokens
) -> None:
    rows = read(real / "ultrachat" / "raw_real.jsonl.gz")
    for row in random.Random(7).sample(rows, 12):
        story = json.loads(_core.explain("prep", ("", "none.toml", []), mistral, row.raw))
        assert story["text"] == tokens.render(_dialogue(row))


def _dialogue(row: Row) -> list[dict[str, str]]:
    assert isinstance(row.raw, bytes)
    data = json.loads(row.raw)["data"]
    return [
        {"role": ("user", "assistant")[place % 2], "content": text}
        for place, text in enumerate(data)
    ]
