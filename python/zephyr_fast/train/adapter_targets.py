"""Reject names of an adapter's configuration that match nothing in the model.

peft needs one match and ignores the other names, so a typo would leave layers untrained.
"""

from collections.abc import Iterable
from typing import Any

from zephyr_fast._core import ConfigError


def check_targets(model: Any, arguments: Any) -> None:
    """Raise ConfigError for a name in the `lora_*` lists that matches no layer of the adapter.

    Args:
        model: The model with its new adapter.
        arguments: TRL's ModelConfig.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    modules = list(model.named_modules())
    adapted = [name for name, one in modules if isinstance(one, BaseTunerLayer)]
    parameters = [
        f"{name}.{one.parameter_name}"
        for name, one in modules
        if isinstance(one, BaseTunerLayer) and hasattr(one, "parameter_name")
    ]
    saved = [name for name, one in modules if isinstance(one, AuxiliaryTrainingWrapper)]
    _check("lora_target_modules", arguments.lora_target_modules, adapted)
    _check("lora_target_parameters", arguments.lora_target_parameters, parameters)
    _check("lora_modules_to_save", arguments.lora_modules_to_save, saved)


def _check(option: str, given: Iterable[str] | str | None, found: list[str]) -> None:
    if given is None or isinstance(given, str):  # a pattern or `all-linear`, which peft checks
        return
    for wanted in given:
        if not any(f".{name}".endswith(f".{wanted}") for name in found):
            raise ConfigError(f"`{option}`: `{wanted}` matches nothing in the model")
