"""Trainer mixin that counts tokens without padding, also over a resume.

TRL counts the tokens of a packed batch from the width of one row. So its `num_tokens` is too small
by the number of rows, and starts from 0 when a run resumes. The load-balancing loss of
mixture-of-experts models would count the padding of packed rows as well.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

TOKEN_COUNTS = "token_counts"
"""The entry of a batch with the tokens per row, without padding, [B] int64."""

STORED_AS = "TokenCounts"
"""The name of the count among the `stateful_callbacks` of `trainer_state.json`."""


class TokenCountMixin:
    """Mixin to put before a subclass of TRL's trainers, which log `num_tokens`."""

    accelerator: Any
    args: Any
    model: Any
    state: Any
    _metrics: Any
    _total_train_tokens: int

    def _init_training_state(self, *args: Any, **kwargs: Any) -> Any:
        progress = super()._init_training_state(*args, **kwargs)  # type: ignore[misc]
        stored = self.state.stateful_callbacks.get(STORED_AS)
        if isinstance(stored, dict):  # of the checkpoint from which the run resumes
            count = stored["attributes"].get("num_tokens")
            self._total_train_tokens = count if type(count) is int else 0
        return progress

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        attributes = {"num_tokens": self._total_train_tokens}
        self.state.stateful_callbacks[STORED_AS] = {"args": {}, "attributes": attributes}
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        """Count for `include_num_input_tokens_seen`.

        transformers would not count EOS without an attention mask, where it is also the padding.
        """
        counts = inputs.get(TOKEN_COUNTS)
        if counts is None or self.args.include_num_input_tokens_seen != "non_padding":
            super()._track_num_input_tokens(inputs)  # type: ignore[misc]
            return
        tokens = counts.sum().reshape(1).to(self.args.device)
        self.state.num_input_tokens_seen += int(self.accelerator.gather(tokens).sum())

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the loss, and count the tokens of the batches that train."""
        before, counts = self._total_train_tokens, inputs.pop(TOKEN_COUNTS, None)
        tokens = _tokens(inputs) if counts is None else counts.sum()
        mask = None if counts is None else _mask(inputs["input_ids"], counts)
        with router_mask(mask):
            result = super().compute_loss(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if self.model.training:
            counted = int(self.accelerator.gather(tokens.reshape(1)).sum())
            self._total_train_tokens = before + counted
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return result


@contextmanager
def router_mask(mask: "torch.Tensor | None") -> Iterator[None]:
    """Let the load-balancing loss of experts ignore padding of batches without attention mask.

    Packed batches have none, because transformers would not isolate their documents with one.

    Args:
        mask: [B, L], 0 for padding. Without it, nothing changes.
    """
    from transformers.models.mixtral import modeling_mixtral

    stock = modeling_mixtral.load_balancing_loss_func  # TRL reads it in each forward pass

    def masked(logits: Any, experts: Any, top_k: Any, attention_mask: Any = None) -> Any:
        return stock(logits, experts, top_k, mask if attention_mask is None else attention_mask)

    if mask is not None:
        modeling_mixtral.load_balancing_loss_func = masked
    try:
        yield
    finally:
        modeling_mixtral.load_balancing_loss_func = stock


def _tokens(inputs: dict[str, Any]) -> "torch.Tensor":
    """Return the tokens of a batch of a collator that does not count them.

    Without an attention mask, padding is not known and counts as well.
    """
    mask = inputs.get("attention_mask")
    tokens: torch.Tensor = (inputs["input_ids"] >= 0).sum() if mask is None else mask.sum()
    return tokens


def _mask(ids: "torch.Tensor", counts: "torch.Tensor") -> "torch.Tensor":
    """Return 1 for tokens and 0 for padding on the right, [B, L] int64."""
    import torch

    columns = torch.arange(ids.shape[1], device=ids.device)
    return (columns[None] < counts[:, None]).long()
