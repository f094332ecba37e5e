"""An option that would have no effect, or the opposite one, is refused in one line.

TRL and transformers accept each of them. The same options are accepted where they have an effect.
"""

from pathlib import Path
from typing import Any

import pytest

from train_runs import train, words
from zephyr_fast import ConfigError
from zephyr_fast.train import dpo, sft
from zephyr_fast.train.__main__ import main
from zephyr_fast.train.effects import LOSSES, SMOOTHED

Case = tuple[str, dict[str, Any], str]

REFUSED: list[Case] = [
    ("sft", {"lora_r": 4}, "`lora_r` has no effect without `use_peft: true`"),
    ("dpo", {"use_dora": True}, "`use_dora` has no effect without `use_peft: true`"),
    ("sft", {"lora_target_modules": "q_proj"}, "without `use_peft: true`"),
    ("sft", {"use_bnb_nested_quant": True}, "without `load_in_4bit: true`"),
    ("sft", {"use_peft": True, "lora_task_type": "SEQ_CLS"}, "must be CAUSAL_LM"),
    ("sft", {"fp16": True}, "`fp16` has no effect on a CPU"),
    ("sft", {"do_train": False}, "`do_train: false` has no effect"),
    ("sft", {"max_steps": 0}, "`max_steps: 0` would train `num_train_epochs`"),
    ("dpo", {"max_steps": 0}, "`max_steps: 0` would train `num_train_epochs`"),
    ("sft", {"ignore_data_skip": True}, "a resumed run continues at its exact row"),
    ("sft", {"save_strategy": "steps", "save_steps": 0}, "`save_steps` must be above 0"),
    ("sft", {"eval_strategy": "steps", "eval_steps": 0}, "`eval_steps` must be above 0"),
    (
        "sft",
        {"eval_strategy": "steps", "eval_steps": "inf"},
        "`eval_steps` must be above 0 and fin",
    ),
    ("dpo", {"eval_strategy": "steps", "eval_steps": -1}, "set `eval_strategy: no`"),
    ("sft", {"save_strategy": "steps", "save_steps": "nan"}, "`save_steps` must be above 0"),
    ("sft", {"logging_steps": 0}, "to never log, set `logging_strategy: no`"),
    ("sft", {"logging_steps": -5}, "`logging_steps` must be above 0 and finite, not -5"),
    ("sft", {"eval_strategy": "epoch", "eval_steps": 2}, "without `eval_strategy: steps`; it is"),
    ("dpo", {"save_strategy": "epoch", "save_steps": 2}, "without `save_strategy: steps`; it is"),
    ("sft", {"eval_steps": 2}, "`eval_steps` has no effect without `eval_strategy: steps`"),
    ("sft", {"lr_scheduler_type": "constant", "warmup_steps": 2}, "constant_with_warmup"),
    ("sft", {"optim": "sgd", "adam_beta1": 0.5}, "an optimizer of the Adam family"),
    ("sft", {"optim": "adafactor", "adam_epsilon": 1e-6}, "an optimizer of the Adam family"),
    ("sft", {"eval_delay": 5}, "`eval_delay` has no effect without `eval_strategy: steps`"),
    ("sft", {"metric_for_best_model": "loss"}, "without `load_best_model_at_end: true`"),
    ("sft", {"load_best_model_at_end": True}, "set `eval_strategy` and `save_strategy`"),
    ("sft", {"greater_is_better": True}, "without `load_best_model_at_end: true`"),
    ("sft", {"loss_type": "dft", "label_smoothing_factor": 0.1}, "without `loss_type: nll`"),
    ("sft", {"bf16_full_eval": True}, "evaluations are part of training and use its precision"),
    ("sft", {"save_total_limit": 0}, "`save_total_limit` must be from 1"),
    ("sft", {"max_grad_norm": -1}, "`max_grad_norm` must be from 0"),
    ("sft", {"weight_decay": -1}, "`weight_decay` must be from 0"),
    ("sft", {"adam_beta1": 2}, "`adam_beta1` must be from 0 to below 1"),
    ("sft", {"adam_epsilon": -1}, "`adam_epsilon` must be from 0"),
    ("sft", {"label_smoothing_factor": -0.5}, "`label_smoothing_factor` must be from 0"),
    ("sft", {"optim_args": "a=1"}, "`optim_args` has no effect"),
    ("sft", {"optim_target_modules": "q_proj"}, "`optim_target_modules` has no effect"),
    ("sft", {"model_init_kwargs": '{"torch_dtype": "bfloat16"}'}, "renamed to `dtype`"),
    ("sft", {"model_revision": "v2"}, "`model_revision` has no effect"),
    ("sft", {"activation_checkpointing_kwargs": '{"a": 1}'}, "has an unknown key `a`"),
    ("sft", {"torch_compile": True, "torch_compile_mode": "fast"}, "`torch_compile_mode` `fast`"),
    ("sft", {"activation_offloading": True}, "`activation_offloading` needs a GPU"),
    ("sft", {"teacher_weight": 0.3}, "`teacher_weight` has no effect without `teacher`"),
    ("dpo", {"neftune_noise_alpha": 5.0}, "set `pack: false`"),
    ("dpo", {"label_smoothing": 0.1}, "one of the losses exo_pair, robust, aot"),
    ("dpo", {"label_smoothing": 0.7, "loss_type": "robust"}, "from 0 to below 0.5, not 0.7"),
    ("dpo", {"label_smoothing_factor": 0.1}, "no effect on preference losses"),
    ("dpo", {"beta": 0}, "`beta` must be above 0"),
    ("dpo", {"beta": -0.1}, "`beta` must be above 0"),
    ("dpo", {"loss_weights": 0}, "`loss_weights` must be at least 0"),
    ("dpo", {"loss_weights": -1}, "`loss_weights` must be at least 0"),
    ("dpo", {"f_divergence_type": "kl"}, "unknown `f_divergence_type` `kl`; known: reverse_kl"),
    ("dpo", {"f_alpha_divergence_coef": 0.9}, "without `f_divergence_type: alpha_divergence`"),
    ("dpo", {"ref_model": "m"}, "the reference is the model that the run starts from"),
    ("dpo", {"discopop_tau": 0.9}, "without `loss_type: discopop`"),
    ("dpo", {"discopop_tau": 0, "loss_type": "discopop"}, "`discopop_tau` must be above 0"),
    ("dpo", {"ref_model_sync_steps": 2}, "without `sync_ref_model: true`"),
    ("dpo", {"use_weighting": True, "loss_type": "hinge"}, "not supported by the loss `hinge`"),
    ("dpo", {"use_weighting": True, "loss_type": "sft"}, "not supported by the loss `sft`"),
]


