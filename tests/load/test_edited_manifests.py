"""A manifest that was edited and sealed again does not pass for the one of the shards beside it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from zephyr_fast import InputError, IntegrityError, Shards
from zephyr_fast.dataset.manifest import seal


def test_a_stale_shard_of_another_run_of_the_same_size_is_found(
    paired: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(paired, tmp_path / "copy"))
    zephyr_fast.binarize(
        input="sample", out=tmp_path / "other", overrides={"shards.test_fraction": 0.3, "seed": 43}
    )
    stale = (tmp_path / "other" / "train-00000.arrow").read_bytes()
    told = json.loads((copy / "manifest.json").read_text())
    told["splits"]["train"]["shards"][0]["bytes"] = len(stale)
    (copy / "manifest.json").write_text(seal(told))
    (copy / "train-00000.arrow").write_bytes(stale)
    with pytest.raises(IntegrityError, match=r"train-00000\.arrow"):
        list(Shards(copy, "train"))


def test_an_edited_manifest_is_found(copy: Path) -> None:
    whole = json.loads((copy / "manifest.json").read_text())

    def edited(change: Any) -> str:
        told = json.loads(json.dumps(whole))
        change(told, told["splits"]["train"], told["splits"]["train"]["shards"][0])
        return seal(told)

    edits = {
        "no JSON": seal(whole)[:-40],
        "no seal": json.dumps(whole),
        "a word of no meaning": seal(whole).replace('"engine": "zephyr', '"engine": "Zephyr'),
        "a row more": edited(
            lambda told, split, shard: shard["batches"][0].update(
                examples=shard["batches"][0]["examples"] + 1
            )
        ),
        "another place": edited(
            lambda told, split, shard: shard["batches"][0].update(
                offset=shard["batches"][0]["offset"] + 8
            )
        ),
        "another hash": edited(
            lambda told, split, shard: shard["batches"][0].update(xxh3="0" * 16)
        ),
        "a shard less": edited(lambda told, split, shard: split["shards"].pop()),
        "a batch twice": edited(
            lambda told, split, shard: shard["batches"].append(shard["batches"][0])
        ),
        "a shard elsewhere": edited(
            lambda told, split, shard: shard.update(file="../copy/train-00000.arrow")
        ),
        "a number as text": edited(lambda told, split, shard: shard.update(examples="7")),
        "more rows than its batches": edited(
            lambda told, split, shard: shard.update(examples=2**63 - 1)
        ),
        "no splits": edited(lambda told, split, shard: told.pop("splits")),
    }
    for what, text in edits.items():
        (copy / "manifest.json").write_text(text)
        with pytest.raises(IntegrityError):
            list(Shards(copy, "train"))
            pytest.fail(what)
    (copy / "manifest.json").write_text(edited(lambda told, split, shard: told.update(schema=4)))
    with pytest.raises(InputError, match="update zephyr-fast"):
        Shards(copy, "train")


def test_a_row_that_the_manifest_moves_to_the_next_batch_is_found(
    packed: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(packed, tmp_path / "copy"))
    told = json.loads((copy / "manifest.json").read_text())
    first, second = told["splits"]["train"]["shards"][0]["batches"][:2]
    first["examples"], second["examples"] = first["examples"] + 1, second["examples"] - 1
    (copy / "manifest.json").write_text(seal(told))
    with pytest.raises(IntegrityError, match=r"train-00000\.arrow.* rows, found "):
        Shards(copy, "train")[0]


def test_a_batch_with_more_rows_than_bytes_is_refused_before_room_is_made_for_them(
    packed: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(packed, tmp_path / "copy"))
    told = json.loads((copy / "manifest.json").read_text())
    split = told["splits"]["train"]
    more = 2**62 - split["shards"][0]["batches"][0]["examples"]
    for card in (split["shards"][0]["batches"][0], split["shards"][0]):
        card["examples"] += more
    split["examples"] += more
    (copy / "manifest.json").write_text(seal(told))
    with pytest.raises(
        IntegrityError,
        match=r"batch 0 of `train-00000\.arrow` has \d+ bytes and 4611686018427387904 rows",
    ):
        Shards(copy, "train")
