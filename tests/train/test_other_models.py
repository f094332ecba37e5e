"""Models that are no causal language models are refused, and files that lack weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from shards_by_hand import SAMPLE
from train_runs import train, words
from zephyr_fast import InputError, ref_logprobs
from zephyr_fast.train.__main__ import main


def t5() -> Any:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(vocab_size=2048, **sizes))


def bert() -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    positions = {"max_position_embeddings": 1024}
    return BertForMaskedLM(BertConfig(vocab_size=2048, **sizes, **positions))


def classifier() -> Any:
    return AutoModelForSequenceClassification.from_config(
        AutoConfig.from_pretrained(SAMPLE / "model")
    )


KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "t5": (t5, "is an encoder-decoder (`t5`)"),
    "bert": (bert, "is a `BertForMaskedLM` according to its `config.json`"),
    "classifier": (classifier, "is a `MistralForSequenceClassification`"),
}


@pytest.mark.parametrize("act", ["sft", "dpo"])
@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_model_is_refused_in_one_line(
    kind: str,
    act: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build, expected = KINDS[kind]
    build().save_pretrained(tmp_path / "model")
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    assert main(words(act, data, tmp_path / "model", tmp_path / "out")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and expected in error


def without(start: Path, folder: Path, part: str) -> Path:
    """A copy of a model without the weights whose names contain `part`."""
    shutil.copytree(start, folder)
    kept = {name: one for name, one in load_file(start / "model.safetensors").items()}
    kept = {name: one for name, one in kept.items() if part not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_files_that_lack_weights_are_not_completed_with_random_ones(
    shards: Path,
    prefs: Path,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torn = without(start, tmp_path / "torn", "layers.1.mlp")
    for line in (
        words("sft", shards, torn, tmp_path / "out"),
        words("dpo", prefs, torn, tmp_path / "out"),
        words("sft", shards, start, tmp_path / "out", teacher=torn),
    ):
        assert main(line) == 4
        error = capsys.readouterr().err.splitlines()[-1]
        assert "its files lack 3 of its weights, such as `model.layers.1.mlp" in error
    with pytest.raises(InputError, match="lack 3 of its weights"):
        ref_logprobs(prefs, str(torn))


def test_an_adapter_file_that_lacks_weights_is_refused(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = train("sft", shards, start, tmp_path / "adapter", use_peft=True, max_steps=1)
    file = adapter / "adapter_model.safetensors"
    kept = {name: one for name, one in load_file(file).items() if "layers.1" not in name}
    save_file(kept, file, metadata={"format": "pt"})
    assert main(words("sft", shards, adapter, tmp_path / "out")) == 4
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"cannot load the adapter `{adapter}`" in error and "missing adapter keys" in error


def test_a_config_without_architecture_is_named(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(start, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"architectures": None}))
    assert main(words("sft", shards, model, tmp_path / "out")) == 4
    assert "`architectures` is missing" in capsys.readouterr().err.splitlines()[-1]


def test_tied_weights_may_be_missing(shards: Path, start: Path, tmp_path: Path) -> None:
    model = without(start, tmp_path / "model", "lm_head")
    assert json.loads((model / "config.json").read_text())["tie_word_embeddings"]
    train("sft", shards, model, tmp_path / "out", max_steps=1)
