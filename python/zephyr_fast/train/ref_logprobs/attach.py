"""Attach stored reference log-probs to a run, if they were computed with its initial weights."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from zephyr_fast._core import ConfigError, IntegrityError
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.load.index import with_columns
from zephyr_fast.train.model import base_of_adapter, model_name
from zephyr_fast.train.ref_logprobs import store
from zephyr_fast.train.ref_logprobs.store import COLUMNS, Key
from zephyr_fast.train.ref_logprobs.weights import weights_digest
from zephyr_fast.train.trust import refused

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOConfig, ModelConfig


def keys_of_run(
    training: "DPOConfig", model: "ModelConfig", manifests: Sequence[Manifest]
) -> list[Key]:
    """Return the keys of the log-probs that this run needs, one per dataset.

    The main process hashes the weights and broadcasts the digests.

    Raises:
        ConfigError: For options that stored log-probs do not support.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    _check_options(training, model)
    name = model_name(model)
    digests: list[tuple[str, str] | None] = [
        weights_digest(name, model.model_revision) if PartialState().is_main_process else None
    ]
    broadcast_object_list(digests)
    assert digests[0] is not None  # set by the main process
    dtype = _dtype_of_products(name, training, model)
    return [Key.of(*digests[0], dtype, manifest) for manifest in manifests]


def with_reference(
    dataset: "Dataset", folders: Sequence[str], keys: Sequence[Key], split: str
) -> "Dataset":
    """Return the index dataset over `folders`, in order, with the two columns of log-probs.

    Raises the errors of `store.read`.
    """
    parts = [store.read(folder, key, split) for folder, key in zip(folders, keys, strict=True)]
    values = np.concatenate(parts)
    if len(values) != len(dataset):
        raise IntegrityError(
            f"`{'`, `'.join(folders)}`: {len(values)} reference log-probs for "
            f"{len(dataset)} pairs in `{split}`"
        )
    return with_columns(dataset, {name: values[:, side] for side, name in enumerate(COLUMNS)})


def _check_options(training: "DPOConfig", model: "ModelConfig") -> None:
    unsupported = {
        "ld_alpha": (
            training.ld_alpha is not None,
            "it weights tokens within a completion, but only the sums are stored",
        ),
        "sync_ref_model": (training.sync_ref_model, "it updates the reference during training"),
        "load_in_4bit": (
            model.load_in_4bit,
            "the reference is the quantized model with its adapter disabled",
        ),
        "load_in_8bit": (
            model.load_in_8bit,
            "the reference is the quantized model with its adapter disabled",
        ),
    }
    for name, (is_set, reason) in unsupported.items():
        if is_set:
            raise ConfigError(
                f"`{name}` cannot be used with stored reference log-probs: {reason}; set "
                "`precompute_ref_log_probs: false`"
            )


def _dtype_of_products(name: str, training: "DPOConfig", model: "ModelConfig") -> str:
    """Return the dtype in which this run, and hence its reference, computes matrix products."""
    from transformers import AutoConfig

    if training.bf16 or training.fp16:
        return "bfloat16" if training.bf16 else "float16"
    given = training.model_init_kwargs if isinstance(training.model_init_kwargs, dict) else {}
    dtype = given.get("dtype", model.dtype)
    if dtype in (None, "auto"):
        name = base_of_adapter(name) or name
        with refused(f"the model `{name}`"):
            dtype = (
                AutoConfig.from_pretrained(name, trust_remote_code=training.trust_remote_code).dtype
                or "float32"
            )
    return str(dtype).removeprefix("torch.")
