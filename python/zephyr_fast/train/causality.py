"""Check, before the first step, that the loss of a run is that of a causal language model.

Three things would go wrong without an error:

- A model that sees later tokens, such as an encoder or one with `is_causal: false`, learns to copy
  the token that it has to predict. Its loss falls quickly, and it cannot generate.
- TRL applies the LM head to the last hidden states. A model with further layers in between, such
  as BERT, would be trained with other log-probs than it generates with.
- A model that cannot compute the longest row would fail at the first one, with an error of torch.

The model is in training mode, as in a step. Both passes of a comparison draw the same dropout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zephyr_fast._core import ConfigError
from zephyr_fast.load.index import is_index
from zephyr_fast.train import isolation, packing
from zephyr_fast.train.isolation_documents import LENGTHS, Ids, cut
from zephyr_fast.train.trust import machine_errors

if TYPE_CHECKING:
    import torch

SHORT = sum(LENGTHS)
"""Tokens of the row whose logits are compared; those of a long row may need gigabytes."""

ROUNDINGS = 4
"""Roundings of the largest log-prob by which the LM head's two ways may differ."""


class Fault(NamedTuple):
    """The faults of a model. All values are in nats."""

    leak: float
    """Change of log-probs if only later tokens change, beyond rounding."""
    difference: float
    """Difference between TRL's log-probs and those of the model's own logits, beyond rounding."""


class CausalityMixin:
    """Mixin to put before a subclass of TRL's trainers; checks the models at the first batch."""

    accelerator: Any
    args: Any
    model_wrapped: Any
    train_dataset: Any
    _is_checked = False

    def trained_models(self) -> list[Any]:
        """Return the models that get the rows, after they were sharded and quantized."""
        return [self.model_wrapped]

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        inputs = super()._prepare_inputs(inputs)  # type: ignore[misc]
        if not self._is_checked and is_index(self.train_dataset):
            for model in self.trained_models():
                check_model(
                    model,
                    inputs["input_ids"],
                    width=self.args.max_length or inputs["input_ids"].shape[1],
                    autocast=packing.autocast(self.accelerator),
                    device=self.accelerator.device,
                    gather=self.accelerator.gather,
                )
            self._is_checked = True
        return inputs


def check_model(
    model: Any,
    tokens: "torch.Tensor | Ids",
    *,
    width: int,
    autocast: "torch.dtype | None" = None,
    device: Any = None,
    gather: Any = None,
) -> None:
    """Raise ConfigError, on all ranks, unless a model can be trained as a causal language model.

    Args:
        model: Model with TRL's fused LM head, wrapped as in training.
        tokens: Token ids of the run's own data, of any shape.
        width: Maximum number of tokens in a row.
        autocast: Dtype of matrix products if it is not that of the weights.
        device: Device of the inputs. The default is that of the first parameter.
        gather: Accelerate's `gather`, with which all ranks get the result of the worst one.
    """
    inner = isolation.model_of(model)
    config = inner.config.get_text_config()
    place = device or next(model.parameters()).device
    reason = ""
    try:
        row = cut(tokens, config.vocab_size, [max(width, 2)])[0]
        found = _measured(model, place, row, autocast)
    except isolation.UNFIT as error:
        if isinstance(error, machine_errors()):
            raise
        found, reason = Fault(inf, inf), f"{type(error).__name__}: {' '.join(str(error).split())}"
    if gather is not None:
        found = _worst_of_ranks(gather, found, place)
    if problem := _problem(found, width, reason):
        raise ConfigError(f"`{inner.config.model_type}` {problem}")


def _problem(found: Fault, width: int, reason: str) -> str | None:
    if found.leak == inf and reason:
        return f"cannot compute rows of up to {width} tokens ({reason})"
    if found.leak == inf:
        return f"cannot compute rows of up to {width} tokens on another rank"
    if not found.leak <= 0:  # also if it is NaN
        return (
            "is not a causal language model: the log-probs of a token change by up to "
            f"{found.leak:.2g} nats with the tokens after it, which it has to predict; start from "
            "a decoder (see `is_decoder`, `is_causal` and `use_bidirectional_attention` in its "
            "`config.json`)"
        )
    if not found.difference <= 0:
        return (
            "computes its logits in another way than TRL, which applies the LM head to the last "
            f"hidden states: log-probs differ by up to {found.difference:.2g} nats; start from "
            "another architecture"
        )
    return None


def _measured(model: Any, device: Any, row: Ids, autocast: "torch.dtype | None") -> Fault:
    rounding = isolation._rounding(model, autocast)
    with _as_in_a_step(model) as again:

        def log_probs(table: Ids) -> "torch.Tensor":
            again()
            given = {"input_ids": table, "attention_mask": np.ones_like(table)}
            return isolation.log_probs(model, device, given)

        kept = -(-len(row) // 2)
        before = log_probs(np.stack([row, row]))
        # The first row stays the same, so its change is noise: kernels may depend on the batch,
        # e.g. on the number of tokens of an expert.
        noise, change = log_probs(np.stack([row, _changed_after(row, kept)])) - before
        leak = _largest(change[: kept - 1])  # value `n` is that of token `n + 1`
        difference, most = _difference(model, device, row[:SHORT], again)
    # A model that diverged is reported by `divergence`, with its rows.
    if not bool(before.isfinite().all()):
        return Fault(0.0, 0.0)
    least = isolation.EXACT if rounding is None else isolation.NOISE_MAX * rounding
    allowed_leak = min(isolation.NOISE_FACTOR * _largest(noise), least * max(1.0, _largest(before)))
    allowed = most * (isolation.EXACT if rounding is None else ROUNDINGS * rounding)
    return Fault(
        leak if not leak <= allowed_leak else 0.0, difference if not difference <= allowed else 0.0
    )


def _changed_after(row: Ids, kept: int) -> Ids:
    """Return the row with other tokens after the first `kept` ones."""
    distinct = np.unique(row)
    others = np.roll(distinct, len(distinct) // 2)[np.searchsorted(distinct, row)]
    return np.where(np.arange(len(row)) < kept, row, others)


def _difference(model: Any, device: Any, row: Ids, again: Any) -> tuple[float, float]:
    """Return the difference between TRL's log-probs and those of the logits, and the largest."""
    import torch

    ids = torch.as_tensor(row[None]).to(device)
    mask = torch.ones_like(ids)
    again()
    fused = isolation.log_probs(model, device, {"input_ids": ids, "attention_mask": mask})[0]
    again()
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0, -len(row) :]
    plain = logits.float().log_softmax(-1)[:-1].gather(1, ids[0, 1:, None].to(logits.device))[:, 0]
    most = max(1.0, float(logits.abs().max()), float(plain.abs().max()))
    return _largest(fused - plain.to(fused.device)), most


def _largest(values: "torch.Tensor") -> float:
    return float(values.abs().max()) if values.numel() else 0.0


@contextmanager
def _as_in_a_step(model: Any) -> Iterator[Any]:
    """Switch to training mode without gradients, and restore modes and generators after.

    Yields a function that resets the random numbers: the next pass draws the same dropout again.
    """
    import torch

    with isolation.at_rest(model):
        model.train()
        yield lambda: torch.manual_seed(0)


def _worst_of_ranks(gather: Any, found: Fault, device: Any) -> Fault:
    import torch

    table = gather(torch.tensor([found], device=device)).tolist()
    # np.max, unlike max, returns NaN if there is one.
    return Fault(*(float(np.max(column)) for column in zip(*table, strict=True)))
