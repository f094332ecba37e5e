"""Proves, before the first step of a run, that its model keeps packed documents apart.

Whether it does depends on its architecture: linear attention, convolutions, state-space layers
and some position encodings let a document see the one before it, and no error says so. So short
documents of the run's own data are computed in shared rows and each alone, by the forward pass
that trains, and the largest difference of a log-probability is judged. Where it is more than
rounding, the run goes on with one document per row.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zephyr_fast._core import ConfigError
from zephyr_fast.load.collators import IGNORED, Layout, WindowCollator
from zephyr_fast.train.model import log

if TYPE_CHECKING:
    import torch

Ids = npt.NDArray[np.int64]

CHOICES = ("auto", "true", "false")
"""The values of the argument `pack`."""

LENGTHS = (13, 5, 21, 2, 9)
"""Tokens of the documents of a proof: longer and shorter than the convolutions of state-space
layers, the shortest that has a token to predict among them.
"""

EXACT = 1e-5
"""Largest difference in float32, relative to the largest log-probability where that is above 1.
Rounding makes 1e-6; the smallest leak seen on a model with random weights is 1e-3.
"""

NOISE_FACTOR = 4
"""In other dtypes the difference may be this many times that of two unpacked computations in
batches of different shapes.
"""

NOISE_MAX = 8
"""No noise, however large, allows for more than this many roundings of the largest log-prob."""

DISTINCT_MIN = 8
"""With fewer different tokens, documents that see each other might look as if they did not."""

_UNFIT = (TypeError, ValueError, NotImplementedError, IndexError, AttributeError)
"""What a model raises that takes no position ids, or not these."""


@dataclass(frozen=True)
class Proof:
    """How far packed log-probs are from unpacked ones, at most, and how far they may be."""

    model_type: str
    attention: str
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether documents are isolated; a difference that is not a number says no."""
        return self.difference <= self.tolerance

    @property
    def problem(self) -> str:
        """What is wrong, if the proof does not hold."""
        told = (
            "cannot compute packed documents"
            if self.difference == float("inf")
            else f"does not isolate packed documents: log-probs differ by up to "
            f"{self.difference:.2g} nats from unpacked ones (tolerance {self.tolerance:.2g})"
        )
        return f"`{self.model_type}` with attention `{self.attention}` {told}"


_PROOFS: dict[tuple[str, ...], Proof] = {}


def choice(given: object) -> str:
    """The argument `pack` as text, which YAML may have read as a truth value; ConfigError for
    another.
    """
    text = str(given).lower()
    if text not in CHOICES:
        raise ConfigError(f"`pack` must be one of {', '.join(CHOICES)}, not {given!r}")
    return text


def allowed(pack: str, proof: Proof) -> bool:
    """Whether the run packs, which it says on stderr; ConfigError where it must and cannot."""
    if proof.holds:
        log(
            f"packed documents are isolated: log-probs differ by at most {proof.difference:.1g} "
            f"nats from unpacked ones (`{proof.model_type}`, attention `{proof.attention}`)"
        )
        return True
    if pack == "true":
        raise ConfigError(f"{proof.problem}; set `pack: auto` to train on unpacked documents")
    log(f"{proof.problem}; continuing with one document per row, which is slower")
    return False


def prove(
    model: Any,
    tokens: "torch.Tensor | Ids",
    layout: Layout,
    *,
    width: int,
    autocast: "torch.dtype | None" = None,
    gather: Any = None,
) -> Proof:
    """The proof for a model with TRL's fused LM head, wrapped as it is trained.

    `tokens`: ids of the run's own data, of any shape. `width`: tokens of the longest packed row
    that is to come. `autocast`: the dtype of products, where it is not that of the weights.
    `gather`: accelerate's, which gives all ranks the largest difference. Proofs are kept for the
    life of the process.
    """
    config = _config(model)
    text = config.get_text_config()
    attention = str(config._attn_implementation)
    key = _key(model, config, attention, layout, autocast, width)
    if key not in _PROOFS:
        found = float("inf"), 0.0
        if not _is_cut(text, width) and not _prepends(model):
            found = _compared(model, _documents(tokens, text.vocab_size), layout, autocast)
        if gather is not None:
            found = _largest(gather, found, model)
        _PROOFS[key] = Proof(text.model_type, attention, *found)
    return _PROOFS[key]


