"""What a run reports is exact: means over all tokens or pairs, whatever batch size and number of
ranks, and evaluating changes nothing.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tiny_models import COMMON
from train_runs import history, results, train, words
from zephyr_fast import Shards
from zephyr_fast.load.collators import PairCollator, WindowCollator
from zephyr_fast.train.__main__ import main

EVALUATE: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 100, "max_steps": 1}


def evaluations(out: Path) -> list[dict[str, Any]]:
    return [entry for entry in history(out) if "eval_loss" in entry]


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_evaluated_loss_is_the_mean_over_all_label_tokens(
    shards: Path, start: Path, tmp_path: Path, batch: int
) -> None:
    out = train("sft", shards, start, tmp_path, per_device_eval_batch_size=batch, **EVALUATE)
    model = AutoModelForCausalLM.from_pretrained(start).eval()
    summed = tokens = 0.0
    for window in Shards(shards, "test"):
        inputs = WindowCollator("rows", 0)([window])
        labels = inputs.pop("labels")[:, 1:]
        with torch.inference_mode():
            logits = model(**inputs, use_cache=False).logits[:, :-1]
        summed += float(
            torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="sum")
        )
        tokens += int((labels != -100).sum())
    assert results(out)["before_loss"] == pytest.approx(summed / tokens, rel=2e-6)


def preferred(start: Path, prefs: Path) -> tuple[int, int, float]:
    """Pairs whose chosen answer is likelier, all pairs, and the mean margin a token."""
    model = AutoModelForCausalLM.from_pretrained(start).eval()
    margins, right = [], 0
    for pair in Shards(prefs, "test"):
        batch = PairCollator(0)([pair])
        trained = batch.pop("completion_mask")[:, 1:]
        with torch.inference_mode():
            log_probs = model(**batch, use_cache=False).logits[:, :-1].log_softmax(-1)
        chosen, rejected = (
            log_probs.gather(2, batch["input_ids"][:, 1:, None])[..., 0] * trained
        ).sum(dim=1)
        lengths = trained.sum(dim=1)
        right += bool(chosen > rejected)
        margins.append(float(chosen / lengths[0] - rejected / lengths[1]))
    return right, len(margins), float(np.mean(margins))


def test_metrics_of_preferences_are_means_over_pairs_with_any_batch_size_and_number_of_ranks(
    prefs: Path, start: Path, tmp_path: Path
) -> None:
    """The learning rate is 0, so all runs evaluate the same model."""
    settings = {**EVALUATE, "learning_rate": 0, "beta": 1.0}
    settings |= {"eval_on_start": True}
    found = [
        results(
            train(
                *("dpo", prefs, start, tmp_path / f"{batch}-{ranks}"),
                ranks=ranks,
                per_device_eval_batch_size=batch,
                **settings,
            )
        )
        for batch, ranks in [(1, 1), (5, 1), (7, 2)]
    ]
    right, pairs, margin = preferred(start, prefs)
    assert pairs % 5 and pairs % 14 <= 7  # a batch is short, and one rank has one batch less
    assert found[0]["eval_preference_accuracy"] == pytest.approx(right / pairs)
    assert found[0]["eval_preference_margin"] == pytest.approx(margin, abs=1e-5)
    names = [name for name in found[0] if name.startswith(("eval_", "before_"))]
    names = [name for name in names if not re.search("runtime|per_second|num_tokens", name)]
    assert {"eval_loss", "eval_entropy", "eval_rewards/accuracies", "eval_logps/chosen"} < {*names}
    for other in found[1:]:
        for name in names:
            assert other[name] == pytest.approx(found[0][name], rel=1e-5, abs=1e-5), name


def trained_weights(out: Path) -> dict[str, torch.Tensor]:
    files = sorted(out.glob("*model.safetensors"))
    assert len(files) == 1
    return load_file(files[0])


@pytest.mark.parametrize("act", ["sft", "dpo"])
def test_a_model_evaluated_on_the_way_learns_the_same(
    act: str, request: pytest.FixtureRequest, start: Path, tmp_path: Path
) -> None:
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    settings = {"max_steps": 3, "use_peft": True, "lora_dropout": 0.3}
    settings |= {"disable_dropout": False} if act == "dpo" else {}
    often = {"eval_strategy": "steps", "eval_steps": 1}
    plain, evaluated = (
        trained_weights(train(act, data, start, tmp_path / name, **settings, **more))
        for name, more in (("plain", {}), ("evaluated", often))
    )
    assert plain and all(torch.equal(plain[name], evaluated[name]) for name in plain)


@pytest.mark.parametrize("act", ["sft", "dpo"])
def test_tokens_are_counted_without_padding_and_over_a_resume(
    act: str, request: pytest.FixtureRequest, start: Path, tmp_path: Path
) -> None:
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    rows = Shards(data, "train")
    order = rows.order(3).rows(np.arange(8)).tolist()
    expected = sum(
        len(rows[row]["input_ids"])
        if act == "sft"
        else sum(len(rows[row]["prompt_ids"]) + len(rows[row][side]) for side in SIDES)
        for row in order
    )
    saves = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    out = train(act, data, start, tmp_path, **saves)
    assert history(out)[-2]["num_tokens"] == expected
    checkpoint = out / "checkpoint-2"
    train(act, data, start, tmp_path, **saves, resume_from_checkpoint=checkpoint)
    assert history(out)[-2]["num_tokens"] == expected
    ranks = train(
        act, data, start, tmp_path / "ranks", ranks=2, per_device_train_batch_size=1, **saves
    )
    assert history(ranks)[-2]["num_tokens"] == expected


SIDES = ("chosen_ids", "rejected_ids")


def test_a_loss_that_is_not_a_number_stops_the_run_with_step_and_rows_and_saves_nothing(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"learning_rate": 1e9, "weight_decay": 1e30, "max_steps": 6}
    line = words("sft", shards, start, tmp_path, **settings, save_strategy="steps", save_steps=2)
    assert main(line) == 12
    error = capsys.readouterr().err.splitlines()[-1]
    found = re.search(
        r"error: step (\d): the (?:loss|gradient) is (?:NaN|infinite) on (.*); stop", error
    )
    assert found, error
    step = int(found[1])
    rows = Shards(shards, "train").order(3).rows(np.arange(2 * step)).tolist()[-2:]
    assert found[2] == f"`train` rows {rows[0]}, {rows[1]}"
    assert not (tmp_path / "model.safetensors").exists()
    assert not (tmp_path / f"checkpoint-{step}").exists()


def test_weights_that_are_not_numbers_are_not_saved(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The only step has a finite loss; what it makes of the weights is not."""
    settings = {"learning_rate": 1e9, "max_steps": 1, "weight_decay": 1e30}
    assert main(words("sft", shards, start, tmp_path, **settings)) == 12
    assert re.search(r"step 1: the weights `.*` are NaN", capsys.readouterr().err)
    assert not (tmp_path / "model.safetensors").exists()


