"""DPO without dropout, as `disable_dropout` says, in models that keep its probability as a number.

TRL only sets those of `Dropout` layers. Its reference has none, so its first loss is not log 2.
"""

from math import log
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tiny_models import ALL, COMMON, build
from train_runs import history, train, words
from zephyr_fast import Shards
from zephyr_fast.train.__main__ import main
from zephyr_fast.train.dropout import disable_dropout

DROPOUT = 0.3
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"attention_dropout": DROPOUT},
    "opt": ALL["opt"] | {"dropout": DROPOUT, "attention_dropout": DROPOUT},
    "xglm": ALL["xglm"] | {"dropout": DROPOUT, "layerdrop": DROPOUT},
    "gpt2": {"attn_pdrop": DROPOUT, "resid_pdrop": DROPOUT, "embd_pdrop": DROPOUT},
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A small model with dropout, saved as a directory."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 2048, "max_position_embeddings": 1024}
    config = AutoConfig.for_model(request.param, **COMMON | MODELS[request.param] | sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def log_probs(model: Any, prefs: Path, side: str) -> float:
    """The log-prob of an answer, of the first two pairs, as the mean."""
    found = []
    for row in range(2):
        pair = Shards(prefs, "train")[row]
        prompt, answer = pair["prompt_ids"].tolist(), pair[side].tolist()
        ids = torch.tensor([prompt + answer])
        with torch.inference_mode():
            values = model(ids, use_cache=False).logits[0, :-1].log_softmax(-1)
        found.append(values.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum().item())
    return sum(found) / len(found)


def test_the_first_step_of_dpo_draws_no_dropout(model: Path, prefs: Path, tmp_path: Path) -> None:
    settings = {"max_steps": 1, "train_sampling_strategy": "sequential"}
    first = history(train("dpo", prefs, model, tmp_path / "out", **settings))[0]
    assert first["loss"] == pytest.approx(log(2), abs=1e-5)
    plain = AutoModelForCausalLM.from_pretrained(model).eval()
    for side in ("chosen", "rejected"):
        expected = log_probs(plain, prefs, f"{side}_ids")
        assert first[f"logps/{side}"] == pytest.approx(expected, rel=1e-5)


def test_dropout_that_is_asked_for_is_drawn(prefs: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 2048, "max_position_embeddings": 1024}
    config = AutoConfig.for_model("llama", **COMMON | MODELS["llama"] | sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    settings = {"max_steps": 1, "disable_dropout": False}
    first = history(train("dpo", prefs, tmp_path / "model", tmp_path / "out", **settings))[0]
    assert abs(first["loss"] - log(2)) > 1e-3
    saved = AutoConfig.from_pretrained(tmp_path / "out")
    assert saved.attention_dropout == DROPOUT


def test_all_probabilities_are_zero_and_the_configuration_is_kept() -> None:
    model = build("opt", dropout=DROPOUT, attention_dropout=DROPOUT)
    disable_dropout(model)
    kept = [
        value
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, float) and ("drop" in name or name == "p")
    ]
    assert kept and not any(kept)
    assert model.config.dropout == DROPOUT


def test_an_adapter_dropout_that_is_switched_off_is_named(
    prefs: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"use_peft": True, "max_steps": 1}
    warning = "`lora_dropout` has no effect, because `disable_dropout` is true"
    assert main(words("dpo", prefs, start, tmp_path / "a", lora_dropout=0.1, **settings)) == 0
    assert warning in capsys.readouterr().err
    quiet = {"lora_dropout": 0.1, "disable_dropout": False}
    assert main(words("dpo", prefs, start, tmp_path / "b", **settings, **quiet)) == 0
    assert main(words("dpo", prefs, start, tmp_path / "c", **settings)) == 0
    assert warning not in capsys.readouterr().err
