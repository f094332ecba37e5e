"""Distillation: the divergence is that of whole distributions, the student nears its teacher,
and what does not fit is refused.
"""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig

import slow_order
from numbered import numbered
from ranks import run_ranks
from recorded_run import model_of, run_rank, trained_rows
from zephyr_fast import open_shards
from zephyr_fast.load.collators import WindowCollator
from zephyr_fast.train.__main__ import main
from zephyr_fast.train.distill import DistillationTrainer

QUIET: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "seed": 3,
}


def run(shards: Path, out: Path, model: Path | str, **settings: Any) -> int:
    given = {
        "output_dir": out,
        "model_name_or_path": model,
        "activation_checkpointing": False,
        "per_device_train_batch_size": 2,
        **QUIET,
    }
    words = [
        word for name, value in (given | settings).items() for word in (f"--{name}", str(value))
    ]
    return main(["sft", "--shards", str(shards), *words])


@pytest.fixture(scope="module")
def teacher(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps of the packaged model: enough to have opinions."""
    out = tmp_path_factory.mktemp("teacher") / "model"
    assert run(shards, out, "sample", max_steps=12, learning_rate=3e-3) == 0
    return out


def test_the_students_divergence_from_its_teacher_falls_on_held_out_rows(
    shards: Path, start: Path, teacher: Path, tmp_path: Path
) -> None:
    settings = {
        "max_steps": 12,
        "learning_rate": 3e-3,
        "eval_strategy": "steps",
        "eval_steps": 12,
        "teacher": teacher,
        "teacher_weight": 1.0,
    }
    assert run(shards, tmp_path, start, **settings) == 0
    results = json.loads((tmp_path / "all_results.json").read_text())
    assert 0 <= results["eval_teacher_kl"] < 0.5 * results["before_teacher_kl"]
    # The mean over tokens, and the mean over batches.
    assert results["eval_loss"] == pytest.approx(results["eval_teacher_kl"], rel=0.05)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_loss_and_its_gradients_are_those_of_the_obvious_way(
    shards: Path, start: Path, teacher: Path, tmp_path: Path, weight: float
) -> None:
    """Labels and whole distributions, from the logits of one window."""
    tokenizer = AutoTokenizer.from_pretrained(shards / "tokenizer")
    settings: dict[str, Any] = {
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "remove_unused_columns": False,
        **QUIET,
    }
    config = SFTConfig(
        output_dir=str(tmp_path), max_length=256, activation_checkpointing=False, **settings
    )
    trainer = DistillationTrainer(
        model=str(start), args=config, train_dataset=open_shards(shards), processing_class=tokenizer
    )
    trainer.set_teacher(str(teacher), weight)
    batch = WindowCollator("rows", tokenizer.pad_token_id)(
        [open_shards(shards)[0], open_shards(shards)[1]]
    )
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    found = {name: weights.grad.clone() for name, weights in trainer.model.named_parameters()}
    trainer.model.zero_grad()

    seen = {name: batch[name] for name in ("input_ids", "position_ids")}
    mine = trainer.model(**seen, use_cache=False).logits[:, :-1].log_softmax(-1)
    theirs = (
        AutoModelForCausalLM.from_pretrained(teacher)(**seen, use_cache=False)
        .logits[:, :-1]
        .log_softmax(-1)
    )
    labels = batch["labels"][:, 1:]
    trained = labels != -100
    kl = (theirs.exp() * (theirs - mine)).sum(-1)[trained].mean()
    nll = -mine.gather(2, labels.clamp(min=0)[..., None])[..., 0][trained].mean()
    wanted = (1 - weight) * nll + weight * kl
    wanted.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-5)
    assert trainer._metrics["train"]["teacher_kl"][-1] == pytest.approx(kl.item(), rel=1e-4)
    for name, weights in trainer.model.named_parameters():
        torch.testing.assert_close(found[name], weights.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_a_teacher_with_another_vocabulary_is_refused_by_name(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = AutoConfig.from_pretrained(start)
    for size, said in (
        (1000, "teacher does not match the shards: the shards' tokenizer has 2048 tokens"),
        (4096, "a vocabulary of 4096 tokens"),
    ):
        config.vocab_size = size
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / str(size))
        assert run(shards, tmp_path / "out", start, max_steps=1, teacher=tmp_path / str(size)) == 2
        assert said in capsys.readouterr().err


def test_what_cannot_be_distilled_is_refused(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(shards, tmp_path, start, max_steps=1, teacher=start, teacher_weight=0) == 2
    assert "`teacher_weight` must be above 0" in capsys.readouterr().err
    assert run(shards, tmp_path, start, max_steps=1, teacher=tmp_path / "nothing") == 4
    assert "cannot load the model" in capsys.readouterr().err
    config = AutoConfig.for_model(
        "cohere",
        vocab_size=2048,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "scaled")
    assert run(shards, tmp_path, start, max_steps=1, teacher=tmp_path / "scaled") == 2
    assert "`logit_scale` of `cohere`" in capsys.readouterr().err


def test_two_processes_learn_from_a_teacher_what_one_learns(tmp_path: Path) -> None:
    folder, teacher = numbered(tmp_path / "shards", 23), model_of()
    with torch.no_grad():
        for weights in teacher.parameters():
            weights.add_(torch.randn_like(weights) * 0.3)
    teacher.save_pretrained(tmp_path / "teacher")
    logged = []
    for world in (2, 1):
        settings = {
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2 // world,
            "save_steps": 6,
            "max_steps": 6,
        }
        given = {
            "act": "distill",
            "folder": str(folder),
            "out": str(tmp_path / str(world)),
            "world": world,
            "kill": 0,
            "resume": False,
        }
        settings["teacher"] = str(tmp_path / "teacher")
        assert (
            run_ranks(run_rank, world, json.dumps({**given, "settings": settings})) == [0] * world
        )
        history = json.loads(
            (tmp_path / str(world) / "checkpoint-6" / "trainer_state.json").read_text()
        )["log_history"]
        logged.append(
            [
                (entry["loss"], entry["grad_norm"], entry["teacher_kl"])
                for entry in history
                if "loss" in entry
            ]
        )
        assert trained_rows(tmp_path / str(world)) == list(
            islice(slow_order.steps(23, 3, 4, "carry"), 6)
        )
    assert len(logged[0]) == 6
    for two, one in zip(*logged, strict=True):
        assert two[:2] == pytest.approx(one[:2], rel=1e-4)
        # The mean over all tokens of a step, and the mean of its two batches'.
        assert two[2] == pytest.approx(one[2], rel=0.1)
