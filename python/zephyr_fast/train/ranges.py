"""Reject numbers of a training config that are out of range.

transformers and torch would fail later with an obscure message, or train with them: a negative
`beta` teaches the rejected completions, and `max_steps: 0` trains whole epochs.
"""

import math
from dataclasses import fields
from typing import Any

from zephyr_fast._core import ConfigError
from zephyr_fast.printed import brief

WHOLE_MAX = 2**53
"""Maximum integer, far above any step or token count, and exact as a float."""

_COUNT_MAX = 2**31 - 1
_REAL_MAX = 1e9
_BELOW_1 = math.nextafter(1, 0)

BOUNDS: dict[str, tuple[float, float]] = {
    "per_device_train_batch_size": (1, _COUNT_MAX),
    "per_device_eval_batch_size": (1, _COUNT_MAX),
    "gradient_accumulation_steps": (1, _COUNT_MAX),
    "num_train_epochs": (0, _COUNT_MAX),
    "max_steps": (-1, WHOLE_MAX),
    "learning_rate": (0, _REAL_MAX),
    "weight_decay": (0, 3e38),  # up to the largest float32
    "adam_beta1": (0, _BELOW_1),
    "adam_beta2": (0, _BELOW_1),
    "adam_epsilon": (0, _REAL_MAX),
    "max_grad_norm": (0, _REAL_MAX),
    "warmup_steps": (0, WHOLE_MAX),
    "label_smoothing_factor": (0, _BELOW_1),
    "neftune_noise_alpha": (0, _REAL_MAX),
    "eval_delay": (0, WHOLE_MAX),
    "seed": (0, 2**32 - 1),
    "data_seed": (0, 2**32 - 1),
    "dataloader_num_workers": (0, 4_096),
    "dataloader_prefetch_factor": (1, _COUNT_MAX),
    "save_total_limit": (1, _COUNT_MAX),
    "pad_to_multiple_of": (1, _COUNT_MAX),
    "beta": (math.ulp(0), _REAL_MAX),
    "label_smoothing": (0, math.nextafter(0.5, 0)),  # from a half on, labels are more often wrong
    "discopop_tau": (math.ulp(0), _REAL_MAX),
    "ld_alpha": (0, 1),
    "ref_model_mixup_alpha": (0, 1),
    "ref_model_sync_steps": (1, WHOLE_MAX),
    "lora_r": (1, _COUNT_MAX),
    "lora_alpha": (1, _COUNT_MAX),
    "lora_dropout": (0, _BELOW_1),
}
"""Minimum and maximum of numbers, both allowed. The smallest float stands for "above 0"."""


def check_numbers(arguments: Any, where: str) -> None:
    """Raise ConfigError for a number of TRL's training or model arguments that is out of range.

    Args:
        arguments: The parsed arguments.
        where: The config file and a colon, or nothing.
    """
    for key in (one.name for one in fields(arguments)):
        value = getattr(arguments, key)
        if isinstance(value, float) and math.isnan(value):
            raise ConfigError(f"{where}`{key}` is not a number")
        if isinstance(value, int) and abs(value) > WHOLE_MAX:
            raise ConfigError(f"{where}`{key}` is {brief(value)}, which is too large")
    for key, (least, most) in BOUNDS.items():
        value = getattr(arguments, key, None)
        if value is not None and not (_is_number(value) and least <= value <= most):
            raise ConfigError(f"{where}`{key}` must be {_range(least, most)}, not {brief(value)}")
    if getattr(arguments, "max_steps", None) == 0:
        raise ConfigError(
            f"{where}`max_steps: 0` would train `num_train_epochs`; to evaluate only, set "
            "`num_train_epochs: 0`"
        )


def _range(least: float, most: float) -> str:
    """Return a range in words."""
    start = "above 0" if least == math.ulp(0) else f"from {least}"
    if most in (_BELOW_1, math.nextafter(0.5, 0)):
        return f"{start} to below {1 if most == _BELOW_1 else 0.5}"
    return f"{start} to {most:,}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
