"""A checkpoint of another model, adapter, reference or optimizer is refused in one line.

Without these checks, most of these runs end with exit code 0, and with other weights than one that
never stopped.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from train_runs import train, words
from zephyr_fast.train.__main__ import main

SAVES = {"save_strategy": "steps", "save_steps": 1}
ADAPTER = {"use_peft": True, "lora_r": 4}


@pytest.fixture(scope="module")
def other(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of `start` with other weights."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("model") / "other"
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(start)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def smaller(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of `start` with one layer."""
    folder = tmp_path_factory.mktemp("model") / "smaller"
    config = AutoConfig.from_pretrained(start, num_hidden_layers=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoints(
    shards: Path, prefs: Path, start: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The first checkpoint of a run of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    runs: dict[str, tuple[str, dict[str, Any]]] = {
        "sft full": ("sft", {}),
        "sft adapter": ("sft", ADAPTER),
        "dpo full": ("dpo", {}),
        "dpo adapter": ("dpo", ADAPTER),
    }
    return {
        name: train(
            act, shards if act == "sft" else prefs, start, folder / name, **settings, **SAVES
        )
        / "checkpoint-1"
        for name, (act, settings) in runs.items()
    }


CASES: list[tuple[str, str, dict[str, Any], str]] = [
    ("sft full", "start", {"learning_rate": 0.05}, "`learning_rate`: it was trained with 0.001"),
    ("sft full", "start", {"weight_decay": 0.5}, "another `weight_decay`: it was trained with 0"),
    ("sft full", "start", {"adam_beta2": 0.9}, "another `adam_beta1` or `adam_beta2`"),
    ("sft full", "start", {"optim": "sgd"}, "it was trained with another optimizer"),
    ("sft full", "start", ADAPTER, "it trains all weights, and this run an adapter"),
    ("sft full", "smaller", {}, "that of another model"),
    ("sft adapter", "start", {}, "it trains an adapter, and this run all weights"),
    ("sft adapter", "start", {**ADAPTER, "lora_r": 8}, "its adapter has `r` '4', and that of"),
    ("sft adapter", "start", {**ADAPTER, "lora_alpha": 8}, "its adapter has `lora_alpha` '32'"),
    ("sft adapter", "start", {**ADAPTER, "lora_target_modules": "all-linear"}, "`target_modules`"),
    ("sft adapter", "start", {**ADAPTER, "use_dora": True}, "its adapter has `use_dora` 'False'"),
    ("sft adapter", "other", ADAPTER, "had another base model, reference or teacher"),
    ("dpo full", "other", {}, "had another base model, reference or teacher"),
    ("dpo adapter", "other", ADAPTER, "had another base model, reference or teacher"),
]


@pytest.mark.parametrize(
    ("run", "model", "settings", "expected"),
    CASES,
    ids=[one[3][:40] for one in CASES],
)
def test_it_is_refused(
    run: str,
    model: str,
    settings: dict[str, Any],
    expected: str,
    checkpoints: dict[str, Path],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    act = run.partition(" ")[0]
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    start: Path = request.getfixturevalue(model)
    given = {**settings, "resume_from_checkpoint": checkpoints[run]}
    assert main(words(act, data, start, tmp_path, **given)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and "cannot resume from" in error and expected in error


@pytest.mark.parametrize("run", ["sft full", "sft adapter", "dpo full", "dpo adapter"])
def test_the_same_run_resumes_from_a_checkpoint_of_a_resumed_run(
    run: str, checkpoints: dict[str, Path], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The reference of `sync_ref_model` has moved by then; that of the first step is compared."""
    act, kind = run.split()
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    start: Path = request.getfixturevalue("start")
    settings: dict[str, Any] = {**(ADAPTER if kind == "adapter" else {}), **SAVES}
    first = {**settings, "resume_from_checkpoint": checkpoints[run], "max_steps": 2}
    again = train(act, data, start, tmp_path / "first", **first)
    second = {**settings, "resume_from_checkpoint": again / "checkpoint-2", "max_steps": 3}
    train(act, data, start, tmp_path / "second", **second)


def test_a_reference_that_moves_is_compared_as_it_was_at_the_start(
    prefs: Path, start: Path, tmp_path: Path
) -> None:
    moving = {"sync_ref_model": True, "ref_model_sync_steps": 1, **SAVES}
    out = train("dpo", prefs, start, tmp_path / "first", **moving)
    settings = {**moving, "resume_from_checkpoint": out / "checkpoint-1", "max_steps": 3}
    out = train("dpo", prefs, start, tmp_path / "second", **settings)
    settings["resume_from_checkpoint"] = out / "checkpoint-2"
    train("dpo", prefs, start, tmp_path / "third", **settings)
