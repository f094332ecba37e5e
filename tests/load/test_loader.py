"""The loader with torch's real worker processes, real shards and real ranks.
`ZEPHYR_FAST_LONG=1` runs ten times as many random cases.
"""

import json
import os
import random
from itertools import islice
from pathlib import Path
from traceback import clear_frames
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import prepare_data_loader

import slow_order
from numbered import collate, numbered
from ranks import run_ranks
from reading_rank import compare_facts, loader_of, raises, read_steps
from shards_by_hand import pair, tokenizer, write
from zephyr_fast import ConfigError, IntegrityError, open_shards
from zephyr_fast.dataset.manifest import seal
from zephyr_fast.load import rank_check
from zephyr_fast.load.gather import PlainCollator
from zephyr_fast.load.index import IndexRows
from zephyr_fast.load.loader import Part, Workers
from zephyr_fast.load.mixture import Mixture
from zephyr_fast.load.rank_check import check_ranks, compare
from zephyr_fast.load.shards import Shards

LONG = bool(os.environ.get("ZEPHYR_FAST_LONG"))
SEED = int(os.environ.get("ZEPHYR_FAST_SEED", random.randrange(10**6)))
ROWS = 23


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered(tmp_path_factory.mktemp("shards") / "shards", ROWS)


def wanted(steps: int, batch: int, tail: str = "carry") -> list[list[int]]:
    return list(islice(slow_order.steps(ROWS, 3, batch, tail), steps))


