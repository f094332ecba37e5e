"""A run says so where transformers tokenizes a model's files to other ids than the shards have."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import SFTConfig

from real_data import real_path
from train_runs import SETTINGS, train
from zephyr_fast import Manifest, open_shards, prep
from zephyr_fast.train.model import check_fit, load_tokenizer
from zephyr_fast.train.tokenizer_ids import differs_from_file
from zephyr_fast.train.trainers import SFTTrainer

FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")


def prepared(name: str, folder: Path) -> tuple[Path, Path]:
    """The packaged dialogues with a real tokenizer, and a small base model with its files."""
    tokenizer = real_path(f"tokenizers/{name}")
    keys = {"pack.seq_len": 256, "template.name": "zephyr"}
    prep(input="sample", out=folder / "shards", tokenizer=tokenizer, overrides=keys)
    size = Tokenizer.from_file(str(tokenizer / "tokenizer.json")).get_vocab_size()
    config = LlamaConfig(
        vocab_size=size, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    for file in FILES:
        if (tokenizer / file).exists():
            shutil.copy(tokenizer / file, folder / "base")
    return folder / "shards", folder / "base"


def test_a_run_on_files_that_transformers_reads_otherwise_says_so_and_saves_the_right_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, base = prepared("mistral-7b-v0.1", tmp_path)
    exact = (shards / "tokenizer" / "tokenizer.json").read_bytes()
    assert differs_from_file(AutoTokenizer.from_pretrained(base), exact)
    out = train("sft", shards, base, tmp_path / "out", max_steps=1)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "other ids" in line]
    assert line.startswith(f"warning: with the tokenizer of `{base}`, transformers gives other ids")
    assert "'Hi</s> a' gets [15359, 2, 264] instead of [15359, 2, 28705, 264]" in line
    assert differs_from_file(AutoTokenizer.from_pretrained(out), exact) is None


def test_files_whose_step_for_digits_is_dropped_give_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, base = prepared("smollm2-135m-instruct", tmp_path)
    manifest = Manifest.read(shards)
    check_fit(str(base), [manifest], load_tokenizer(str(shards), manifest), trust=False)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "other ids" in line]
    assert "'2 ½ cups' gets" in line


@pytest.mark.parametrize("number", ["½", "②", "٤", "२", "６", "𝟚"])
def test_a_step_for_digits_that_transformers_drops_is_seen(number: str, tmp_path: Path) -> None:
    """A tokenizer like SmolLM2's, in which a space joins the first byte of a number."""
    split = pre_tokenizers.ByteLevel(False)
    space, byte = (split.pre_tokenize_str(text)[0][0][0] for text in (" ", number))
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), space + byte]
    exact = Tokenizer(BPE({word: id for id, word in enumerate(words)}, [(space, byte)]))
    exact.add_special_tokens(["<|endoftext|>"])
    exact.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), split])
    exact.save(str(tmp_path / "tokenizer.json"))
    content = (tmp_path / "tokenizer.json").read_bytes()
    seen = {}
    for name in ("GPT2Tokenizer", "PreTrainedTokenizerFast"):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
        seen[name] = differs_from_file(AutoTokenizer.from_pretrained(tmp_path), content)
    assert seen["PreTrainedTokenizerFast"] is None
    assert seen["GPT2Tokenizer"] and number in seen["GPT2Tokenizer"]


@pytest.mark.parametrize("name", ["qwen3", "llama-3"])
def test_files_that_transformers_reads_as_they_are_give_no_warning(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, base = prepared(name, tmp_path)
    manifest = Manifest.read(shards)
    check_fit(str(base), [manifest], load_tokenizer(str(shards), manifest), trust=False)
    assert "other ids" not in capsys.readouterr().err


def test_a_notebook_that_passes_the_tokenizer_of_the_model_is_told_to_pass_that_of_the_shards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, base = prepared("mistral-7b-v0.1", tmp_path)
    for folder in (base, shards / "tokenizer"):
        SFTTrainer(
            str(base),
            args=SFTConfig(str(tmp_path), **SETTINGS),
            train_dataset=open_shards(shards).select(range(4)),
            processing_class=AutoTokenizer.from_pretrained(folder, pad_token="</s>"),
        )
        said = capsys.readouterr().err
        is_told = f"use the tokenizer in `{shards}/tokenizer`" in said
        assert is_told == (folder == base), said
