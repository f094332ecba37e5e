"""Reject models that cannot be trained as causal language models, and files that lack weights.

transformers initializes weights that are not in the files randomly, prints a report, and continues.
The run would train noise, with a loss that only looks high.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zephyr_fast._core import ConfigError, InputError


def check_architecture(config: Any, name: str, *, is_loaded: bool) -> None:
    """Check that the configuration is that of a causal language model.

    Args:
        config: The model's configuration. Architectures that transformers does not have pass.
        name: Directory or Hub id of the model, for the message.
        is_loaded: Whether the model has weights, so that TRL needs the name of its class.

    Raises:
        ConfigError: If it is another kind of model.
        InputError: If the configuration does not name the class.
    """
    import transformers
    from transformers.models.auto import modeling_auto

    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"`{name}` is an encoder-decoder (`{config.model_type}`); only decoder-only language "
            "models can be trained"
        )
    architecture = next(iter(getattr(config, "architectures", None) or ()), None)
    if is_loaded and architecture is None:
        raise InputError(
            f"cannot load the model `{name}`: `architectures` is missing in its `config.json`"
        )
    known = {
        *modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values(),
        *modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values(),
    }
    if architecture and hasattr(transformers, architecture) and architecture not in known:
        raise ConfigError(
            f"`{name}` is a `{architecture}` according to its `config.json`, not a causal language "
            "model; start from one, such as the model it was made from"
        )


@contextmanager
def no_missing_weights(what: str) -> Iterator[None]:
    """Raise an error in this block if a model or adapter is loaded whose files lack weights.

    Tied weights and those that the architecture declares as optional may be missing.
    """
    from transformers import modeling_utils

    report = modeling_utils.log_state_dict_report

    def checked(*args: Any, loading_info: Any, **rest: Any) -> None:
        if missing := sorted(loading_info.missing_keys):
            raise InputError(
                f"cannot load {what}: its files lack {len(missing)} of its weights, such as "
                f"`{missing[0]}`; the file is incomplete, or `config.json` describes another model"
            )
        report(*args, loading_info=loading_info, **rest)

    modeling_utils.log_state_dict_report = checked
    try:
        with warnings.catch_warnings():
            # peft only warns, and starts from an adapter that is partly new
            warnings.filterwarnings("error", message="Found missing adapter keys")
            yield
    finally:
        modeling_utils.log_state_dict_report = report
