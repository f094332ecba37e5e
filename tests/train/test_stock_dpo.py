"""Preference training equals stock TRL's on ten set-ups drawn at random: loss, every gradient and
every metric of the first steps.

Both start from the same text. Stock `DPOTrainer` renders, tokenizes, truncates and pads it. Ours
goes through `binarize`, `ref-logprobs` and the training command. The second step shows what the
first cannot: there, the policy is not the reference any more.
"""

import json
import random
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from transformers import trainer as transformers_trainer
from trl import DPOConfig, DPOTrainer, ModelConfig, get_peft_config

from shards_by_hand import SAMPLE
from tiny_models import build
from train_runs import SETTINGS, history, words
from zephyr_fast import Shards, binarize
from zephyr_fast.train.__main__ import main
from zephyr_fast.train.effects import LOSSES, SMOOTHED, UNWEIGHTED
from zephyr_fast.train.ref_logprobs.compute import ref_logprobs

STEPS = 2
PAIRS = 24
ARCHITECTURES = [
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gpt2", "phi", "phi3"),
    *("gpt_neox", "mixtral", "olmo2", "gpt_bigcode", "stablelm"),
]
LENGTHS = (1, 3, 12, 40, 110)
"""Words of a prompt or completion. One word is about two tokens."""

ADAPTER: dict[str, Any] = {
    **{"use_peft": True, "lora_r": 4, "lora_alpha": 64, "lora_dropout": 0.0},
    "lora_target_modules": ["all-linear"],
}


@dataclass(frozen=True)
class Setup:
    """What is drawn for one comparison."""

    seed: int
    architecture: str
    attention: str
    max_length: int
    batch: int
    accumulation: int
    is_stored: bool
    pack: str
    recomputes: bool
    options: dict[str, Any]
    adapter: dict[str, Any]

    def __str__(self) -> str:
        losses = "+".join(self.options["loss_type"])
        reference = "stored" if self.is_stored else "memory"
        return f"{self.architecture}-{losses}-{reference}-{self.pack}"


def drawn() -> list[Setup]:
    """Return ten set-ups that have each loss at least once, from a fixed seed."""
    draw = random.Random(19)
    architectures = draw.sample(ARCHITECTURES, 10)
    losses = draw.sample(LOSSES, len(LOSSES))
    chosen = [[one] for one in losses[:5]] + [
        list(two) for two in zip(losses[5:10], losses[10:], strict=True)
    ]
    packs = ["true", "true", "false", "true", "auto"]
    return [
        Setup(
            seed=draw.randrange(1000),
            architecture=architecture,
            attention=draw.choice(["sdpa", "eager"]),
            max_length=draw.choice([48, 96, 200]),
            batch=draw.choice([1, 2, 3, 4]),
            accumulation=draw.choice([1, 2, 3]),
            is_stored=number % 2 == 0,
            pack=pack,
            recomputes=draw.choice([True, False]),
            options=_options(draw, mine),
            adapter=draw.choice([{}, ADAPTER]),
        )
        for number, (architecture, mine, pack) in enumerate(
            zip(architectures, chosen, islice(cycle(packs), 10), strict=True)
        )
    ]


def _options(draw: random.Random, losses: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "loss_type": losses,
        "loss_weights": [round(draw.uniform(0.2, 2), 2) for _ in losses],
        "beta": draw.choice([0.01, 0.1, 0.5]),
    }
    if set(SMOOTHED) & set(losses):
        options["label_smoothing"] = draw.choice([1e-3, 0.1, 0.3])
    if "discopop" in losses:
        options["discopop_tau"] = 0.5  # the default, 0.05, multiplies rounding by 20
    if draw.random() < 0.5 and not set(UNWEIGHTED) & set(losses):
        options["use_weighting"] = True
    return options


def rows(seed: int) -> list[dict[str, Any]]:
    """Pairs of very different lengths, some of which are truncated."""
    draw = random.Random(seed)
    known = ["the", "of", "and", "to", "in", "that", "it", "with", "as", "why", "not", "one"]

    def text(index: int) -> str:
        return " ".join([str(index), *draw.choices(known, k=draw.choice(LENGTHS))])

    def message(role: str, index: int) -> dict[str, str]:
        return {"role": role, "content": text(index)}

    return [
        {
            "prompt": [message("user", index)],
            "chosen": [message("assistant", 2 * index)],
            "rejected": [message("assistant", 2 * index + 1)],
        }
        for index in range(PAIRS)
    ]


class Recorder(TrainerCallback):
    """Keeps the gradients of each step of each run, before they change a weight."""

    def __init__(self) -> None:
        self.runs: list[list[dict[str, torch.Tensor]]] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.runs.append([])

    def on_pre_optimizer_step(self, *_: Any, model: Any, **__: Any) -> None:
        self.runs[-1].append(
            {
                name: weights.grad.detach().clone()
                for name, weights in model.named_parameters()
                if weights.grad is not None
            }
        )


