"""Lets a model work on packed answers while TRL's loss still sees padded ones.

TRL has switched padding-free preference training off (trl#2469), because its loss expects one
answer a row. So the loss is left alone here. The model's own forward takes the padded table apart
on the way in, by the plan of `PairCollator`, works on rows without padding, and puts each token's
log-probability back at its index in the table on the way out. Every loss, metric and option is
therefore that of the installed TRL, and the sum of each answer is over the same tokens.

An example: prompt 5, chosen answer 6, rejected answer 7 8 9. TRL's table has two padded rows:

>>> from zephyr_fast.load.collators import PairCollator
>>> pair = {"prompt_ids": [5], "chosen_ids": [6], "rejected_ids": [7, 8, 9]}
>>> batch = PairCollator(pad_token_id=0, layout="varlen")([pair])
>>> table, indices = batch["input_ids"], batch["packed"]["indices"]
>>> table.tolist(), indices.tolist()
([[5, 6, 0, 0], [5, 7, 8, 9]], [[0, 1, 4, 5, 6, 7]])

The model sees six tokens in place of eight, and its positions restart with each answer:

>>> _gather(table, indices, padding=0).tolist(), batch["packed"]["position_ids"].tolist()
([[5, 6, 5, 7, 8, 9]], [[0, 1, 0, 1, 2, 3]])

It gives one value per token but the first, here 1 to 5, and TRL gets them back as its table has
them. The 2 is dropped: it is the second 5 as predicted from the 6, which belongs to another answer.

>>> import torch
>>> _scatter(torch.tensor([[1, 2, 3, 4, 5]]), indices, table.shape).tolist()
[[1, 0, 0], [3, 4, 5]]
"""

import functools
import types
from typing import TYPE_CHECKING, Any

from zephyr_fast._core import ConfigError

if TYPE_CHECKING:
    import torch

ERROR_MAX = 0.03
"""Mean error in nats a token above which answers of one row must be seeing each other. Where
they do it is 0.1 and more (measured on random and on trained weights); where they do not, 3e-8
in float32 and 3e-5 in bfloat16, with room for deep models.
"""

PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1", "label_mask")
"""The fields of TRL's FusedCausalLMOutput that have a value per token."""


def pack_forward(model: Any) -> None:
    """Teaches `model`, which has TRL's fused LM head, to take `packed` beside a padded batch.
    Without it nothing changes.

    `packed` is the plan of a `PairCollator` with a layout. Attention must be one that keeps
    documents apart in this layout (`load.collators.layout_for`), and the adapter, if there is
    one, must not prepend tokens of its own.
    """
    padded_forward = model.forward

    @functools.wraps(type(model).forward)  # `generate` looks at the signature
    def forward(
        _self: Any, *positional: Any, packed: "dict[str, Any] | None" = None, **inputs: Any
    ) -> Any:
        if packed is None or not inputs.get("fused_lm_head"):
            return padded_forward(*positional, **inputs)
        plan = dict(packed)
        indices, ids, labels = plan.pop("indices"), inputs.pop("input_ids"), inputs.pop("labels")
        # With one, transformers would let the documents of a row see each other.
        inputs.pop("attention_mask")
        output = padded_forward(
            input_ids=_gather(ids, indices, 0),
            labels=_gather(labels, indices, -100),
            **plan,
            **inputs,
        )
        for name in PER_TOKEN:
            if output.get(name) is not None:
                output[name] = _scatter(output[name], indices, ids.shape)
        return output

    model.forward = types.MethodType(forward, model)


def check_packing(model: Any, batch: "dict[str, Any]") -> None:
    """Computes one batch both ways. ConfigError where the log-probs differ by more than
    rounding.
    """
    error = _packing_error(model, batch)
    if not error <= ERROR_MAX:  # also for one that is not a number
        raise ConfigError(
            "this model does not isolate packed completions: their log-probs differ by "
            f"{error:.2g} nats per token from unpacked ones; set `pack_pairs: false` "
            "and `precompute_ref_log_probs: false`"
        )


def _packing_error(model: Any, batch: "dict[str, Any]") -> float:
    """Mean over the answers' tokens of how far the packed log-probability is from the padded
    one, in nats.
    """
    import torch

    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    was_training = model.training
    model.eval()  # dropout and NEFTune's noise would make any two passes differ
    with torch.no_grad():
        padded, packed = (
            model(
                **inputs, **plan, labels=labels, use_cache=False, fused_lm_head=True
            ).log_probs.float()
            for plan in ({}, {"packed": batch["packed"]})
        )
    model.train(was_training)
    return float((padded - packed).abs().sum() / (labels[:, 1:] != -100).sum().clamp(min=1))


def _gather(table: "torch.Tensor", indices: "torch.Tensor", padding: int) -> "torch.Tensor":
    """The table's values in packed order, `padding` where the plan says so."""
    from torch.nn.functional import pad

    return pad(table.flatten(), (0, 1), value=padding)[indices]


def _scatter(
    values: "torch.Tensor", indices: "torch.Tensor", shape: "torch.Size"
) -> "torch.Tensor":
    """Values per predicted token, [R, W - 1], as those of the padded table, [2 B, L - 1]; 0
    where that has padding.

    The first token of a document is predicted from the one before, another document's; it lands
    in the first column, which is not among the predicted ones. The last slot takes what belongs
    to padding.
    """
    slots = values.new_zeros(shape.numel() + 1).scatter(
        0, indices[:, 1:].flatten(), values.flatten()
    )
    return slots[:-1].view(shape)[:, 1:]
