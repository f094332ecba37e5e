"""dSFT on packed windows is stock TRL's on their documents, one in a row: loss, metrics,
gradients; on packaged rows and on hostile ones.

What TRL offers beside goes through: its other losses, adapters. (Pairs have
`test_packed_pairs.py`.)
"""

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import ModelConfig, SFTConfig, get_peft_config
from trl import SFTTrainer as StockTrainer

import shards_by_hand
from windows import documents
from zephyr_fast import Shards, open_shards, prep
from zephyr_fast.load.collators import Layout, WindowCollator
from zephyr_fast.train import sft
from zephyr_fast.train.trainers import SFTTrainer

WINDOW = 64
QUIET: dict[str, Any] = {
    **{
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "seed": 3,
        "activation_checkpointing": False,
    },
    **{"dataset_kwargs": {"skip_prepare_dataset": True}, "disable_tqdm": True},
}


def hostile_windows() -> list[dict[str, Any]]:
    """A prompt that fills the window but for one token; answers of one token; three equal
    documents; documents of one and of two tokens.
    """
    ids = np.random.default_rng(0).integers(3, 2000, 1000).tolist()
    same = (ids[100:110], 4)
    windows = [
        [(ids[:WINDOW], WINDOW - 1)],
        [(ids[64:80], 15), (ids[80:90], 9), (ids[90:92], 1), (ids[92:100], 7)],
        [same, same, same, (ids[110:120], 5)],
        [(ids[120:121], 1), (ids[121:150], 3), (ids[150:151], 1), (ids[151:180], 28)],
        [(ids[200:260], 0)],  # all of it is an answer
    ]
    rows = []
    for window in windows:
        ids_of_all = [id for tokens, _ in window for id in tokens]
        labels = [label for tokens, prompt in window for label in [-100] * prompt + tokens[prompt:]]
        lengths = [len(tokens) for tokens, _ in window]
        rows.append(
            {
                "input_ids": ids_of_all,
                "labels": labels,
                "seq_lengths": lengths,
                "row_ids": [0] * len(lengths),
            }
        )
    return rows


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shards_by_hand.write(
        tmp_path_factory.mktemp("hostile") / "shards", "sft", {"train": hostile_windows()}, WINDOW
    )


@pytest.fixture(scope="module")
def genuine(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dialogues of UltraChat itself."""
    folder = tmp_path_factory.mktemp("genuine")
    with gzip.open(real / "ultrachat" / "200k_real.jsonl.gz", "rt", encoding="utf-8") as lines:
        (folder / "rows.jsonl").write_text("".join(islice(lines, 40)), encoding="utf-8")
    prep(
        input=folder / "rows.jsonl",
        tokenizer="sample",
        out=folder / "shards",
        overrides={"pack.seq_len": 768},
    )
    return folder / "shards"


@pytest.mark.parametrize("layout", ["rows", "varlen"])
@pytest.mark.parametrize("rows", ["shards", "hostile", "genuine"])
def test_loss_metrics_and_gradients_are_those_of_stock_trl_on_unpacked_documents(
    request: pytest.FixtureRequest, start: Path, tmp_path: Path, rows: str, layout: Layout
) -> None:
    folder: Path = request.getfixturevalue(rows)
    windows = [Shards(folder, "train")[row] for row in range(5)]
    apart = [
        {"input_ids": ids[0].tolist(), "labels": labels[0].tolist()}
        for window in windows
        for ids, labels in documents(window)
    ]
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    config = SFTConfig(output_dir=str(tmp_path), max_length=None, **QUIET)
    stock = StockTrainer(
        model=str(start),
        args=config,
        train_dataset=Dataset.from_list(apart),
        processing_class=tokenizer,
    )
    config = SFTConfig(
        output_dir=str(tmp_path), max_length=768, remove_unused_columns=False, **QUIET
    )
    ours = SFTTrainer(
        model=str(start), args=config, train_dataset=open_shards(folder), processing_class=tokenizer
    )
    found = []
    for trainer, batch in (
        (stock, stock.data_collator(apart)),
        (ours, WindowCollator(layout, tokenizer.pad_token_id)(windows)),
    ):
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        found.append(
            (
                loss.detach(),
                dict(trainer._metrics["train"]),
                [weights.grad for weights in trainer.model.parameters()],
            )
        )
    (theirs, their_metrics, their_gradients), (mine, my_metrics, my_gradients) = found
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    for name in ("entropy", "mean_token_accuracy"):
        assert my_metrics[name] == pytest.approx(their_metrics[name], rel=1e-5, abs=1e-6), name
    for my_gradient, their_gradient in zip(my_gradients, their_gradients, strict=True):
        torch.testing.assert_close(my_gradient, their_gradient, rtol=1e-4, atol=1e-6)


ADAPTER = {"use_peft": True, "lora_r": 4, "lora_alpha": 64}


@pytest.mark.parametrize(
    "settings",
    [{"loss_type": "dft"}, {"label_smoothing_factor": 0.2}, ADAPTER],
    ids=lambda one: next(iter(one)),
)
def test_what_trl_offers_beside_gives_the_losses_of_stock_trl(
    shards: Path, start: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    """One window a step, so that both have tensors of one shape, and with it the same noise."""
    steps = {
        "max_steps": 3,
        "logging_steps": 1,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 1,
        "train_sampling_strategy": "sequential",
    }
    given = {
        "output_dir": tmp_path / "ours",
        **{key: value for key, value in QUIET.items() if key != "dataset_kwargs"},
        **steps,
        **settings,
    }
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    sft.main(*sft.parse(["--shards", str(shards), "--model_name_or_path", str(start), *words]))
    ours = losses(json.loads((tmp_path / "ours" / "trainer_state.json").read_text())["log_history"])

    windows = Shards(shards, "train").samples(range(3))
    names = ("input_ids", "labels", "seq_lengths")
    own = settings if settings is not ADAPTER else {}
    config = SFTConfig(
        output_dir=str(tmp_path / "stock"),
        padding_free=True,
        max_length=None,
        **QUIET,
        **steps,
        **own,
    )
    stock = StockTrainer(
        model=str(start),
        args=config,
        train_dataset=Dataset.from_list(
            [{name: window[name].tolist() for name in names} for window in windows]
        ),
        processing_class=AutoTokenizer.from_pretrained(shards / "tokenizer"),
        peft_config=get_peft_config(ModelConfig(**ADAPTER)) if settings is ADAPTER else None,
    )
    stock.train()
    assert ours == pytest.approx(losses(stock.state.log_history), rel=1e-5)
    assert len(set(ours)) == steps["max_steps"]


def losses(history: list[dict[str, float]]) -> list[float]:
    return [entry["loss"] for entry in history if "loss" in entry]


def test_keys_of_kernels_quantization_and_adapters_reach_trl_as_they_are(tmp_path: Path) -> None:
    words = [
        "--use_liger_kernel",
        "true",
        "--neftune_noise_alpha",
        "5",
        "--load_in_4bit",
        "true",
        "--use_peft",
        "true",
        "--lora_r",
        "16",
    ]
    _, training, model = sft.parse(
        [
            "--shards",
            "s",
            "--output_dir",
            str(tmp_path),
            "--use_cpu",
            "true",
            "--bf16",
            "false",
            *words,
        ]
    )
    assert (training.use_liger_kernel, training.neftune_noise_alpha) == (True, 5)
    assert (model.load_in_4bit, model.use_peft, model.lora_r) == (True, True, 16)
