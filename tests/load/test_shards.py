"""The written promise: anyone can read the shards, all readers see the same rows, and no damaged
byte gets past ours.
"""

import os
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pytest
import xxhash

from out_folder import documents, files, manifest, plain, shard_rows, text_rows
from zephyr_fast import InputError, IntegrityError, Shards, open_shards

FLIPS = int(os.environ.get("ZEPHYR_FAST_FLIPS", "2500"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_reader_sees_the_same_rows(folder: Path, split: str, tmp_path: Path) -> None:
    from datasets import load_dataset

    wanted = shard_rows(folder, split)
    assert len(wanted) == manifest(folder)["splits"][split]["examples"] > 0
    assert pl.scan_ipc(str(folder / f"{split}-*.arrow")).collect().to_dicts() == wanted
    hub = load_dataset(str(folder), split=split, cache_dir=str(tmp_path / "cache"))
    assert (
        hub.to_list()
        == load_dataset(
            str(folder), "tokens", split=split, cache_dir=str(tmp_path / "cache")
        ).to_list()
        == wanted
    )
    assert [plain(sample) for sample in Shards(folder, split)] == wanted
    ours = open_shards(folder, split)
    trained = [
        name
        for name in (
            "input_ids",
            "labels",
            "seq_lengths",
            "prompt_ids",
            "chosen_ids",
            "rejected_ids",
        )
        if name in wanted[0]
    ]
    assert len(ours) == len(wanted)
    assert all(
        {name: list(ours[row][name]) for name in trained}
        == {name: wanted[row][name] for name in trained}
        for row in range(len(ours))
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_text_beside_the_tokens_loads_by_its_folder(
    folder: Path, split: str, tmp_path: Path
) -> None:
    from datasets import load_dataset

    wanted = text_rows(folder, split)
    assert len(wanted) == manifest(folder)["splits"][split]["text"][0]["rows"] > 0
    assert (
        load_dataset(
            str(folder), data_dir="text", split=split, cache_dir=str(tmp_path / "cache")
        ).to_list()
        == wanted
    )
    assert (
        pl.scan_parquet(str(folder / "text" / f"{split}-*.parquet")).collect().to_dicts() == wanted
    )


def test_every_dialogue_is_whole_in_one_window_and_none_is_too_long(packed: Path) -> None:
    found = [row_id for split in ("train", "test") for row_id in documents(packed, split)]
    assert sorted(found) == list(range(2_400))
    assert all(
        len(window["input_ids"]) <= 1024
        for split in ("train", "test")
        for window in shard_rows(packed, split)
    )


def test_no_shard_is_larger_than_was_asked(packed: Path) -> None:
    for split in manifest(packed)["splits"].values():
        assert all(shard["bytes"] <= 1 << 20 for shard in split["shards"])
        assert all(shard["bytes"] >= 1 << 19 for shard in split["shards"][:-1])


def test_a_flipped_bit_in_a_batch_is_found_before_one_of_its_rows_is_given_out(copy: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    shards = [shard for split in manifest(copy)["splits"].values() for shard in split["shards"]]
    wanted = {split: len(shard_rows(copy, split)) for split in ("train", "test")}
    for _ in range(FLIPS):
        shard = chance.choice(shards)
        place = chance.randrange(len(shard["batches"]))
        batch = shard["batches"][place]
        offset, bit = (
            chance.randrange(batch["offset"], batch["offset"] + batch["bytes"]),
            1 << chance.randrange(8),
        )
        _flip(copy / shard["file"], offset, bit)
        split = shard["file"].split("-")[0]
        ahead = [
            b["examples"]
            for s in shards
            for b in s["batches"]
            if s["file"] < shard["file"] and s["file"].startswith(split)
        ]
        before = sum(ahead) + sum(b["examples"] for b in shard["batches"][:place])
        reader = Shards(copy, split)
        with pytest.raises(IntegrityError) as error:
            reader[chance.randrange(before, before + batch["examples"])]
        told = str(error.value)
        assert (
            shard["file"] in told
            and f"batch {place} " in told
            and f"offset {batch['offset']} " in told
        )
        if before:
            assert len(reader[before - 1]) == len(reader[0])  # the batches beside it stay readable
        _flip(copy / shard["file"], offset, bit)
    assert {split: len(list(Shards(copy, split))) for split in wanted} == wanted


def test_without_the_check_a_flipped_bit_would_be_trained_on(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sabotage: what finds it above is the hash. Other checks find damage in offsets and in
    trained ids, none finds it in a question.
    """
    shard = manifest(copy)["splits"]["train"]["shards"][0]
    batch, rows = (
        shard["batches"][0],
        [{name: np.array(value) for name, value in row.items()} for row in Shards(copy, "train")],
    )
    monkeypatch.setattr(
        xxhash, "xxh3_64", lambda _message: SimpleNamespace(hexdigest=lambda: batch["xxh3"])
    )
    assert any(
        _is_read_wrong(copy, shard["file"], batch["offset"] + offset, rows)
        for offset in range(0, batch["bytes"], 64)
    )


def _is_read_wrong(
    copy: Path, name: str, offset: int, rows: list[dict[str, npt.NDArray[Any]]]
) -> bool:
    """Whether the first batch, with one bit flipped, is read without an error as other rows. The
    bit is put back.
    """
    _flip(copy / name, offset, 1)
    try:
        reader = Shards(copy, "train")
        first = reader.manifest.split("train").shards[0].batches[0]
        damaged = [reader[row] for row in range(first.examples)]
        return any(
            not np.array_equal(row[name], was[name])
            for row, was in zip(damaged, rows, strict=False)
            for name in row
        )
    except IntegrityError:
        return False
    finally:
        _flip(copy / name, offset, 1)


def test_bytes_outside_the_batches_are_never_parsed(copy: Path) -> None:
    """Schema message and footer are not trusted, so damage there harms no row."""
    shard = manifest(copy)["splits"]["train"]["shards"][0]
    wanted = shard_rows(copy, "train")
    inside = [
        range(batch["offset"], batch["offset"] + batch["bytes"]) for batch in shard["batches"]
    ]
    for offset in range(shard["bytes"]):
        if not any(offset in part for part in inside):
            _flip(copy / shard["file"], offset, 0xFF)
    assert [plain(sample) for sample in Shards(copy, "train")] == wanted


@pytest.mark.parametrize("cut", [1, 8, 100])
def test_a_shard_cut_short_or_grown_is_found_at_once(copy: Path, cut: int) -> None:
    path = copy / "train-00000.arrow"
    whole = path.read_bytes()
    for damaged in (whole[:-cut], whole + b"\0" * cut, b""):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=r"train-00000\.arrow"):
            Shards(copy, "train")
    path.unlink()
    with pytest.raises(IntegrityError, match=r"train-00000\.arrow"):
        Shards(copy, "train")


def test_two_shards_that_changed_places_are_found(packed: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(packed, tmp_path / "copy"))
    first, second = (copy / f"train-0000{number}.arrow" for number in (0, 1))
    first.rename(copy / "aside")
    second.rename(first)
    (copy / "aside").rename(second)
    with pytest.raises(IntegrityError, match=r"train-0000\d\.arrow"):
        list(Shards(copy, "train"))


def test_a_folder_without_manifest_or_split_is_named(copy: Path) -> None:
    with pytest.raises(InputError, match="no split `dev`; available: train"):
        Shards(copy, "dev")
    (copy / "manifest.json").unlink()
    with pytest.raises(InputError, match="is not a dataset"):
        Shards(copy, "train")


def test_a_read_only_folder_is_read_and_nothing_is_written_to_it(copy: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write to read-only folders")
    before = files(copy)
    for path in (*copy.rglob("*"), copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert len(list(Shards(copy, "train"))) == len(shard_rows(copy, "train"))
        assert len(open_shards(copy, "train")) > 0
        assert files(copy) == before
    finally:
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755)


def test_reading_writes_nothing_into_the_folder(copy: Path) -> None:
    before = files(copy)
    assert len(list(Shards(copy, "train"))) > 0
    assert len(open_shards(copy, "test")[0]) > 0
    assert files(copy) == before


def test_the_shards_are_arrow_files_with_the_promised_columns(folder: Path) -> None:
    lists, longs = pa.list_(pa.int32()), pa.list_(pa.int64())
    packed = {"input_ids": lists, "labels": lists, "seq_lengths": lists, "row_ids": longs}
    ids, scores = ("prompt_ids", "chosen_ids", "rejected_ids"), ("score_chosen", "score_rejected")
    pairs = {
        **dict.fromkeys(ids, lists),
        **dict.fromkeys(scores, pa.float64()),
        "row_id": pa.int64(),
        "pair": pa.int32(),
    }
    wanted = packed if manifest(folder)["kind"] == "sft" else pairs
    for path in folder.glob("*.arrow"):
        schema = pa.ipc.open_file(str(path)).schema
        assert {name: schema.field(name).type for name in schema.names} == wanted


def _flip(path: Path, offset: int, bits: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))