def code_and_error(line: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(line)
    return code, capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("act", "settings", "expected"), REFUSED, ids=lambda one: str(one)[:40].replace("/", "")
)
def test_it_is_refused_in_one_line(
    act: str,
    settings: dict[str, Any],
    expected: str,
    request: pytest.FixtureRequest,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    code, error = code_and_error(words(act, data, start, tmp_path, **settings), capsys)
    assert code == 2
    assert error.startswith("error: ") and expected in error


BUILT: list[Case] = [
    ("sft", {"lr_scheduler_kwargs": '{"a": 1}'}, "`lr_scheduler_type: linear`"),
    ("sft", {"optim": "sgd", "optim_args": "a"}, "cannot build `optim: sgd`"),
]


@pytest.mark.parametrize(("act", "settings", "expected"), BUILT, ids=lambda one: str(one)[:40])
def test_what_an_optimizer_or_a_schedule_does_not_accept_is_one_line(
    act: str,
    settings: dict[str, Any],
    expected: str,
    shards: Path,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, error = code_and_error(words(act, shards, start, tmp_path, **settings), capsys)
    assert code == 2
    assert error.startswith("error: ") and expected in error


@pytest.mark.parametrize("act", ["sft", "dpo"])
@pytest.mark.parametrize(
    "flag", ["lora_target_modules", "lora_modules_to_save", "lora_target_parameters"]
)
def test_a_name_of_an_adapter_that_matches_nothing_is_named(
    act: str,
    flag: str,
    request: pytest.FixtureRequest,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """peft only refuses a list in which no name matches."""
    known = {"lora_target_modules": ["q_proj"], "lora_modules_to_save": ["embed_tokens"]}
    names = [*known.get(flag, []), "qproj"]
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    line = [*words(act, data, start, tmp_path, use_peft=True), f"--{flag}", *names]
    code, error = code_and_error(line, capsys)
    assert (code, error) == (2, f"error: `{flag}`: `qproj` matches nothing in the model")


def test_names_of_an_adapter_that_match_are_accepted(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    line = words("sft", shards, start, tmp_path, use_peft=True, max_steps=1)
    line += ["--lora_target_modules", "q_proj", "self_attn.k_proj"]
    assert main([*line, "--lora_modules_to_save", "embed_tokens", "norm"]) == 0


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    *(("dpo", {"loss_type": loss, "label_smoothing": 0.1}) for loss in SMOOTHED),
    *(("dpo", {"loss_type": loss}) for loss in LOSSES if loss != "exo_pair"),
    ("dpo", {"loss_type": "discopop", "discopop_tau": 0.9}),
    ("sft", {"eval_strategy": "steps", "eval_steps": 0.5, "eval_delay": 1}),
    ("sft", {"optim": "galore_adamw", "optim_target_modules": "q_proj"}),
    ("sft", {"optim": "apollo_adamw", "optim_target_modules": "q_proj"}),
    ("sft", {"eval_strategy": "no", "eval_steps": 5}),
    ("sft", {"save_strategy": "no", "save_steps": 0}),
    ("sft", {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2}),
    ("sft", {"optim": "adamw_torch", "adam_beta1": 0.5, "label_smoothing_factor": 0.1}),
    ("sft", {"save_strategy": "best", "metric_for_best_model": "loss", "eval_strategy": "epoch"}),
    ("dpo", {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.9}),
    ("dpo", {"sync_ref_model": True, "ref_model_mixup_alpha": 0.9, "ref_model_sync_steps": 1}),
    ("dpo", {"neftune_noise_alpha": 5.0, "pack": "false"}),
    ("sft", {"use_peft": True, "lora_r": 4, "use_dora": True, "lora_target_modules": "q_proj"}),
    ("sft", {"do_train": True, "num_train_epochs": 0, "optim": "sgd", "optim_args": "momentum=0"}),
    ("sft", {"activation_checkpointing_kwargs": '{"use_reentrant": false}'}),
]


@pytest.mark.parametrize(("act", "settings"), ACCEPTED, ids=lambda one: str(one)[:60])
def test_it_is_accepted_where_it_has_an_effect(
    act: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    module = {"sft": sft, "dpo": dpo}[act]
    data, training, _ = module.parse(words(act, tmp_path, tmp_path, tmp_path, **settings)[1:])
    if act == "dpo":
        dpo.check_preferences(training, data.pack)


def test_zero_epochs_evaluate_and_train_nothing(shards: Path, start: Path, tmp_path: Path) -> None:
    """As the refusals of `max_steps: 0` and `do_train: false` say."""
    settings = {"max_steps": -1, "num_train_epochs": 0, "eval_strategy": "epoch"}
    out = train("sft", shards, start, tmp_path, **settings)
    before, after = ((folder / "model.safetensors").read_bytes() for folder in (start, out))
    assert len(before) == len(after)
    from safetensors.numpy import load

    first, second = load(before), load(after)
    assert all((first[name] == second[name]).all() for name in first)


def test_intervals_of_a_file_are_checked_with_its_name(tmp_path: Path) -> None:
    """An interval that is `null` is not set, and a strategy of the command line counts."""
    file = tmp_path / "mine.yaml"
    file.write_text("eval_steps: 0\neval_strategy: steps\n", encoding="utf-8")
    line = [*words("sft", tmp_path, tmp_path, tmp_path)[1:], "--config", str(file)]
    with pytest.raises(ConfigError, match=f"{file}: `eval_steps` must be above 0"):
        sft.parse(line)
    sft.parse([*line, "--eval_strategy", "no"])
    file.write_text("liger_kernel_config: {rope: true}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has no effect without `use_liger_kernel: true`"):
        sft.parse(line)
    file.write_text("eval_steps: null\neval_strategy: epoch\n", encoding="utf-8")
    sft.parse(line)
