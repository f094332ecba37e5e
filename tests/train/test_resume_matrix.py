"""A resumed run equals one that never stopped, in every combination that is accepted.

A few combinations run by default; set ZEPHYR_FAST_RESUME_MATRIX to run all of them. Those of QLoRA
need bitsandbytes, which also runs on a CPU.
"""

import os
import re
import shutil
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from train_runs import train, words
from zephyr_fast import ref_logprobs
from zephyr_fast.train.__main__ import main

TUNES: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"use_peft": True, "lora_dropout": 0.2},
    "dora": {"use_peft": True, "use_dora": True},
    "qlora": {"use_peft": True, "lora_dropout": 0.2, "load_in_4bit": True},
}
METHODS = ("sft", "dpo memory", "dpo stored", "adapter memory", "adapter stored")
RANKS = ((1, 1), (1, 2), (2, 1), (2, 2))
DEFAULT = {
    ("full", "dpo memory", (1, 1)),
    ("lora", "sft", (1, 1)),
    ("lora", "dpo stored", (1, 1)),
    ("dora", "adapter memory", (1, 1)),
    ("lora", "adapter stored", (1, 1)),
}
CASES = [
    case
    for case in product(TUNES, METHODS, RANKS)
    if (case[0] != "full" or not case[1].startswith("adapter"))  # the adapter is what trains
    and (case[0] != "qlora" or not case[1].endswith("stored"))  # refused, see below
    and (case in DEFAULT or os.environ.get("ZEPHYR_FAST_RESUME_MATRIX"))
]