def shared(setup: Setup) -> dict[str, Any]:
    """The arguments of both runs. SGD moves weights in proportion to their gradients, so noise
    stays noise; Adam would make whole steps of it.
    """
    return {
        **SETTINGS,
        "seed": setup.seed,
        "max_steps": STEPS,
        "optim": "sgd",
        "learning_rate": 0.1 if setup.adapter else 3e-3,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,  # the norm before that is compared as well
        "activation_checkpointing": setup.recomputes,
        "train_sampling_strategy": "sequential",
        "per_device_train_batch_size": setup.batch,
        "gradient_accumulation_steps": setup.accumulation,
    }


def stock(setup: Setup, model: Path, prefs: Path, out: Path) -> list[dict[str, Any]]:
    """Train with TRL alone, and return what it logged."""
    text = [
        {name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows(setup.seed)
    ]
    trainer = DPOTrainer(
        model=str(model),
        args=DPOConfig(
            output_dir=str(out),
            max_length=setup.max_length,
            precompute_ref_log_probs=setup.is_stored,
            model_init_kwargs={"attn_implementation": setup.attention},
            **shared(setup),
            **setup.options,
        ),
        train_dataset=Dataset.from_list(text),
        processing_class=AutoTokenizer.from_pretrained(prefs / "tokenizer"),
        peft_config=get_peft_config(ModelConfig(**setup.adapter)) if setup.adapter else None,
    )
    ours = list(Shards(prefs, "train"))
    assert len(ours) == len(trainer.train_dataset)
    trainer.train()
    entries: list[dict[str, Any]] = trainer.state.log_history
    return entries


def ours(setup: Setup, model: Path, prefs: Path, out: Path) -> list[dict[str, Any]]:
    """Train with our command, and return what it logged."""
    if setup.is_stored:
        ref_logprobs(prefs, str(model), attention=setup.attention)
    given = {
        **shared(setup),
        **{name: one for name, one in setup.options.items() if not isinstance(one, list)},
        **{name: one for name, one in setup.adapter.items() if not isinstance(one, list)},
        "precompute_ref_log_probs": setup.is_stored,
        "attn_implementation": setup.attention,
        "pack": setup.pack,
    }
    lists = [
        word
        for name, value in {**setup.options, **setup.adapter}.items()
        if isinstance(value, list)
        for word in (f"--{name}", *map(str, value))
    ]
    assert main([*words("dpo", prefs, model, out, **given), *lists]) == 0
    return history(out)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A callback of every trainer that is built in the test."""
    one = Recorder()
    callbacks = [*transformers_trainer.DEFAULT_CALLBACKS, one]
    monkeypatch.setattr(transformers_trainer, "DEFAULT_CALLBACKS", callbacks)
    return one


@pytest.mark.parametrize("setup", drawn(), ids=str)
def test_loss_gradients_and_metrics_are_those_of_stock_trl(
    setup: Setup, recorder: Recorder, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    build(
        setup.architecture, setup.attention, vocab_size=2048, initializer_range=0.05
    ).save_pretrained(model)
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows(setup.seed))
    )
    template, prefs = tmp_path / "zephyr-bos.jinja", tmp_path / "prefs"
    zephyr = (SAMPLE.parent / "templates" / "zephyr.jinja").read_text(encoding="utf-8")
    template.write_text("{{ bos_token }}" + zephyr, encoding="utf-8")
    binarize(
        "pairs",
        input=tmp_path / "rows.jsonl",
        tokenizer="sample",
        out=prefs,
        overrides={"binarize.max_length": setup.max_length, "template.name": str(template)},
    )
    theirs = stock(setup, model, prefs, tmp_path / "stock")
    mine = ours(setup, model, prefs, tmp_path / "ours")
    their_gradients, my_gradients = recorder.runs
    for step in range(STEPS):
        check_metrics(theirs[step], mine[step], has_margins=step > 0)
        check_gradients(their_gradients[step], my_gradients[step])


def check_metrics(theirs: dict[str, Any], mine: dict[str, Any], *, has_margins: bool) -> None:
    """Compare the loss, the norm of the gradient and TRL's metrics of one step."""
    names = {"loss", "grad_norm", "num_tokens", "rewards/margins", "logps/chosen", "entropy"}
    assert names <= set(theirs) == set(mine) - {"weights_moved"}
    if not has_margins:  # all pairs are equally likely but for rounding
        theirs = {name: one for name, one in theirs.items() if name != "rewards/accuracies"}
    for name, value in theirs.items():
        assert mine[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
    assert theirs["grad_norm"] > 1e-3


def check_gradients(theirs: dict[str, torch.Tensor], mine: dict[str, torch.Tensor]) -> None:
    """Compare the gradient of each parameter, relative to its largest entry."""
    assert set(theirs) == set(mine)
    for name, expected in theirs.items():
        largest = float(expected.abs().max())
        torch.testing.assert_close(
            mine[name],
            expected,
            rtol=0,
            atol=1e-5 * largest + 1e-9,
            msg=lambda m, n=name: f"{n}: {m}",
        )
