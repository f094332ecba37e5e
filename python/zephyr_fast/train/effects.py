"""Reject options of a training config that would have no effect on this run.

TRL and transformers accept them silently. `lora_r` without `use_peft` trains all weights, and
`label_smoothing` with most losses changes nothing.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any

from zephyr_fast._core import ConfigError
from zephyr_fast.train.model import log
from zephyr_fast.train.unsupported_keys import UNSUPPORTED_LOSSES

LOSSES = (
    *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard"),
    *("aot", "aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
)
"""The values of `loss_type` that TRL implements. It would fail for others in the first step."""

SMOOTHED = ("exo_pair", "robust", "aot", "aot_unpaired")
"""The losses that depend on `label_smoothing`."""

UNWEIGHTED = ("hinge", "sft", "aot", "aot_unpaired")
"""The losses for which TRL cannot compute `use_weighting`."""

DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")

_ADAPTER = (
    *("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_target_parameters"),
    *("lora_modules_to_save", "use_rslora", "use_dora"),
)

_WITHOUT_BETAS = (
    *("sgd", "adagrad", "rmsprop", "adafactor", "galore_adafactor", "lomo", "adalomo"),
    "schedule_free_sgd",
)
"""The beginnings of the names of optimizers that have no `adam_*` settings."""

_WITHOUT_WARMUP = ("constant", "reduce_lr_on_plateau", "greedy")

NEEDS: dict[tuple[str, ...], tuple[str, Callable[[Any, Any], bool]]] = {
    _ADAPTER: ("`use_peft: true`", lambda _training, model: model.use_peft),
    ("bnb_4bit_quant_type", "use_bnb_nested_quant", "bnb_4bit_quant_storage"): (
        "`load_in_4bit: true`",
        lambda _training, model: model.load_in_4bit,
    ),
    ("ref_model_mixup_alpha", "ref_model_sync_steps"): (
        "`sync_ref_model: true`",
        lambda training, _model: training.sync_ref_model,
    ),
    ("f_alpha_divergence_coef",): (
        "`f_divergence_type: alpha_divergence`",
        lambda training, _model: training.f_divergence_type == "alpha_divergence",
    ),
    ("discopop_tau",): (
        "`loss_type: discopop`",
        lambda training, _model: "discopop" in training.loss_type,
    ),
    ("label_smoothing",): (
        f"one of the losses {', '.join(SMOOTHED)}",
        lambda training, _model: bool(set(SMOOTHED) & set(training.loss_type)),
    ),
    ("label_smoothing_factor",): (
        "`loss_type: nll`",
        lambda training, _model: training.loss_type != "dft",
    ),
    ("warmup_steps",): (
        "a schedule with a warmup; set `lr_scheduler_type: constant_with_warmup`",
        lambda training, _model: training.lr_scheduler_type not in _WITHOUT_WARMUP,
    ),
    ("adam_beta1", "adam_beta2", "adam_epsilon"): (
        "an optimizer of the Adam family (`optim`)",
        lambda training, _model: not training.optim.value.startswith(_WITHOUT_BETAS),
    ),
    ("eval_delay",): (
        "`eval_strategy: steps` or `epoch`",
        lambda training, _model: training.eval_strategy != "no",
    ),
    ("load_best_model_at_end",): (
        "evaluations and checkpoints; set `eval_strategy` and `save_strategy`",
        lambda training, _model: "no" not in (training.eval_strategy, training.save_strategy),
    ),
    ("metric_for_best_model", "greater_is_better"): (
        "`load_best_model_at_end: true` or `save_strategy: best`",
        lambda training, _model: (
            training.load_best_model_at_end
            or training.save_strategy == "best"
            or training.lr_scheduler_type in _WITHOUT_WARMUP[1:]  # they read it
        ),
    ),
    ("liger_kernel_config",): (
        "`use_liger_kernel: true`",
        lambda training, _model: training.use_liger_kernel,
    ),
    ("optim_target_modules",): (
        "an optimizer that projects gradients (`optim: galore_…` or `apollo_…`)",
        lambda training, _model: training.optim.value.startswith(("galore", "apollo")),
    ),
    ("optim_args",): (
        "an optimizer that reads them, which these do not: adamw_torch, adamw_torch_fused, "
        "adafactor",
        lambda training, _model: (
            training.optim not in ("adamw_torch", "adamw_torch_fused", "adafactor")
        ),
    ),
}
"""Options, and the settings that they have no effect without."""

RECOMPUTING = ("use_reentrant", "preserve_rng_state", "determinism_check", "debug", "early_stop")
"""The keys of `activation_checkpointing_kwargs`, as torch names its arguments."""


def check_effects(training: Any, model: Any, given: Iterable[str]) -> None:
    """Raise ConfigError for an option without effect, or for one that contradicts another.

    Args:
        training: TRL's SFTConfig or DPOConfig.
        model: TRL's ModelConfig.
        given: The keys that the user set.
    """
    for keys, (need, is_met) in NEEDS.items():
        for key in keys:
            if _is_changed(training, model, key) and not is_met(training, model):
                raise ConfigError(f"`{key}` has no effect without {need}")
    if model.lora_task_type != "CAUSAL_LM":
        raise ConfigError("`lora_task_type` must be CAUSAL_LM; other tasks have other losses")
    if training.fp16 and training.device.type == "cpu":
        raise ConfigError("`fp16` has no effect on a CPU; remove it, or set `bf16: true`")
    if training.activation_offloading and training.device.type == "cpu":
        raise ConfigError("`activation_offloading` needs a GPU, whose activations it moves")
    if "do_train" in given and not training.do_train:
        raise ConfigError(
            "`do_train: false` has no effect; to evaluate only, set `num_train_epochs: 0`"
        )
    if training.ignore_data_skip and training.train_sampling_strategy == "random":
        raise ConfigError(
            "`ignore_data_skip` has no effect, because a resumed run continues at its exact row; "
            "start a new run with the checkpoint as `--model_name_or_path`"
        )
    if "lora_dropout" in given and model.lora_dropout and getattr(training, "disable_dropout", 0):
        log(
            "warning: `lora_dropout` has no effect, because `disable_dropout` is true unless it is "
            "set to false"
        )
    _check_tables(training)
    if model.model_revision != "main" and os.path.isdir(str(model.model_name_or_path)):
        raise ConfigError(
            f"`model_revision` has no effect, because `{model.model_name_or_path}` is a directory"
        )
    if os.path.lexists(training.output_dir) and not os.path.isdir(training.output_dir):
        raise ConfigError(f"`output_dir: {training.output_dir}` is not a directory")


def check_preferences(training: Any, pack: str) -> None:
    """Raise ConfigError for options of DPO that are unknown or contradict each other."""
    losses = training.loss_type
    for loss in losses:
        if loss not in LOSSES:
            hint = f"; {UNSUPPORTED_LOSSES[loss]}" if loss in UNSUPPORTED_LOSSES else ""
            raise ConfigError(f"unknown `loss_type` `{loss}`; known: {', '.join(LOSSES)}{hint}")
    if "exo_pair" in losses and not training.label_smoothing > 0:
        raise ConfigError("`loss_type: exo_pair` needs a `label_smoothing` above 0, e.g. 1e-3")
    if training.use_weighting and (found := [loss for loss in losses if loss in UNWEIGHTED]):
        raise ConfigError(f"`use_weighting` is not supported by the loss `{found[0]}`")
    if training.f_divergence_type not in DIVERGENCES:
        raise ConfigError(
            f"unknown `f_divergence_type` `{training.f_divergence_type}`; known: "
            f"{', '.join(DIVERGENCES)}"
        )
    weights = training.loss_weights
    if weights and not (all(weight >= 0 for weight in weights) and any(weights)):
        raise ConfigError("`loss_weights` must be at least 0, and one of them above 0")
    if training.label_smoothing_factor:
        raise ConfigError(
            "`label_smoothing_factor` has no effect on preference losses; see `label_smoothing`"
        )
    check_noise(training, pack)


def check_noise(training: Any, pack: str) -> None:
    """Raise ConfigError for NEFTune on packed rows."""
    if training.neftune_noise_alpha and pack != "false":
        raise ConfigError(
            "`neftune_noise_alpha` scales its noise by the length of a row, not by that of a "
            "packed document; set `pack: false`"
        )


def _check_tables(training: Any) -> None:
    """Raise ConfigError for keys and modes that torch would ignore or report obscurely."""
    for key in training.activation_checkpointing_kwargs or {}:
        if key not in RECOMPUTING:
            raise ConfigError(
                f"`activation_checkpointing_kwargs` has an unknown key `{key}`; known: "
                f"{', '.join(RECOMPUTING)}"
            )
    if isinstance(training.model_init_kwargs, dict) and "torch_dtype" in training.model_init_kwargs:
        raise ConfigError("`torch_dtype` of `model_init_kwargs` is renamed to `dtype`")
    if training.torch_compile_mode is not None:
        import torch._inductor

        if training.torch_compile_mode not in (modes := torch._inductor.list_mode_options()):
            raise ConfigError(
                f"unknown `torch_compile_mode` `{training.torch_compile_mode}`; known: "
                f"{', '.join(modes)}"
            )


def _is_changed(training: Any, model: Any, key: str) -> bool:
    for arguments in (training, model):
        for one in fields(arguments):
            if one.name == key:  # none of these keys has a default factory
                return bool(getattr(arguments, key) != one.default)
    return False
