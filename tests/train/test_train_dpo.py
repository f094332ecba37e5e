"""Preference training on shards: the pairs, losses and metrics of stock TRL on the same text,
without tokenizing again.
"""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer

from zephyr_fast.load.shards import Shards
from zephyr_fast.train.__main__ import main

QUIET: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "seed": 3,
}
STEPS: dict[str, Any] = {
    "max_steps": 3,
    "logging_steps": 1,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 2,
}
STEPS["train_sampling_strategy"] = "sequential"  # the only order that both have


def text_rows(prefs: Path, split: str) -> Dataset:
    """The text beside the shards, as stock TRL takes it: the prompt apart from the two answers."""
    rows = pl.read_parquet(prefs / "text" / f"{split}-*.parquet").to_dicts()
    return Dataset.from_list(
        [
            {
                "prompt": row["chosen"][:-1],
                "chosen": row["chosen"][-1:],
                "rejected": row["rejected"][-1:],
            }
            for row in rows
        ]
    )


@pytest.fixture(scope="module")
def stock(prefs: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> DPOTrainer:
    """TRL's own trainer after three steps, on the text."""
    config = DPOConfig(
        output_dir=str(tmp_path_factory.mktemp("dpo") / "stock"),
        beta=0.1,
        activation_checkpointing=False,
        max_length=1024,
        **QUIET,
        **STEPS,
    )
    tokenizer = AutoTokenizer.from_pretrained(prefs / "tokenizer")
    trainer = DPOTrainer(
        model=str(start),
        args=config,
        train_dataset=text_rows(prefs, "train"),
        processing_class=tokenizer,
    )
    trainer.train()
    return trainer


def test_the_pairs_are_token_for_token_those_that_stock_trl_makes_of_the_text(
    prefs: Path, stock: DPOTrainer
) -> None:
    ours = list(Shards(prefs, "train"))
    assert len(ours) == len(stock.train_dataset) > 100
    for pair, theirs in zip(ours, stock.train_dataset, strict=True):
        for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
            assert pair[name].tolist() == theirs[name]


def test_loss_and_metrics_of_each_step_are_those_of_stock_trl(
    prefs: Path, start: Path, stock: DPOTrainer, tmp_path: Path
) -> None:
    settings = {
        "output_dir": tmp_path / "ours",
        "beta": 0.1,
        "activation_checkpointing": False,
        **QUIET,
        **STEPS,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    assert main(["dpo", "--shards", str(prefs), "--model_name_or_path", str(start), *words]) == 0
    history = json.loads((tmp_path / "ours" / "trainer_state.json").read_text())["log_history"]
    ours, theirs = (
        [entry for entry in entries if "loss" in entry]
        for entries in (history, stock.state.log_history)
    )
    assert len(ours) == len(theirs) == STEPS["max_steps"]
    for our_step, their_step in zip(ours, theirs, strict=True):
        for name in (
            "loss",
            "rewards/chosen",
            "rewards/rejected",
            "rewards/margins",
            "logps/chosen",
            "logps/rejected",
        ):
            assert our_step[name] == pytest.approx(their_step[name], rel=1e-5, abs=1e-5), name


def test_preferences_are_not_taught_to_random_weights(
    prefs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        "--output_dir",
        str(tmp_path),
        "--use_cpu",
        "true",
        "--bf16",
        "false",
        "--report_to",
        "none",
    ]
    assert main(["dpo", "--shards", str(prefs), "--model_name_or_path", "sample", *settings]) == 4
    assert "run `sft` first" in capsys.readouterr().err