@pytest.mark.parametrize(
    ("count", "context"), [(0, None), (1, "fork"), (2, "spawn"), (3, "fork"), (4, "fork")]
)
def test_workers_of_every_kind_deliver_the_same_rows(
    folder: Path, count: int, context: Any
) -> None:
    loader = loader_of(Shards(folder, "train"), Part(0, 1, 4), Workers(count, context))
    assert list(loader) == wanted(len(loader), 4)
    assert len(loader) == -(-2 * ROWS // 4)


def test_real_ranks_killed_any_number_of_times_read_the_uninterrupted_stream(
    folder: Path, tmp_path: Path
) -> None:
    """Bare torch processes: 1 to 4 ranks with 0 to 4 workers each, one of them killed three
    times, with other machines after each.
    """
    chance = random.Random(SEED)
    for case in range(500 if LONG else 50):
        out = tmp_path / str(case)
        out.mkdir()
        batch, tail = chance.choice([4, 6, 8]), chance.choice(["carry", "carry", "pad", "drop"])
        for attempt in range(4):
            world = chance.choice([ranks for ranks in range(1, 5) if batch % ranks == 0])
            micro = chance.choice(
                [number for number in range(1, 4) if batch // world % number == 0]
            )
            layout = (batch // world // micro, micro, chance.choice([0, 0, 0, 1, 2, 3, 4]))
            kill = (chance.randrange(world), chance.randrange(5)) if attempt < 3 else (-1, -1)
            codes = run_ranks(read_steps, world, str(folder), str(out), layout, tail, kill)
            assert codes == [0] * world or kill[0] >= 0
        trained = json.loads((out / "checkpoint.json").read_text())["read"]
        steps = {
            "carry": -(-2 * ROWS // batch),
            "pad": 2 * -(-ROWS // batch),
            "drop": 2 * (ROWS // batch),
        }[tail]
        assert trained == wanted(steps, batch, tail), f"ZEPHYR_FAST_SEED={SEED}, case {case}"


def test_padding_has_no_weight(folder: Path) -> None:
    loader = loader_of(Shards(folder, "train"), Part(0, 1, 4), Workers(), remainder="pad")
    assert list(loader) == wanted(2 * -(-ROWS // 4), 4, "pad")


def test_pairs_cannot_be_padded(tmp_path: Path) -> None:
    pairs = [pair("Hi", "Yes.", f"No {number}.", number, tokenizer()) for number in range(3)]
    loader = loader_of(
        Shards(write(tmp_path / "prefs", "preference", {"train": pairs}, 64), "train"),
        Part(0, 1, 2),
        Workers(),
        remainder="pad",
    )
    loader.collate = list
    with pytest.raises(ConfigError, match="use `carry` or `drop`"):
        list(loader)


def test_a_mixture_reads_both_folders_by_weight_and_each_row_of_a_folder_before_any_again(
    folder: Path, tmp_path: Path
) -> None:
    rows = Mixture([folder, numbered(tmp_path / "other", 10, first=1000)], "train", [3, 1])
    read = [
        row
        for batch in loader_of(rows, Part(0, 1, 4), Workers(2, "fork"), epochs=3)
        for row in batch
    ][: 3 * len(rows)]
    one, other = [row for row in read if row < 1000], [row - 1000 for row in read if row >= 1000]
    assert abs(len(other) - len(read) / 4) <= 1
    assert sorted(one[:ROWS]) == list(range(ROWS)) and sorted(other[:10]) == list(range(10))


def test_a_mixture_without_weights_reads_every_row_once_an_epoch(
    folder: Path, tmp_path: Path
) -> None:
    rows = Mixture([folder, numbered(tmp_path / "other", 10, first=1000)], "train")
    read = [row for batch in loader_of(rows, Part(0, 1, 3), Workers(), epochs=1) for row in batch]
    assert sorted(read) == [*range(ROWS), *range(1000, 1010)]
    assert rows.identity != Mixture([folder], "train").identity


def test_folders_of_another_tokenizer_or_kind_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    pairs = [pair("Hi", "Yes.", "No.", 0, tokenizer())]
    with pytest.raises(ConfigError, match="a different kind"):
        Mixture([folder, write(tmp_path / "prefs", "preference", {"train": pairs}, 64)], "train")
    other = numbered(tmp_path / "other", 3)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["tokenizer"]["sha256"] = "ab"
    (other / "manifest.json").write_text(seal(manifest))
    with pytest.raises(ConfigError, match="a different tokenizer"):
        Mixture([folder, other], "train")


def test_a_damaged_batch_is_found_in_a_worker_before_a_row_of_it_is_used(tmp_path: Path) -> None:
    folder = numbered(tmp_path / "shards", ROWS)
    shards = Shards(folder, "train")
    card = shards.manifest.split("train").shards[0]
    with (folder / card.file).open("r+b") as file:
        file.seek(card.batches[0].offset + card.batches[0].bytes - 20)
        file.write(b"\xff")
    message = ""
    try:
        list(loader_of(shards, Part(0, 1, 4), Workers(2, "fork")))
    except IntegrityError as error:
        message = str(error)
        # Else torch waits 5 s for each worker once the garbage collector comes round.
        clear_frames(error.__traceback__)
    assert "is damaged: batch 0" in message


def test_samples_have_the_columns_that_were_added_to_the_index(folder: Path) -> None:
    dataset = open_shards(folder)
    form = dataset.format
    dataset = dataset.add_column("ref_chosen_logps", np.arange(ROWS, dtype=np.float32))
    dataset = dataset.with_format(
        form["type"], columns=form["columns"], output_all_columns=True, **form["format_kwargs"]
    )
    samples = IndexRows(dataset).samples([5, 0])
    assert [float(sample["ref_chosen_logps"]) for sample in samples] == [5.0, 0.0]
    assert collate(samples) == [5, 0] == collate([dataset[5], dataset[0]])


def test_a_batch_is_gathered_into_one_piece_of_memory_and_padded_where_it_must_be() -> None:
    rows = [
        {"input_ids": np.arange(size, dtype=np.int32), "labels": -np.arange(size, dtype=np.int32)}
        for size in (3, 1, 3)
    ]
    even, ragged = PlainCollator()([rows[0], rows[2]]), PlainCollator()(rows)
    assert (
        even["input_ids"].tolist() == [[0, 1, 2]] * 2
        and even["labels"].tolist() == [[0, -1, -2]] * 2
    )
    assert ragged["input_ids"].tolist() == [[0, 1, 2], [0, 0, 0], [0, 1, 2]] and ragged[
        "labels"
    ].tolist()[1] == [0, -100, -100]
    assert even["input_ids"].dtype == torch.int32
    assert (
        even["input_ids"].untyped_storage().data_ptr()
        == even["labels"].untyped_storage().data_ptr()
    )


@pytest.mark.parametrize("rows_per_batch", [30, 4], ids=["one file", "two files"])
def test_a_batch_that_is_gathered_from_the_files_is_that_of_its_samples(
    tmp_path: Path, rows_per_batch: int
) -> None:
    """Windows of all lengths; behind the last one of a file there is less than the longest is
    long.
    """
    chance = np.random.default_rng(0)
    windows = []
    for row in range(20):
        ids = chance.integers(1, 2000, int(chance.integers(1, 600)) if row % 3 else 600).tolist()
        windows.append(
            {
                "input_ids": ids,
                "labels": [id if place % 2 else -100 for place, id in enumerate(ids)],
                "seq_lengths": [len(ids)],
                "row_ids": [row],
            }
        )
    shards = Shards(
        write(tmp_path / "shards", "sft", {"train": windows}, 600, rows_per_batch), "train"
    )
    for rows in ([*range(20)], [19, 0, 19], [3], [5, -1, 18]):
        samples = shards.samples(rows)
        assert isinstance(samples, list) == (-1 in rows)
        found, wanted = PlainCollator()(samples), PlainCollator()(list(samples))
        for name, tensor in found.items():
            assert torch.equal(tensor, wanted[name])
        for row, ids, labels in zip(
            rows, found["input_ids"].tolist(), found["labels"].tolist(), strict=True
        ):
            window = windows[max(row, 0)]
            length = len(window["input_ids"])
            assert ids[:length] == window["input_ids"] and not any(ids[length:])
            assert labels[:length] == (window["labels"] if row >= 0 else [-100] * length) and set(
                labels[length:]
            ) <= {-100}


def test_a_loader_that_is_about_to_be_sharded_again_says_so(folder: Path) -> None:
    """accelerate would hand each rank a part of its part: of 23 rows on 2 ranks, half would
    never be read.
    """
    loader = loader_of(Shards(folder, "train"), Part(0, 2, 2), Workers())
    with pytest.raises(ConfigError, match="sharding it again would lose rows"):
        prepare_data_loader(loader._torch_loader(loader.batches), num_processes=2, process_index=0)
    # So `accelerator.prepare` gives it back as it is.
    assert not isinstance(loader, torch.utils.data.DataLoader)


def test_what_is_compared_names_every_difference_and_who_says_what() -> None:
    compare([{"seed": 1, "manifest": "a"}] * 3)
    with pytest.raises(
        ConfigError,
        match=r"`manifest` is a on rank 0, 2, b on rank 1; `seed` is 1 on rank 0, 1, 2 on rank 2",
    ):
        compare(
            [
                {"seed": 1, "manifest": "a"},
                {"seed": 1, "manifest": "b"},
                {"seed": 2, "manifest": "a"},
            ]
        )


def test_ranks_that_differ_in_anything_all_raise_and_none_hangs() -> None:
    facts = {
        "manifest": "a",
        "examples": 10,
        "seed": 1,
        "next place": 0,
        "per_device_train_batch_size": 4,
    }
    changes: list[dict[str, Any]] = [
        {},
        *({name: "other"} for name in facts),
        {"error": "no such directory"},
    ]
    assert run_ranks(compare_facts, 2, facts, changes) == [0, 0]


def test_without_the_comparison_the_difference_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sabotage: what the test above rests on is the comparison and nothing else."""

    def gather(gathered: list[Any], facts: Any) -> None:
        gathered[:] = [facts, {**facts, "manifest": "other"}]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    assert raises(lambda: check_ranks({"manifest": "a"}))
    monkeypatch.setattr(rank_check, "compare", lambda _gathered: None)
    assert not raises(lambda: check_ranks({"manifest": "a"}))