def autocast(accelerator: Any) -> "torch.dtype | None":
    """The dtype of the products of a model that accelerate has prepared; None: of its weights."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)


def unpacked(batch: dict[str, Any], pad_token_id: int) -> dict[str, Any]:
    """A batch of `WindowCollator` with one document per row, padded on the right, and an
    attention mask.

    Its label tokens are the same, so the loss is. Documents without a label token, as padding
    is, are left out.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids, labels = batch["input_ids"].flatten(), batch["labels"].flatten()
    starts = (batch["position_ids"].flatten() == 0).nonzero().flatten().tolist()
    spans = list(zip(starts, [*starts[1:], len(ids)], strict=True))
    trained = [span for span in spans if (labels[slice(*span)] != IGNORED).any()] or spans[:1]
    rows = [ids[slice(*span)] for span in trained]
    return {
        "input_ids": pad_sequence(rows, batch_first=True, padding_value=pad_token_id),
        "labels": pad_sequence(
            [labels[slice(*span)] for span in trained], batch_first=True, padding_value=IGNORED
        ),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
    }


def _config(model: Any) -> Any:
    """That of the model within whatever wraps it."""
    while not hasattr(model, "config") and hasattr(model, "module"):
        model = model.module
    return model.config


def _key(model: Any, config: Any, *rest: object) -> tuple[str, ...]:
    import torch
    import transformers

    dtypes = sorted({str(parameter.dtype) for parameter in model.parameters()})
    devices = sorted({parameter.device.type for parameter in model.parameters()})
    adapters = getattr(model, "peft_config", {})
    return tuple(
        str(part)
        for part in (
            *(type(model), type(config), config.to_json_string(use_diff=False), adapters),
            *(torch.__version__, transformers.__version__, dtypes, devices, *rest),
        )
    )


def _is_cut(config: Any, width: int) -> bool:
    """Whether attention works in chunks counted from the row's start, which would cut documents
    in two; short ones cannot show it.
    """
    chunk: int | None = getattr(config, "attention_chunk_size", None)
    return chunk is not None and width > chunk


def _prepends(model: Any) -> bool:
    """Whether an adapter puts tokens of its own before each row."""
    adapter = getattr(model, "active_peft_config", None)
    return adapter is not None and bool(adapter.is_prompt_learning)


def _documents(tokens: "torch.Tensor | Ids", vocabulary: int) -> list[Ids]:
    """Different documents of `LENGTHS`, cut from these tokens."""
    flat: Any = tokens.reshape(-1)
    stream = np.asarray(flat.cpu() if hasattr(flat, "cpu") else flat, dtype=np.int64)
    total = sum(LENGTHS)
    if len(stream) < total or len(np.unique(stream[:total])) < min(DISTINCT_MIN, vocabulary):
        stream = (np.arange(total) * 7 + 3) % vocabulary
    return np.split(stream[:total], np.cumsum(LENGTHS)[:-1])


def _rotations(documents: list[Ids]) -> list[list[int]]:
    """Rows in which each document stands at each position; every second lacks its last one, so
    that its end is padding.
    """
    numbers = list(range(len(documents)))
    rows = [numbers[shift:] + numbers[:shift] for shift in numbers]
    return [row if index % 2 == 0 else row[:-1] for index, row in enumerate(rows)]


def _compared(
    model: Any, documents: list[Ids], layout: Layout, autocast: "torch.dtype | None"
) -> tuple[float, float]:
    """The largest difference, and the tolerance."""
    with _at_rest(model):
        apart = [_log_probs(model, {"input_ids": one[None]})[0] for one in documents]
        scale = max(1.0, *(float(values.abs().max()) for values in apart))
        tolerance = _tolerance(model, documents, apart, scale, autocast)
        try:
            packed = list(_packed(model, documents, layout))
        except _UNFIT:
            return float("inf"), tolerance
    differences = [float((values - apart[number]).abs().max()) for number, values in packed]
    return float(np.max(differences)), tolerance  # np.max keeps what is not a number