@pytest.fixture(scope="session")
def starts(start: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The base model of each kind. A quantized one has widths of whole blocks."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(start, hidden_size=128, intermediate_size=256)
    config.head_dim = 128 // config.num_attention_heads
    wide = tmp_path_factory.mktemp("model") / "wide"
    AutoModelForCausalLM.from_config(config).save_pretrained(wide)
    return dict.fromkeys(TUNES, start) | {"qlora": wide}


@pytest.fixture(scope="session")
def adapters(
    shards: Path, starts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A trained adapter of each kind."""
    folder = tmp_path_factory.mktemp("adapters")
    settings = {**TUNES["lora"], "learning_rate": 1e-2}
    return {
        "lora": train("sft", shards, starts["lora"], folder / "lora", **settings),
        "dora": train("sft", shards, starts["dora"], folder / "dora", **settings, use_dora=True),
        "qlora": train("sft", shards, starts["qlora"], folder / "qlora", **settings),
    }


def skip_without_bitsandbytes(tune: str) -> None:
    if tune == "qlora" and not find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is not installed")


def weights(out: Path) -> dict[str, torch.Tensor]:
    (file,) = out.glob("*model.safetensors")
    return load_file(file)


@pytest.mark.parametrize(("tune", "method", "ranks"), CASES)
def test_a_resumed_run_equals_one_that_never_stopped(
    tune: str,
    method: str,
    ranks: tuple[int, int],
    request: pytest.FixtureRequest,
    starts: dict[str, Path],
    tmp_path: Path,
) -> None:
    skip_without_bitsandbytes(tune)
    settings = {**TUNES[tune], "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    if ranks[0] != ranks[1] and tune != "full":
        settings["lora_dropout"] = 0.0  # other ranks draw other numbers
    act = "sft" if method == "sft" else "dpo"
    data: Path = request.getfixturevalue("shards" if act == "sft" else "prefs")
    model = starts[tune]
    if method.startswith("adapter"):
        model = request.getfixturevalue("adapters")[tune]
    if method.endswith("stored"):
        data = shutil.copytree(data, tmp_path / "data")
        ref_logprobs(data, str(model), dtype="float32")
        settings |= {"precompute_ref_log_probs": True}
    first, second = ({"ranks": n, "per_device_train_batch_size": 4 // n} for n in ranks)
    whole = train(act, data, model, tmp_path / "whole", **settings, **first)
    checkpoint = {"resume_from_checkpoint": whole / "checkpoint-2"}
    resumed = train(act, data, model, tmp_path / "resumed", **settings, **second, **checkpoint)
    expected, found = weights(whole), weights(resumed)
    before = weights(whole / "checkpoint-2")
    assert any(not torch.equal(before[name], one) for name, one in expected.items())
    for name, one in expected.items():
        if ranks[0] == ranks[1]:
            assert torch.equal(found[name], one), name
        else:
            torch.testing.assert_close(found[name], one, rtol=1e-4, atol=1e-5)


def test_a_stored_reference_of_a_quantized_model_is_refused(
    prefs: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**TUNES["qlora"], "precompute_ref_log_probs": True}
    assert main(words("dpo", prefs, start, tmp_path, **settings)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "the reference is the quantized model" in error


def test_an_updated_reference_is_saved_and_restored(
    prefs: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    settings |= {"sync_ref_model": True, "ref_model_sync_steps": 1, "learning_rate": 1e-2}
    whole = train("dpo", prefs, start, tmp_path / "whole", **settings)
    checkpoint = whole / "checkpoint-2"
    again = {**settings, "resume_from_checkpoint": checkpoint}
    resumed = weights(train("dpo", prefs, start, tmp_path / "resumed", **again))
    for name, one in weights(whole).items():
        assert torch.equal(resumed[name], one), name
    (checkpoint / "reference.safetensors").unlink()
    assert main(words("dpo", prefs, start, tmp_path / "resumed", **again)) == 4
    assert "it has no reference model" in capsys.readouterr().err


def test_stored_log_probs_of_an_adapter_are_those_of_its_frozen_copy(
    prefs: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    data = shutil.copytree(prefs, tmp_path / "data")
    ref_logprobs(data, str(adapters["lora"]))
    settings = {"learning_rate": 1e-2, "beta": 1.0}
    memory, stored = (
        weights(train("dpo", data, adapters["lora"], tmp_path / name, **settings, **more))
        for name, more in (("memory", {}), ("stored", {"precompute_ref_log_probs": True}))
    )
    for name, one in memory.items():
        torch.testing.assert_close(stored[name], one, rtol=1e-4, atol=1e-5)


def damage(checkpoint: Path, how: str) -> None:
    if how == "optimizer":
        (checkpoint / "optimizer.pt").unlink()
    elif how == "schedule":
        (checkpoint / "scheduler.pt").unlink()
    elif how == "state":
        (checkpoint / "trainer_state.json").unlink()
    else:
        file = checkpoint / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-8])


@pytest.mark.parametrize("how", ["optimizer", "schedule", "state", "weights"])
def test_the_newest_complete_checkpoint_is_taken_and_others_are_named(
    how: str, shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1}
    whole = train("sft", shards, start, tmp_path / "whole", **settings)
    out = shutil.copytree(whole, tmp_path / "torn")
    damage(out / "checkpoint-3", how)
    capsys.readouterr()
    train("sft", shards, start, out, **settings, resume_from_checkpoint="true")
    said = capsys.readouterr().err
    assert re.search("checkpoint-3.*(has no|is damaged)", said)
    assert f"resuming from `{out / 'checkpoint-2'}`" in said
    resumed = weights(out)
    assert all(torch.equal(resumed[name], one) for name, one in weights(whole).items())
    damage(out / "checkpoint-2", how)
    line = words(
        *("sft", shards, start, out), **settings, resume_from_checkpoint=out / "checkpoint-2"
    )
    assert main(line) == 4
    assert "new run with this one as `--model_name_or_path`" in capsys.readouterr().err


def test_a_checkpoint_of_the_model_alone_is_refused(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"save_strategy": "steps", "save_steps": 1, "save_only_model": True}
    train("sft", shards, start, tmp_path, **settings)
    line = words("sft", shards, start, tmp_path, **settings, resume_from_checkpoint="true")
    assert main(line) == 4
    error = capsys.readouterr().err.splitlines()[-1]
    assert "has no complete checkpoint to resume from" in error and "it has no optimizer" in error
