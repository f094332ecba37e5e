"""What a notebook does with the trainer classes: few arguments, a few rows, and no leak."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_dataset
from transformers import AutoTokenizer
from trl import SFTConfig
from trl import SFTTrainer as StockTrainer

from train_runs import SETTINGS
from zephyr_fast import Shards, open_shards
from zephyr_fast.load.index import IndexRows, with_columns, with_lengths
from zephyr_fast.train.trainers import SFTTrainer


def losses(trainer: Any) -> list[float]:
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_the_trainer_needs_no_arguments_for_shards_and_isolates_documents(
    shards: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {**SETTINGS, "train_sampling_strategy": "sequential"}
    tokenizer = AutoTokenizer.from_pretrained(shards / "tokenizer")
    ours = SFTTrainer(
        str(start),
        args=SFTConfig(str(tmp_path / "ours"), **order),
        train_dataset=open_shards(shards),
        processing_class=tokenizer,
    )
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    stock = StockTrainer(
        str(start),
        args=SFTConfig(
            str(tmp_path / "stock"),
            dataset_kwargs={"skip_prepare_dataset": True},
            padding_free=True,
            max_length=None,
            **order,
        ),
        train_dataset=load_dataset(str(shards), split="train", cache_dir=str(tmp_path / "cache")),
        processing_class=tokenizer,
    )
    assert losses(ours) == pytest.approx(losses(stock), rel=1e-5)


def test_a_selection_of_rows_is_trained_and_no_other_row(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    few = open_shards(shards).select([5, 3, 8])
    trainer = SFTTrainer(
        str(start),
        args=SFTConfig(str(tmp_path), **{**SETTINGS, "max_steps": 3}),
        train_dataset=few,
        processing_class=AutoTokenizer.from_pretrained(shards / "tokenizer"),
    )
    seen: list[torch.Tensor] = []
    step = trainer.training_step

    def recorded(model: Any, inputs: Any, *rest: Any) -> Any:
        seen.extend(inputs["input_ids"].cpu())
        return step(model, inputs, *rest)

    trainer.training_step = recorded
    trainer.train()
    rows = Shards(shards, "train")
    ids = {row: rows[row]["input_ids"].tolist() for row in (3, 5, 8)}
    read = [
        next(row for row, own in ids.items() if one[: len(own)].tolist() == own) for one in seen
    ]
    assert sorted(read) == [3, 3, 5, 5, 8, 8]


def test_a_column_that_map_adds_is_in_the_rows(shards: Path) -> None:
    rows = open_shards(shards).map(lambda row: {"tokens": len(row["input_ids"])})
    samples = IndexRows(rows).samples([0, 1])
    for index, row in enumerate([Shards(shards, "train")[0], Shards(shards, "train")[1]]):
        assert rows[index]["tokens"] == samples[index]["tokens"] == len(row["input_ids"])
        assert rows[index]["input_ids"].tolist() == row["input_ids"].tolist()


def test_a_selection_keeps_its_rows_with_lengths_and_columns(shards: Path) -> None:
    few = open_shards(shards).select([5, 3, 8])
    rows = Shards(shards, "train")
    chosen = IndexRows(with_columns(few, {"score": torch.arange(3).numpy()}))
    for index, row in enumerate([5, 3, 8]):
        (sample,) = chosen.samples([index])
        assert sample["input_ids"].tolist() == rows[row]["input_ids"].tolist()
        assert sample["score"] == index
        assert with_lengths(few)[index]["length"] == len(rows[row]["input_ids"])
    assert chosen.shards.identity != rows.identity
    assert (
        IndexRows(open_shards(shards).select([3, 5, 8])).shards.identity != chosen.shards.identity
    )


def test_input_tokens_without_padding_are_counted_with_their_ends(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    """The padding of a tokenizer is often its EOS, which ends every message of the data."""
    tokenizer = AutoTokenizer.from_pretrained(shards / "tokenizer")
    tokenizer.pad_token = tokenizer.eos_token
    settings = {**SETTINGS, "train_sampling_strategy": "sequential"}
    trainer = SFTTrainer(
        str(start),
        args=SFTConfig(str(tmp_path), include_num_input_tokens_seen="non_padding", **settings),
        train_dataset=open_shards(shards),
        processing_class=tokenizer,
    )
    trainer.train()
    rows = Shards(shards, "train").samples(range(4))
    assert any((row["input_ids"] == tokenizer.eos_token_id).any() for row in rows)
    expected = sum(len(row["input_ids"]) for row in rows)
    assert trainer.state.num_input_tokens_seen == expected
