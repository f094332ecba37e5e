"""Says what a training run will cost before it is paid for: steps, tokens, FLOPs and GPU hours, from a manifest and two small files.

Nothing is loaded but the manifest, the training config and the model's `config.json`, so this runs where there is no torch.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError, RecipeError
from zephyr_fast.manifest import Manifest
from zephyr_fast.train import configs

SAMPLE = Path(__file__).parent / "sample" / "model"

PEAK_TFLOPS = 989.0
"""bfloat16 on an H100 SXM without sparsity (NVIDIA's data sheet)."""

MFU = 0.4
"""Model FLOPs utilisation: what packed training of 7 B parameters on eight such GPUs is commonly reported at."""


@dataclass(frozen=True)
class Shape:
    """What of a decoder's configuration decides its FLOPs; weights that only look up, the embeddings, are not in `matmul`."""

    matmul: int
    layers: int
    attention_width: int

    @classmethod
    def of(cls, config: dict[str, Any], where: str) -> "Shape":
        """From a `config.json` with the fields of Llama, Mistral and Qwen; InputError for another architecture."""
        try:
            hidden, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
            inner, vocabulary = config["intermediate_size"], config["vocab_size"]
        except KeyError as error:
            raise InputError(
                f"`{where}` has no {error}; only decoders with the fields of Llama, Mistral and Qwen can be estimated"
            ) from error
        if any("expert" in name for name in config):
            raise InputError(f"`{where}` is a mixture of experts, which cannot be estimated")
        width = heads * (config.get("head_dim") or hidden // heads)
        keys_values = 2 * width * (config.get("num_key_value_heads") or heads) // heads
        layer = hidden * (2 * width + keys_values) + 3 * hidden * inner
        return cls(layers * layer + hidden * vocabulary, layers, width)


@dataclass(frozen=True)
class Estimate:
    """The cost of a run. Tokens are over all epochs; `tokens_seen` counts a pair's prompt twice, once for each answer."""

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
    folder: str | Path, config: str, *, model: str | None = None, gpus: int = 8, mfu: float = MFU, peak_tflops: float = PEAK_TFLOPS
) -> Estimate:
    """What training on the `train` split of `folder` costs under a training config (packaged name or path).

    FLOPs are 6 per weight and token (4 with an adapter, whose base has no gradients of weights), and in attention 12 per layer,
    unit of width and pair of tokens that see each other, with every document as long as the mean. A preference run adds the
    reference's forward pass, 2 per weight and token: once where it is stored, else in each epoch. Recomputed activations are
    not counted, as is the custom with MFU. Errors: InputError, RecipeError.
    """
    if not 0 < mfu <= 1 or gpus < 1 or peak_tflops <= 0:
        raise RecipeError("MFU is a share above 0, and a run has a GPU that does something")
    manifest, given = Manifest.read(folder), configs.read(configs.find(config))
    manifest.encoding()
    split = manifest.split("train")
    shape = _shape(str(model or given.get("model_name_or_path") or "sample"))
    is_pairs = manifest.kind == "preference"
    per_step = gpus * int(given.get("per_device_train_batch_size", 8)) * int(given.get("gradient_accumulation_steps", 1))
    per_epoch = math.ceil(split.samples / per_step)
    epochs = float(given.get("num_train_epochs", 3))
    steps = int(given.get("max_steps", -1))
    steps, epochs = (steps, steps / per_epoch) if steps > 0 else (math.ceil(per_epoch * epochs), epochs)

    seen = 2 * split.tokens - split.trained_tokens if is_pairs else split.tokens
    documents = 2 * split.samples if is_pairs else split.rows
    forward = 2 * seen * (shape.matmul + shape.layers * shape.attention_width * seen / max(documents, 1))
    passes = (2.0 if given.get("use_peft") else 3.0) * epochs
    if is_pairs:
        passes += 1.0 if given.get("precompute_ref_log_probs") else epochs
    flops = forward * passes
    hours = flops / (peak_tflops * 1e12 * mfu) / 3600
    trained = round(split.trained_tokens * epochs)
    return Estimate(per_step, steps, epochs, round(seen * epochs), trained, flops, hours, mfu, peak_tflops, gpus)


def lines(found: Estimate) -> list[tuple[str, str]]:
    """What is said, as (word, sentence)."""
    clock = found.gpu_hours / found.gpus
    epochs = f"{found.epochs:g} epoch{'' if found.epochs == 1 else 's'}"
    return [
        ("steps", f"{found.steps:,} of {found.samples_per_step:,} samples ({epochs}, {found.gpus} GPUs)"),
        ("tokens", f"{found.tokens_seen:,} seen, {found.tokens_trained:,} trained"),
        ("FLOPs", f"{found.flops:.3g}"),
        (
            "GPU hours",
            f"{found.gpu_hours:.3g}, at {found.mfu:.0%} of {found.peak_tflops:g} TFLOP/s each; {clock:.3g} h on the clock",
        ),
    ]


def _shape(name: str) -> Shape:
    path = SAMPLE if name == "sample" else Path(name)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        file = _fetched(name)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read `{file}`: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"`{file}` is not a model's `config.json`")
    return Shape.of(config, str(file))


def _fetched(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return Path(hf_hub_download(name, "config.json"))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise InputError(f"no `config.json` of the model `{name}` here or on the Hub; name a folder that has one: `--model`") from error
