"""Says what a training run will cost before it is paid for: steps, tokens, FLOPs and GPU hours,
from a manifest and two small files.

Nothing is loaded but the manifest, the training config and the model's `config.json`, so this
runs where there is no torch.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_fast._core import ConfigError, InputError, IntegrityError
from zephyr_fast.dataset.manifest import Manifest, Split
from zephyr_fast.printed import brief, without_secrets
from zephyr_fast.train import config_file, configs
from zephyr_fast.untrusted.bounded import parse_json, read_bytes
from zephyr_fast.untrusted.limits import COUNT_MAX, check_count

PACKAGED_MODEL = Path(__file__).parent / "sample" / "model"

PEAK_TFLOPS = 989.0
"""bfloat16 on an H100 SXM without sparsity (NVIDIA's data sheet)."""

CONFIG_BYTES_MAX = 16 << 20
"""A model's `config.json`: some KB, or a MB where it names thousands of labels."""

WIDTH_MAX = 2**31 - 1
"""Layers, heads and widths of a model: what no weight matrix could have."""

GPUS_MAX = 10**7

TFLOPS_MAX = 1e9

MFU = 0.4
"""Model FLOPs utilisation: what packed training of 7 B parameters on eight such GPUs is commonly
reported at.
"""


@dataclass(frozen=True)
class Shape:
    """What of a decoder's configuration decides its FLOPs; weights that only look up, the
    embeddings, are not in `matmul`.
    """

    matmul: int
    layers: int
    attention_width: int

    @classmethod
    def of(cls, config: dict[str, Any], where: str) -> "Shape":
        """From a `config.json` with the fields of Llama, Mistral and Qwen; InputError for
        another architecture.
        """
        if any("expert" in name for name in config):
            raise InputError(f"`{where}` is a mixture of experts, which cannot be estimated")
        hidden, layers, heads, inner, vocabulary = (
            _width(config, name, where)
            for name in (
                "hidden_size",
                "num_hidden_layers",
                "num_attention_heads",
                "intermediate_size",
                "vocab_size",
            )
        )
        width = heads * _width(config, "head_dim", where, max(hidden // heads, 1))
        keys_values = 2 * width * _width(config, "num_key_value_heads", where, heads) // heads
        layer = hidden * (2 * width + keys_values) + 3 * hidden * inner
        return cls(layers * layer + hidden * vocabulary, layers, width)


@dataclass(frozen=True)
class Estimate:
    """The cost of a run. Tokens are over all epochs; `tokens_seen` counts a pair's prompt twice,
    once for each answer.
    """

    samples_per_step: int
    steps: int
    epochs: float
    tokens_seen: int
    tokens_trained: int
    flops: float
    gpu_hours: float
    mfu: float
    peak_tflops: float
    gpus: int


def estimate(
    folder: str | Path,
    config: str,
    *,
    model: str | None = None,
    gpus: int = 8,
    mfu: float = MFU,
    peak_tflops: float = PEAK_TFLOPS,
) -> Estimate:
    """What training on the `train` split of `folder` costs under a training config (packaged
    name or path).

    FLOPs are 6 per weight and token (4 with an adapter, whose base has no gradients of weights),
    and in attention 12 per layer, unit of width and pair of tokens that see each other, with
    every document as long as the mean. A run on pairs adds the reference's forward pass, 2 per
    weight and token: once where it is stored, else in each epoch. Recomputed activations are not
    counted, as is the custom with MFU. Errors: InputError, ConfigError.
    """
    if not (_is_real(mfu) and 0 < mfu <= 1):
        raise ConfigError(f"MFU is a share of the peak, above 0 and at most 1, not {brief(mfu)}")
    if not (_is_real(peak_tflops) and 0 < peak_tflops <= TFLOPS_MAX):
        raise ConfigError(
            f"`peak_tflops` must be above 0 and at most {TFLOPS_MAX:g}, not {brief(peak_tflops)}"
        )
    check_count("gpus", gpus, 1, GPUS_MAX)
    manifest, file = Manifest.read(folder), configs.find(config)
    given = config_file.read(file)
    manifest.require_tokens()
    split = _checked(manifest.split("train"), folder)
    shape = _shape(_model(model, given, file))
    batch = configs.whole(given, "per_device_train_batch_size", 8, 1, file)
    per_step = gpus * batch * configs.whole(given, "gradient_accumulation_steps", 1, 1, file)
    per_epoch = -(-split.examples // per_step)
    epochs = configs.real(given, "num_train_epochs", 3.0, file)
    steps = configs.whole(given, "max_steps", -1, -1, file)
    steps, epochs = (
        (steps, steps / per_epoch) if steps > 0 else (math.ceil(per_epoch * epochs), epochs)
    )

    seen, documents = manifest.kind.tokens_seen(split), max(manifest.kind.documents(split), 1)
    forward = 2 * seen * (shape.matmul + shape.layers * shape.attention_width * seen / documents)
    passes = (2.0 if given.get("use_peft") else 3.0) * epochs
    if manifest.kind.needs_reference:
        passes += 1.0 if given.get("precompute_ref_log_probs") else epochs
    flops = forward * passes
    hours = flops / (peak_tflops * 1e12 * mfu) / 3600
    trained = round(split.label_tokens * epochs)
    return Estimate(
        per_step, steps, epochs, round(seen * epochs), trained, flops, hours, mfu, peak_tflops, gpus
    )


def lines(found: Estimate) -> list[tuple[str, str]]:
    """What is said, as (word, sentence)."""
    clock = found.gpu_hours / found.gpus
    epochs = f"{found.epochs:g} epoch{'' if found.epochs == 1 else 's'}"
    return [
        (
            "steps",
            f"{found.steps:,} of {found.samples_per_step:,} samples ({epochs}, {found.gpus} GPUs)",
        ),
        ("tokens", f"{found.tokens_seen:,} seen, {found.tokens_trained:,} trained"),
        ("FLOPs", f"{found.flops:.3g}"),
        (
            "GPU hours",
            f"{found.gpu_hours:.3g}, at {found.mfu:.0%} of {found.peak_tflops:g} TFLOP/s each; "
            f"{clock:.3g} h on the clock",
        ),
    ]


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _checked(split: Split, folder: str | Path) -> Split:
    """The split, whose counts are what a data set can have; IntegrityError where they are not,
    InputError where it has no samples.
    """
    for name in ("rows", "examples", "tokens", "label_tokens"):
        if not 0 <= getattr(split, name) <= COUNT_MAX:
            raise IntegrityError(
                f"`{Path(folder) / 'manifest.json'}`: {name} of `train` are "
                f"{brief(getattr(split, name))}; it was changed"
            )
    if split.label_tokens > split.tokens:
        raise IntegrityError(
            f"`{Path(folder) / 'manifest.json'}`: more tokens of `train` are trained than there "
            "are; it was changed"
        )
    if split.examples == 0:
        raise InputError(
            f"the `train` split of `{folder}` has no samples: there is nothing to train on"
        )
    return split


def _model(model: str | None, given: Mapping[str, Any], file: Path) -> str:
    name = model or given.get("model_name_or_path") or "sample"
    if not isinstance(name, str):
        raise ConfigError(f"{file}: `model_name_or_path` must be text, not {brief(name)}")
    return name


def _width(config: Mapping[str, Any], name: str, where: str, default: int | None = None) -> int:
    """A size of a model's configuration; InputError for one that no model can have."""
    if name not in config and default is None:
        raise InputError(
            f"`{where}` has no {name!r}; only decoders with the fields of Llama, Mistral and Qwen "
            "can be estimated"
        )
    value = config.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= WIDTH_MAX:
        raise InputError(
            f"`{where}`: `{name}` must be a whole number from 1 to {WIDTH_MAX:,}, not "
            f"{brief(value)}"
        )
    return value


def _shape(name: str) -> Shape:
    path = str(PACKAGED_MODEL) if name == "sample" else name
    file = os.path.join(path, "config.json") if os.path.isdir(path) else path
    if not os.path.lexists(file):
        file = str(_fetched(name))
    try:
        config = parse_json(read_bytes(file, CONFIG_BYTES_MAX))
    except OSError as error:
        raise InputError(f"cannot read `{file}`: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"`{file}` is not a model's `config.json`: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"`{file}` is not a model's `config.json`")
    return Shape.of(config, file)


def _fetched(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
    )

    try:
        return Path(hf_hub_download(name, "config.json"))
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        OSError,
        ValueError,
    ) as error:
        name = without_secrets(name)
        raise InputError(
            f"no `config.json` of the model `{name}` here or on the Hub; name a folder that has "
            "one: `--model`"
        ) from error
