"""Adapters are trained in float32, and weights that cannot move are noticed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig

from train_runs import SETTINGS, history, train, words
from zephyr_fast import open_shards
from zephyr_fast.train.__main__ import main
from zephyr_fast.train.trainers import SFTTrainer


class Quantized(PeftModel):  # type: ignore[misc]  # peft is untyped
    """What TRL takes for a quantized model; the base is in bfloat16 instead of 4 bits."""

    is_loaded_in_4bit = True


def test_the_adapter_of_a_quantized_model_keeps_its_float32_weights(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    base = AutoModelForCausalLM.from_pretrained(start, dtype=torch.bfloat16)
    model = get_peft_model(base, LoraConfig(target_modules=["q_proj", "v_proj"]))
    model.__class__ = Quantized
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    for one in trained.values():
        torch.nn.init.normal_(one)  # of more digits than bfloat16 has
    before = {name: one.detach().clone() for name, one in trained.items()}
    settings = {**SETTINGS, "disable_tqdm": True, "remove_unused_columns": False}
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(str(tmp_path), dataset_kwargs={"skip_prepare_dataset": True}, **settings),
        train_dataset=open_shards(shards),
        processing_class=AutoTokenizer.from_pretrained(shards / "tokenizer"),
    )
    for name, one in trained.items():
        assert one.dtype == torch.float32, name
        assert torch.equal(one, before[name]), name
    assert trainer.model is model


@pytest.mark.parametrize("act", ["sft", "dpo"])
def test_a_new_adapter_on_a_bfloat16_base_is_trained_and_saved_in_float32(
    act: str, request: pytest.FixtureRequest, start: Path, tmp_path: Path
) -> None:
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    out = train(act, data, start, tmp_path, use_peft=True, dtype="bfloat16", learning_rate=5e-6)
    assert {one.dtype for one in load_file(out / "adapter_model.safetensors").values()} == {
        torch.float32
    }
    assert history(out)[0]["weights_moved"] > 0.3  # of B, which starts at 0; A follows


def test_a_quantized_model_learns_after_an_evaluation(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    """bitsandbytes packs weights for inference on some processors, without a gradient."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    config = AutoConfig.from_pretrained(start, hidden_size=128, intermediate_size=256, head_dim=32)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "wide")
    settings = {"use_peft": True, "load_in_4bit": True, "eval_strategy": "steps", "eval_steps": 1}
    out = train("sft", shards, tmp_path / "wide", tmp_path / "out", max_steps=3, **settings)
    steps = [entry for entry in history(out) if "grad_norm" in entry]
    assert len(steps) == 3 and all(entry["grad_norm"] > 0 for entry in steps)


def test_a_run_in_which_no_weight_moves_stops_and_says_why(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"dtype": "bfloat16", "learning_rate": 1e-30, "max_steps": 4}
    assert main(words("sft", shards, start, tmp_path, **settings)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "almost no weight moved in 3 steps with a learning rate of" in error
    assert "bfloat16" in error and "float32" in error
    assert not (tmp_path / "model.safetensors").exists()


def test_the_share_of_weights_that_moved_is_logged_in_the_first_steps_only(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    settings = {"max_steps": 6, "warmup_steps": 1}  # the first step has a learning rate of 0
    logged = [entry for entry in history(train("sft", shards, start, tmp_path, **settings))]
    assert ["weights_moved" in entry for entry in logged if "loss" in entry] == [
        *(False, True, True, True),
        *(False, False),
    ]
    assert logged[1]["weights_moved"] > 0.9