def test_all_measures_reach_the_tracker_in_one_run(
    prefs: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "runs"))
    train("dpo", prefs, start, tmp_path / "out", **EVALUATE, report_to="tensorboard")
    (file,) = (tmp_path / "runs").rglob("events.out.tfevents.*")
    scalars = EventAccumulator(str(file)).Reload()
    measured = scalars.Scalars("eval/preference_accuracy")
    assert [event.step for event in measured] == [0, 1]
    saved = results(tmp_path / "out")
    assert measured[0].value == pytest.approx(saved["before_preference_accuracy"])
    assert measured[1].value == pytest.approx(saved["eval_preference_accuracy"])


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixture of experts, with the vocabulary of the packaged tokenizer."""
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    settings = {**COMMON, "vocab_size": 2048, "max_position_embeddings": 1024}
    config = MixtralConfig(**settings, num_local_experts=4, output_router_logits=True)
    folder = tmp_path_factory.mktemp("model") / "experts"
    MixtralForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("act", ["sft", "dpo"])
def test_padding_does_not_count_in_the_loss_that_balances_experts(
    act: str, request: pytest.FixtureRequest, experts: Path, tmp_path: Path
) -> None:
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    settings = {"max_steps": 2, "router_aux_loss_coef": 1.0, "per_device_train_batch_size": 4}
    packed, padded = (
        [
            entry
            for entry in history(train(act, data, experts, tmp_path / pack, pack=pack, **settings))
            if "loss" in entry
        ]
        for pack in ("true", "false")
    )
    for one, other in zip(packed, padded, strict=True):
        for name in ("loss", "aux_loss", "num_tokens"):
            assert one[name] == pytest.approx(other[name], rel=1e-4), name


def test_the_evaluation_before_training_can_be_switched_off(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    out = train("sft", shards, start, tmp_path, **EVALUATE, eval_on_start=False)
    assert [entry["step"] for entry in evaluations(out)] == [1]
    assert not any(name.startswith("before_") for name in results(out))
    assert not (out / "before_results.json").exists()


def test_a_resumed_run_saves_and_logs_as_often_as_it_is_asked_to_now(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    first = {"save_strategy": "steps", "save_steps": 2, "logging_steps": 2, "max_steps": 2}
    train("sft", shards, start, tmp_path, **first)
    second = {**first, "save_steps": 1, "logging_steps": 1, "max_steps": 4}
    train("sft", shards, start, tmp_path, **second, resume_from_checkpoint="true")
    saved = sorted(int(path.name.partition("-")[2]) for path in tmp_path.glob("checkpoint-*"))
    assert saved == [2, 3, 4]
    steps = [entry["step"] for entry in history(tmp_path) if "loss" in entry]
    assert steps == [2, 3, 4]
    assert json.loads((tmp_path / "trainer_state.json").read_text())["save_steps"] == 1
