"""The cost of a run before it is paid for: the trainer's steps, the FLOPs of the weights there
are, and no torch.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from zephyr_fast import ConfigError, InputError, Manifest
from zephyr_fast.costs import Shape, estimate
from zephyr_fast.load.shards import Shards
from zephyr_fast.train.__main__ import main

SAMPLE = Path(__file__).parents[2] / "python" / "zephyr_fast" / "sample" / "model"
ZEPHYR = {
    **{
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
    },
    **{"num_key_value_heads": 8, "vocab_size": 32000},
}


def test_weights_are_those_that_the_model_multiplies_with() -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(SAMPLE))
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert Shape.of(json.loads((SAMPLE / "config.json").read_text()), "").matmul == sum(
        module.weight.numel() for module in linear
    )
    # Mistral-7B's 7,241,732,096 without embeddings and norms.
    assert Shape.of(ZEPHYR, "").matmul == 7_110_393_856


def test_steps_are_those_that_the_trainer_makes(shards: Path, tmp_path: Path) -> None:
    words = [
        "--per_device_train_batch_size",
        "16",
        "--num_train_epochs",
        "1",
        "--eval_strategy",
        "no",
    ]
    assert (
        main(
            [
                "sft",
                "--config",
                "tiny-sft",
                "--shards",
                str(shards),
                "--output_dir",
                str(tmp_path),
                *words,
            ]
        )
        == 0
    )
    made = json.loads((tmp_path / "trainer_state.json").read_text())["global_step"]
    config = tmp_path / "mine.yaml"
    config.write_text("num_train_epochs: 1\nper_device_train_batch_size: 16\n")
    assert estimate(shards, str(config), gpus=1).steps == made


def test_tokens_seen_of_pairs_are_both_answers_each_with_its_prompt(prefs: Path) -> None:
    pairs = list(Shards(prefs, "train"))
    found = estimate(prefs, "tiny-dpo", gpus=1)
    assert found.tokens_seen == 3 * sum(
        2 * len(pair["prompt_ids"]) + len(pair["chosen_ids"]) + len(pair["rejected_ids"])
        for pair in pairs
    )
    assert found.label_tokens == 3 * Manifest.read(prefs).split("train").label_tokens


def test_a_stored_reference_an_adapter_and_fewer_epochs_cost_less_as_they_should(
    prefs: Path, tmp_path: Path
) -> None:
    def flops(text: str) -> float:
        config = tmp_path / "mine.yaml"
        config.write_text(f"per_device_train_batch_size: 4\n{text}\n")
        return estimate(prefs, str(config), gpus=1).flops

    one = flops("num_train_epochs: 1")
    assert flops("num_train_epochs: 3") == pytest.approx(3 * one)
    assert flops("num_train_epochs: 3\nprecompute_ref_log_probs: true") == pytest.approx(
        (9 + 1) / (9 + 3) * 3 * one
    )
    assert flops("num_train_epochs: 1\nuse_peft: true") == pytest.approx(3 / 4 * one)


def test_flops_are_six_per_weight_and_token_and_attention_beside(
    shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(ZEPHYR))
    found = estimate(shards, "zephyr-7b-sft-full", model=str(tmp_path))
    weights = 6 * 7_110_393_856 * found.tokens_seen
    assert weights < found.flops < 1.01 * weights  # documents of the sample are short
    assert found.gpu_hours == pytest.approx(found.flops / (989e12 * 0.4) / 3600)


def test_what_cannot_be_estimated_is_refused(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(ZEPHYR | {"num_local_experts": 8}))
    with pytest.raises(InputError, match="mixture-of-experts"):
        estimate(shards, "tiny-sft", model=str(tmp_path))
    with pytest.raises(InputError, match="for model `nobody/nothing`"):
        estimate(shards, "tiny-sft", model="nobody/nothing")
    with pytest.raises(ConfigError, match="`mfu` must be"):
        estimate(shards, "tiny-sft", mfu=40)


def test_the_command_needs_no_torch(shards: Path) -> None:
    words = ["estimate", str(shards), "--config", "tiny-sft", "--json"]
    code = (
        "import sys; sys.modules.update(torch=None, trl=None, transformers=None); "
        f"sys.argv[1:] = {words}; import zephyr_fast.__main__"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] > 0
