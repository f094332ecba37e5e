"""Decide, before the first step of a run, whether its model is given packed documents.

This depends on its architecture: linear attention, convolutions, state-space layers and some
position encodings let a document see the previous one, without any error. Therefore `isolation`
measures the model with the run's own data, with the forward pass that trains. If documents are not
isolated, the run continues with one document per row.
"""

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

from zephyr_fast._core import ConfigError
from zephyr_fast.load.collators import IGNORED, Layout
from zephyr_fast.train import isolation
from zephyr_fast.train.isolation import FAILED, Measure
from zephyr_fast.train.isolation_documents import Ids
from zephyr_fast.train.model import log

if TYPE_CHECKING:
    import torch

CHOICES = ("auto", "true", "false")
"""The values of the argument `pack`."""


@dataclass(frozen=True)
class Proof:
    """The measurement of a model, and the reason if there is none."""

    model_type: str
    attention: str
    measure: Measure
    reason: str | None = None

    @property
    def holds(self) -> bool:
        """Whether documents are isolated."""
        return self.measure.holds

    @property
    def problem(self) -> str:
        """Why the proof does not hold."""
        return f"`{self.model_type}` with attention `{self.attention}` {self._failure()}"

    def _failure(self) -> str:
        difference, tolerance, leak, noise, *_ = self.measure
        if self.reason is not None:
            return f"cannot compute packed documents ({self.reason})"
        if difference == inf:
            return "cannot compute packed documents on another rank"
        if not difference <= tolerance:
            return (
                f"does not isolate packed documents: log-probs differ by up to {difference:.2g} "
                f"nats from unpacked ones (tolerance {tolerance:.2g})"
            )
        if not leak <= noise:
            return (
                f"does not isolate packed documents: log-probs change by up to {leak:.2g} nats "
                f"with the tokens of other documents (tolerance {noise:.2g})"
            )
        return (
            "cannot be proven to isolate packed documents: log-probs hardly depend on earlier "
            f"tokens, even within a document (at most {self.measure.control:.2g} nats)"
        )


_PROOFS: dict[tuple[str, ...], Proof] = {}


def choice(given: object) -> str:
    """Return the argument `pack` as text; YAML may have parsed it as a bool.

    Raises ConfigError for other values.
    """
    text = str(given).lower()
    if text not in CHOICES:
        raise ConfigError(f"`pack` must be one of {', '.join(CHOICES)}, not {given!r}")
    return text


def allowed(pack: str, proof: Proof) -> bool:
    """Return whether the run packs, and print why.

    Raises ConfigError if it must pack and cannot.
    """
    if proof.holds:
        log(
            f"packed documents are isolated: log-probs differ by at most "
            f"{proof.measure.difference:.1g} nats from unpacked ones (`{proof.model_type}`, "
            f"attention `{proof.attention}`)"
        )
        return True
    if pack == "true":
        raise ConfigError(f"{proof.problem}; set `pack: auto` to train on unpacked documents")
    log(
        f"{proof.problem}; continuing with one document per row, which is slower and needs more "
        "memory, because each row is padded to the longest document of the batch"
    )
    return False


def prove(
    model: Any,
    tokens: "torch.Tensor | Ids",
    layout: Layout,
    *,
    width: int,
    windows: int = 1,
    autocast: "torch.dtype | None" = None,
    device: Any = None,
    gather: Any = None,
) -> Proof:
    """Prove whether a model isolates packed documents.

    Proofs are kept for the life of the process. All ranks must pass the same arguments, except for
    the tokens.

    Args:
        model: Model with TRL's fused LM head, wrapped as it is trained.
        tokens: Token ids of the run's own data, of any shape.
        layout: Layout of the packed batches.
        width: Maximum number of tokens in a packed sequence.
        windows: Maximum number of sequences that `varlen` concatenates to one row.
        autocast: Dtype of matrix products if it is not that of the weights.
        device: Device of the inputs. The default is that of the first parameter.
        gather: Accelerate's `gather`, so that all ranks get the result of the worst one.
    """
    inner = isolation.model_of(model)
    text = inner.config.get_text_config()
    attention = str(inner.config._attn_implementation)
    rest = (attention, layout, autocast, width, windows)
    key = _key(model, inner, *rest)
    if key not in _PROOFS:
        found, reason = FAILED, _obstacle(inner, width * (windows if layout == "varlen" else 1))
        if reason is None:
            try:
                found = isolation.measure(
                    model,
                    tokens,
                    layout,
                    width=width,
                    windows=windows,
                    autocast=autocast,
                    device=device,
                )
            except isolation.UnfitError as error:
                reason = str(error)
        if gather is not None:
            found = _worst_of_ranks(gather, found, device or next(model.parameters()).device)
        _PROOFS[key] = Proof(text.model_type, attention, found, reason)
    return _PROOFS[key]


def autocast(accelerator: Any) -> "torch.dtype | None":
    """Return the dtype of matrix products if accelerate sets it, else None."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)


def unpacked(batch: dict[str, Any], pad_token_id: int) -> dict[str, Any]:
    """Return a batch of `WindowCollator` with one document per row and an attention mask.

    Rows are padded on the right. The label tokens are the same, and so is the loss. Documents
    without label tokens, such as padding, are left out.
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


def _key(model: Any, inner: Any, *rest: object) -> tuple[str, ...]:
    import torch
    import transformers

    dtypes = sorted({str(parameter.dtype) for parameter in model.parameters()})
    devices = sorted({parameter.device.type for parameter in model.parameters()})
    config, adapters = inner.config, getattr(inner, "peft_config", {})
    return tuple(
        str(part)
        for part in (
            *(type(model), type(config), config.to_json_string(use_diff=False), adapters),
            *(torch.__version__, transformers.__version__, dtypes, devices, *rest),
        )
    )


def _obstacle(model: Any, width: int) -> str | None:
    """Return why documents cannot be packed in rows of `width` tokens, if that is known.

    Attention in chunks, counted from the start of a row, would cut documents in two.
    """
    chunk: int | None = getattr(model.config.get_text_config(), "attention_chunk_size", None)
    if chunk is not None and width > chunk:
        return f"its attention works in chunks of {chunk} tokens, and rows have up to {width}"
    adapter = getattr(model, "active_peft_config", None)
    if adapter is not None and adapter.is_prompt_learning:
        return "its adapter puts tokens before each row"
    return None


def _worst_of_ranks(gather: Any, found: Measure, device: Any) -> Measure:
    """Return the worst measure of all ranks."""
    import torch

    values = gather(torch.tensor([found], device=device)).tolist()
    return isolation.worst([Measure(*one) for one in values])
