"""A model that the loss of a causal language model is wrong for is refused before the first step:
it sees later tokens, computes its logits in another way than TRL, or cannot compute the rows.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from shards_by_hand import SAMPLE
from tiny_models import COMMON, FAST, build, tokens
from train_runs import train, words
from zephyr_fast import ConfigError, ref_logprobs
from zephyr_fast.train import causality
from zephyr_fast.train.__main__ import main
from zephyr_fast.train.causality import Fault, check_model

SEES_LATER = "is not a causal language model: the log-probs of a token change by up to"
OTHER_LOGITS = "computes its logits in another way than TRL"


def with_head(model: Any) -> Any:
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model)
    return model


def of_class(name: str, **settings: Any) -> Any:
    """A model of a class that is no entry of `tiny_models`."""
    torch.manual_seed(0)
    config = getattr(transformers, name)(**COMMON | settings)
    model = name.removesuffix("Config")
    kind = {"Bert": "BertLMHeadModel", "Roberta": "RobertaForCausalLM"}[model]
    return with_head(getattr(transformers, kind)(config))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "llama that is not causal": (lambda: build("llama", None, is_causal=False), SEES_LATER),
    "eager attention": (lambda: build("mistral", "eager", is_causal=False), SEES_LATER),
    "embedding model": (
        lambda: build("gemma3_text", None, use_bidirectional_attention=True),
        SEES_LATER,
    ),
    "encoder": (lambda: of_class("BertConfig"), SEES_LATER),
    "another encoder": (lambda: of_class("RobertaConfig"), SEES_LATER),
    "head with a transform": (lambda: of_class("BertConfig", is_decoder=True), OTHER_LOGITS),
    "soft cap that TRL does not know": (
        lambda: build("recurrent_gemma", None, logits_soft_cap=2.0),
        OTHER_LOGITS,
    ),
    "too few positions": (
        lambda: build("mpt", max_seq_len=64),
        "cannot compute rows of up to 128 tokens (RuntimeError: The size of tensor",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_model_that_the_loss_is_wrong_for_is_refused(name: str) -> None:
    model, expected = REFUSED[name]
    with pytest.raises(ConfigError) as caught:
        check_model(model(), tokens(), width=128)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_small_leak_of_small_weights_is_noticed_in_each_dtype() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = build("llama", None, is_causal=False, initializer_range=0.02).to(dtype)
        with pytest.raises(ConfigError, match=SEES_LATER):
            check_model(model, tokens(), width=64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FAST)
def test_causal_models_pass_with_dropout_too(name: str, dtype: torch.dtype) -> None:
    dropout = {"attention_dropout": 0.3, "resid_pdrop": 0.3, "dropout": 0.3, "hidden_dropout": 0.3}
    for settings in ({}, dropout):
        model = build(name, "eager", **settings).to(dtype)
        check_model(model, tokens(), width=256)
        assert model.training


def test_short_and_monotonous_rows_pass() -> None:
    model = build("llama")
    for width in (1, 2, 3, 7):
        check_model(model, np.full(9, 5), width=width)


def test_random_numbers_and_modes_are_restored() -> None:
    model = build("gpt2").eval()
    model.transformer.h[0].train()
    before = torch.get_rng_state()
    check_model(model, tokens(), width=32)
    assert (torch.get_rng_state() == before).all()
    assert model.transformer.h[0].training and not model.transformer.h[1].training


def test_weights_that_are_not_finite_are_left_to_the_check_that_names_rows() -> None:
    model = build("llama")
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    check_model(model, tokens(), width=32)


def test_what_one_rank_finds_stops_all_of_them() -> None:
    model = build("llama")

    def with_other(bad: Fault) -> Callable[[Any], Any]:
        return lambda own: torch.cat([own, torch.tensor([bad])])

    for bad, expected in (
        (Fault(0.5, 0.0), SEES_LATER),
        (Fault(0.0, 0.5), OTHER_LOGITS),
        (Fault(float("nan"), 0.0), SEES_LATER),
        (Fault(float("inf"), float("inf")), "on another rank"),
    ):
        with pytest.raises(ConfigError, match=expected):
            check_model(model, tokens(), width=32, gather=with_other(bad))
    check_model(model, tokens(), width=32, gather=with_other(Fault(0.0, 0.0)))


@pytest.fixture
def sees_later(tmp_path: Path) -> Path:
    """The packaged model with random weights, as a directory that says that it is not causal."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(SAMPLE / "model")
    config.is_causal = False
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("pack", ["auto", "false"])
@pytest.mark.parametrize("act", ["sft", "dpo"])
def test_the_commands_refuse_it_in_one_line_and_save_nothing(
    act: str,
    pack: str,
    request: pytest.FixtureRequest,
    sees_later: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    assert main(words(act, data, sees_later, tmp_path / "out", pack=pack)) == 2
    assert SEES_LATER in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_a_teacher_and_a_stored_reference_are_checked_too(
    shards: Path,
    prefs: Path,
    start: Path,
    sees_later: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(words("sft", shards, start, tmp_path / "out", teacher=sees_later)) == 2
    assert SEES_LATER in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(ConfigError, match=SEES_LATER):
        ref_logprobs(prefs, str(sees_later))


def test_the_check_is_done_once_per_run(
    shards: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    stock = causality.check_model

    def counted(*args: Any, **kwargs: Any) -> None:
        calls.append(kwargs["width"])
        stock(*args, **kwargs)

    monkeypatch.setattr(causality, "check_model", counted)
    train("sft", shards, start, tmp_path, eval_strategy="steps", eval_steps=1)
    assert calls == [256]
