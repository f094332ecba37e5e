"""Supervised training on shards: stock TRL takes them as they are, ours has the same loss, and
what is saved loads.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

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
    "max_steps": 4,
    "logging_steps": 1,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 2,
}


def arguments(out: Path, **settings: Any) -> list[str]:
    pairs = {"output_dir": out, **QUIET, "activation_checkpointing": False, **STEPS, **settings}
    return [word for name, value in pairs.items() for word in (f"--{name}", str(value))]


def losses(out: Path) -> list[float]:
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


@pytest.fixture(scope="module")
def trained(shards: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four steps of ours, without evaluation."""
    out = tmp_path_factory.mktemp("sft") / "ours"
    assert (
        main(["sft", "--shards", str(shards), "--model_name_or_path", str(start), *arguments(out)])
        == 0
    )
    return out


def test_stock_trl_trains_on_the_shards_as_they_are_with_the_same_losses(
    shards: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {"train_sampling_strategy": "sequential"}  # the only one that both have
    ours = tmp_path / "ours"
    assert (
        main(
            [
                "sft",
                "--shards",
                str(shards),
                "--model_name_or_path",
                str(start),
                *arguments(ours, **order),
            ]
        )
        == 0
    )
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    dataset = load_dataset(str(shards), split="train", cache_dir=str(tmp_path / "cache"))
    settings = {**QUIET, **STEPS, **order, "activation_checkpointing": False}
    config = SFTConfig(
        output_dir=str(tmp_path / "stock"),
        dataset_kwargs={"skip_prepare_dataset": True},
        padding_free=True,
        max_length=None,
        **settings,
    )
    trainer = SFTTrainer(
        model=str(start),
        args=config,
        train_dataset=dataset,
        processing_class=AutoTokenizer.from_pretrained(shards / "tokenizer"),
    )
    trainer.train()
    stock = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(stock) == STEPS["max_steps"]
    assert losses(ours) == pytest.approx(stock, rel=1e-5)


def test_the_saved_folder_loads_and_its_tokenizer_has_the_chat_template(
    trained: Path, shards: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(trained)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<s><|user|>\nHi</s>\n<|assistant|>\n"  # the documents of the shards begin so
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert ids[0, 0] == tokenizer.bos_token_id
    assert model.generate(ids, max_new_tokens=2, do_sample=False).shape[1] > ids.shape[1]
    assert model.config.use_cache


def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_interrupted(
    shards: Path, start: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "resumed"
    base = ["sft", "--shards", str(shards), "--model_name_or_path", str(start)]
    # The schedule is that of four steps; the run is cut off after two by taking the later
    # checkpoint away.
    checkpoints = {"save_strategy": "steps", "save_steps": 2}
    assert main([*base, *arguments(out, **checkpoints)]) == 0
    for path in (out / "checkpoint-4").iterdir():
        path.unlink()
    (out / "checkpoint-4").rmdir()
    assert main([*base, *arguments(out, **checkpoints, resume_from_checkpoint="true")]) == 0
    whole, resumed = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (trained, out)
    )
    for name, weights in whole.items():
        assert torch.equal(weights, resumed[name]), name


def test_training_lowers_the_loss_on_held_out_rows_it_only_measures(
    shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "learns"
    settings = {"max_steps": 12, "eval_strategy": "steps", "eval_steps": 12, "learning_rate": 3e-3}
    assert (
        main(
            [
                "sft",
                "--shards",
                str(shards),
                "--model_name_or_path",
                "sample",
                *arguments(out, **settings),
            ]
        )
        == 0
    )
    results = json.loads((out / "all_results.json").read_text())
    assert results["eval_loss"] < results["before_loss"] - 0.3


def test_folders_are_mixed_by_weight_from_the_command_line(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(shards, tmp_path / "other")
    base = [
        "sft",
        "--model_name_or_path",
        str(start),
        *arguments(tmp_path / "out", max_steps=2, per_device_train_batch_size=3),
        "--shards",
        str(shards),
        str(other),
    ]
    assert main([*base, "--shard_weights", "3", "1", "--remainder", "drop"]) == 0
    output = capsys.readouterr()
    assert "`remainder: drop` skips " in output.err
    assert f"model saved to {tmp_path / 'out'}" in output.err and "saved to" not in output.out
    assert main([*base, "--shard_weights", "3"]) == 2
    assert "mixing 2 datasets needs 2 weights" in capsys.readouterr().err
    assert main([*base, "--train_sampling_strategy", "sequential"]) == 2
    assert "need `train_sampling_strategy: random`" in capsys.readouterr().err


def test_metrics_go_to_the_tracker_that_report_to_names(
    shards: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "runs"))
    settings = arguments(tmp_path / "out", report_to="tensorboard")
    assert (
        main(["sft", "--shards", str(shards), "--model_name_or_path", str(start), *settings]) == 0
    )
    assert list((tmp_path / "runs").rglob("events.out.tfevents.*"))
