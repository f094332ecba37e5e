"""Estimates steps, tokens, FLOPs and GPU hours of a training run.

Only the manifest, the training config and the model's `config.json` are read, so this does not
need torch.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_fast._core import ConfigError, InputError, IntegrityError
from zephyr_fast.dataset.manifest import Manifest, Split
from zephyr_fast.dataset.product import Product
from zephyr_fast.printed import brief, without_secrets
from zephyr_fast.train import config_file, configs
from zephyr_fast.untrusted.bounded import parse_json, read_bytes
from zephyr_fast.untrusted.limits import COUNT_MAX, check_count

BUNDLED_MODEL = Path(__file__).parent / "sample" / "model"

PEAK_TFLOPS = 989.0
"""Peak of an H100 SXM in bfloat16 without sparsity (from NVIDIA's specifications)."""

CONFIG_BYTES_MAX = 16 << 20
"""Maximum size of a model's `config.json`: typically KB, or a MB with thousands of labels."""

WIDTH_MAX = 2**31 - 1
"""Maximum layers, heads and widths of a model, above any real weight matrix."""

GPUS_MAX = 10**7

TFLOPS_MAX = 1e9

ADAMW = ("adamw_torch", "adamw_torch_fused")
"""Optimizers with two moments per weight, in the dtype of the weight."""

MFU = 0.4
"""Model FLOPs utilization, as commonly reported for packed training of 7 B parameters on eight
such GPUs.
"""


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder that determine its FLOPs and memory. `matmul` excludes the
    embeddings, which are only looked up. `parameters` counts all weights except biases.
    """

    matmul: int
    parameters: int
    layers: int
    attention_width: int

    @classmethod
    def of(cls, config: dict[str, Any], where: str) -> "Shape":
        """Read a `config.json` with the fields of Llama, Mistral and Qwen. InputError for another
        architecture.
        """
        if any("expert" in name for name in config):
            raise InputError(
                f"`{where}` is a mixture-of-experts model, which `estimate` does not support"
            )
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
        matmul = layers * layer + hidden * vocabulary
        lookups = 0 if config.get("tie_word_embeddings") is True else hidden * vocabulary
        norms = (2 * layers + 1) * hidden
        return cls(matmul, matmul + lookups + norms, layers, width)


@dataclass(frozen=True)
class Estimate:
    """The cost of a run.

    Tokens are counted over all epochs. `tokens_seen` counts a pair's prompt twice, once for each
    completion. `unit` names the examples of a step: sequences or pairs. `state_bytes` is the memory
    per GPU of weights, gradients, optimizer state and a reference model, if they are sharded over
    all GPUs. Activations come on top. It is None with an adapter, and with an optimizer other than
    AdamW.
    """

    examples_per_step: int
    unit: str
    steps: int
    epochs: float
    tokens_seen: int
    label_tokens: int
    flops: float
    gpu_hours: float
    mfu: float
    peak_tflops: float
    gpus: int
    state_bytes: int | None


def estimate(
    folder: str | Path,
    config: str,
    *,
    model: str | None = None,
    gpus: int = 8,
    mfu: float = MFU,
    peak_tflops: float = PEAK_TFLOPS,
) -> Estimate:
    """Estimate the cost of training on the `train` split of a dataset.

    FLOPs are 6 per weight and token (4 with an adapter) plus 12 per layer, attention width and
    pair of attended tokens. A preference run adds the reference's forward pass (2 per weight and
    token), once if it is stored and once per epoch otherwise. All documents are assumed to have
    the mean length. Activation recomputation is not counted.

    Args:
        folder: Dataset directory.
        config: Training config: bundled name or path.
        model: Model directory, config.json or Hub id. Defaults to the config's model.
        gpus: Number of GPUs.
        mfu: Model FLOPs utilization, above 0 and at most 1.
        peak_tflops: Peak TFLOP/s per GPU.

    Returns:
        The estimate.

    Raises:
        InputError: The dataset, config or model cannot be read, or the architecture is not
            supported.
        IntegrityError: The manifest is damaged.
        ConfigError: A number is out of range.

    Example:
        >>> estimate(out, "tiny-sft", gpus=1).steps
        54
    """
    if not (_is_real(mfu) and 0 < mfu <= 1):
        raise ConfigError(f"`mfu` must be above 0 and at most 1, not {brief(mfu)}")
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

    seen, documents = (
        manifest.kind.facts.tokens_seen(split),
        max(manifest.kind.facts.documents(split), 1),
    )
    forward = 2 * seen * (shape.matmul + shape.layers * shape.attention_width * seen / documents)
    passes = (2.0 if given.get("use_peft") else 3.0) * epochs
    if manifest.kind.facts.needs_reference:
        passes += 1.0 if given.get("precompute_ref_log_probs") else epochs
    flops = forward * passes
    hours = flops / (peak_tflops * 1e12 * mfu) / 3600
    trained = round(split.label_tokens * epochs)
    return Estimate(
        examples_per_step=per_step,
        unit=manifest.kind.facts.unit,
        steps=steps,
        epochs=epochs,
        tokens_seen=round(seen * epochs),
        label_tokens=trained,
        flops=flops,
        gpu_hours=hours,
        mfu=mfu,
        peak_tflops=peak_tflops,
        gpus=gpus,
        state_bytes=_state_bytes(shape, given, manifest.kind, gpus),
    )


def _state_bytes(shape: Shape, given: Mapping[str, Any], product: Product, gpus: int) -> int | None:
    """Return the bytes per GPU of weights, gradients, AdamW's two moments and the reference.

    FSDP2 and ZeRO-3 keep all of them in float32 (ZeRO-3 in other proportions, with the same sum).
    """
    if given.get("use_peft") or given.get("optim", "adamw_torch") not in ADAMW:
        return None
    size = 2 if gpus == 1 and given.get("dtype") in ("bfloat16", "float16") else 4
    has_reference = product.facts.needs_reference and not given.get("precompute_ref_log_probs")
    return -(-shape.parameters * size * (5 if has_reference else 4) // gpus)


def summary(found: Estimate) -> list[tuple[str, str]]:
    """Return the lines that `zephyr-fast estimate` prints, as (label, value)."""
    epochs = f"{found.epochs:g} epoch{'' if found.epochs == 1 else 's'}"
    gpus = f"{found.gpus} GPU{'' if found.gpus == 1 else 's'}"
    steps = f"{found.steps:,} step{'' if found.steps == 1 else 's'}"
    lines = [
        ("steps", f"{steps} × {found.examples_per_step:,} {found.unit} ({epochs} on {gpus})"),
        (
            "tokens",
            f"{found.tokens_seen:,} processed, {found.label_tokens:,} contribute to the loss",
        ),
        ("FLOPs", f"{found.flops:.3g}"),
        (
            "GPU time",
            f"{_duration(found.gpu_hours)} ({_duration(found.gpu_hours / found.gpus)} wall-clock), "
            f"assuming {found.mfu:.0%} of {found.peak_tflops:g} TFLOP/s per GPU",
        ),
    ]
    if found.state_bytes is not None:
        memory = f"{found.state_bytes / 2**30:.3g} GiB per GPU for weights, gradients and optimizer"
        lines.append(("memory", f"{memory}, sharded over all GPUs; activations come on top"))
    return lines


def _duration(hours: float) -> str:
    """Return a time in seconds, minutes or hours, whichever is easiest to read."""
    if hours * 3600 < 100:
        return f"{hours * 3600:.3g} s"
    return f"{hours * 60:.3g} min" if hours * 60 < 100 else f"{hours:,.3g} h"


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _checked(split: Split, folder: str | Path) -> Split:
    """Check the counts of a split. IntegrityError if a dataset cannot have them, InputError if it
    is empty.
    """
    for name in ("rows", "examples", "tokens", "label_tokens"):
        if not 0 <= getattr(split, name) <= COUNT_MAX:
            raise IntegrityError(
                f"`{Path(folder) / 'manifest.json'}`: `{name}` of `train` is "
                f"{brief(getattr(split, name))}; the file is damaged or was edited"
            )
    if split.label_tokens > split.tokens:
        raise IntegrityError(
            f"`{Path(folder) / 'manifest.json'}`: `train` has more label tokens than tokens; the "
            "file is damaged or was edited"
        )
    if split.examples == 0:
        raise InputError(f"the `train` split of `{folder}` is empty")
    return split


def _model(model: str | None, given: Mapping[str, Any], file: Path) -> str:
    name = model or given.get("model_name_or_path") or "sample"
    if not isinstance(name, str):
        raise ConfigError(f"{file}: `model_name_or_path` must be text, not {brief(name)}")
    return name


def _width(config: Mapping[str, Any], name: str, where: str, default: int | None = None) -> int:
    """Read a size from a model's config. InputError if no model can have it."""
    if name not in config and default is None:
        raise InputError(
            f"`{where}` has no {name!r}; only decoder configs in the style of Llama, Mistral or "
            "Qwen are supported"
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
    path = str(BUNDLED_MODEL) if name == "sample" else name
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
            f"no `config.json` found for model `{name}`, neither locally nor on the Hub; pass a "
            "directory that has one with --model"
        ) from error