def _packed(
    model: Any, documents: list[Ids], layout: Layout
) -> "Iterator[tuple[int, torch.Tensor]]":
    """For each document of each row its number and its log-probs."""
    rows = _rotations(documents)
    samples = [
        {
            "input_ids": np.concatenate([documents[number] for number in row]),
            "labels": np.concatenate([documents[number] for number in row]),
            "seq_lengths": np.array([len(documents[number]) for number in row]),
        }
        for row in rows
    ]
    batch = WindowCollator(layout, pad_token_id=0)(samples)
    shape = batch["input_ids"].shape
    del batch["labels"]
    values = _log_probs(model, batch)
    for index, row in enumerate(rows):
        line = 0 if layout == "varlen" else index
        place = sum(len(one["input_ids"]) for one in samples[:index]) if layout == "varlen" else 0
        for number in row:
            length = len(documents[number])
            assert place + length <= shape[1]
            yield number, values[line, place : place + length - 1]
            place += length


def _tolerance(
    model: Any,
    documents: list[Ids],
    apart: "list[torch.Tensor]",
    scale: float,
    autocast: "torch.dtype | None",
) -> float:
    """What rounding may do: in float32 a constant, else some times the noise between unpacked
    computations in batches of other shapes.
    """
    rounding = _rounding(model, autocast)
    if rounding is None:
        return EXACT * scale
    table = np.zeros((len(documents), max(LENGTHS)), np.int64)
    mask = np.zeros_like(table)
    for row, one in enumerate(documents):
        table[row, : len(one)], mask[row, : len(one)] = one, 1
    padded = _log_probs(model, {"input_ids": table, "attention_mask": mask})
    noise = max(
        float((padded[row, : len(one) - 1] - apart[row]).abs().max())
        for row, one in enumerate(documents)
    )
    least = rounding * scale
    return min(max(least, NOISE_FACTOR * noise), NOISE_MAX * least)


def _rounding(model: Any, autocast: "torch.dtype | None") -> float | None:
    """The relative rounding of the least precise products; None where all are float32."""
    import torch

    dtypes = {parameter.dtype for parameter in model.parameters()} | {autocast or torch.float32}
    floats = {one for one in dtypes if one.is_floating_point}
    if floats != dtypes:  # quantized weights
        floats.add(torch.bfloat16)
    if torch.backends.cuda.matmul.allow_tf32 and torch.cuda.is_available():
        floats.add(torch.float16)  # tf32 has as many digits
    coarsest = max(torch.finfo(one).eps for one in floats)
    return None if coarsest <= torch.finfo(torch.float32).eps else coarsest


def _log_probs(model: Any, inputs: dict[str, Any]) -> "torch.Tensor":
    """The log-probability of each token but the first of a row, [R, W - 1] float32."""
    import torch

    device = next(model.parameters()).device
    moved = {
        name: torch.as_tensor(value).to(device)
        if isinstance(value, np.ndarray | torch.Tensor)
        else value
        for name, value in inputs.items()
    }
    output = model(**moved, labels=moved["input_ids"], use_cache=False, fused_lm_head=True)
    width = inputs["input_ids"].shape[1] - 1
    values: torch.Tensor = output.log_probs[:, -width:].float()
    return values


def _largest(gather: Any, found: tuple[float, float], model: Any) -> tuple[float, float]:
    """The pair of the rank that is furthest from its tolerance."""
    import torch

    device = next(model.parameters()).device
    pairs = gather(torch.tensor([found], device=device)).tolist()
    return max(((pair[0], pair[1]) for pair in pairs), key=lambda pair: _excess(*pair))


def _excess(difference: float, tolerance: float) -> float:
    return difference - tolerance if difference == difference else float("inf")


@contextmanager
def _at_rest(model: Any) -> Iterator[None]:
    """No dropout, no gradients; afterwards each module and every generator is as it was."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
