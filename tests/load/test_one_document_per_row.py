"""One document per row: the dialogues as they were tokenized, safe in trainers that do not know
packed rows.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorWithFlattening
from trl import SFTConfig
from trl import SFTTrainer as StockTrainer

from train_runs import SETTINGS
from zephyr_fast import ConfigError, IntegrityError, Shards, open_documents, prep
from zephyr_fast.load.collators import WindowCollator

TEMPLATE = (
    "{% for message in messages %}[{{ message['role'] }}]{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
)


def columns(data: Dataset, *names: str) -> list[tuple[Any, ...]]:
    return sorted(zip(*(map(tuple, data[name]) for name in names), strict=True))


def test_rows_are_those_of_apply_chat_template(shards: Path, tmp_path: Path) -> None:
    template = tmp_path / "turns.jinja"
    template.write_text(TEMPLATE)
    overrides = {"template.name": str(template), "pack.seq_len": 8192}
    prep(input="sample", out=tmp_path / "out", overrides=overrides)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    tokenizer.chat_template = "{{ bos_token }}" + TEMPLATE
    text = load_dataset(str(tmp_path / "out"), data_dir="text", split="train")
    expected = [
        tokenizer.apply_chat_template(one, return_assistant_tokens_mask=True, return_dict=True)
        for one in text["messages"]
    ]
    labels = [
        [id if trained else -100 for id, trained in zip(one["input_ids"], mask, strict=True)]
        for one in expected
        for mask in [one["assistant_masks"]]
    ]
    rows = open_documents(tmp_path / "out")
    wanted = Dataset.from_dict({"ids": [one["input_ids"] for one in expected], "labels": labels})
    assert len(rows) > 100
    assert columns(rows, "input_ids", "labels") == columns(wanted, "ids", "labels")
    assert all(
        set(mask) == {1} and len(mask) == len(ids)
        for mask, ids in zip(rows["attention_mask"], rows["input_ids"], strict=True)
    )


def test_a_copy_in_parquet_has_the_same_rows(shards: Path, tmp_path: Path) -> None:
    rows = open_documents(shards, "test")
    rows.to_parquet(tmp_path / "test.parquet")
    copy = Dataset.from_parquet(str(tmp_path / "test.parquet"), cache_dir=str(tmp_path))
    assert copy.to_dict() == rows.to_dict()
    lengths = np.concatenate([row["seq_lengths"] for row in Shards(shards, "test")])
    assert [len(ids) for ids in copy["input_ids"]] == lengths.tolist()


def test_the_flattening_collator_gives_the_loss_of_packed_rows(shards: Path, start: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(start).eval()
    packed, rows = Shards(shards, "train"), open_documents(shards)
    first = 0
    for row in range(3):
        last = first + len(packed[row]["seq_lengths"])
        documents = [rows[index] for index in range(first, last)]
        flat = DataCollatorWithFlattening(return_tensors="pt")(documents)
        own = WindowCollator("rows", 0)([packed[row]])
        with torch.inference_mode():
            losses = [float(model(**batch, use_cache=False).loss) for batch in (flat, own)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)
        first = last


def test_a_stock_trainer_with_its_defaults_trains_on_isolated_documents(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    few = open_documents(shards).select(range(4))
    settings = {**SETTINGS, "train_sampling_strategy": "sequential", "learning_rate": 0}
    trainer = StockTrainer(
        str(start),
        args=SFTConfig(str(tmp_path), max_length=None, **settings),
        train_dataset=few,
        processing_class=AutoTokenizer.from_pretrained(shards / "tokenizer"),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    model = AutoModelForCausalLM.from_pretrained(start).eval()
    assert losses == pytest.approx([mean_loss(model, few, (0, 1)), mean_loss(model, few, (2, 3))])


def mean_loss(model: Any, rows: Dataset, numbers: tuple[int, ...]) -> float:
    """The loss per label token of documents, each computed alone."""
    summed = tokens = 0.0
    for number in numbers:
        ids, labels = (torch.tensor(rows[number][name]) for name in ("input_ids", "labels"))
        with torch.inference_mode():
            logits = model(input_ids=ids[None]).logits[0, :-1]
        summed += float(torch.nn.functional.cross_entropy(logits, labels[1:], reduction="sum"))
        tokens += int((labels[1:] != -100).sum())
    return summed / tokens


def test_pairs_are_refused_and_a_damaged_batch_is_found_at_once(
    prefs: Path, shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="one per row already"):
        open_documents(prefs)
    copy = shutil.copytree(shards, tmp_path / "copy")
    file = copy / Shards(copy, "train").manifest.split("train").shards[0].file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match="wrong checksum"):
        open_documents(copy)
