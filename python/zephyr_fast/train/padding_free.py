"""Pack completions inside the model's forward pass, so that TRL's loss stays unchanged.

TRL disabled padding-free preference training (trl#2469), because its loss expects one completion
per row. Here, the loss is not touched. The model's `forward` packs the padded table by the plan of
`PairCollator`, computes rows without padding, and writes each token's log-prob back to its index in
the table. So every loss, metric and option of the installed TRL applies, and each completion sums
the same tokens.

Example: prompt 5, chosen completion 6, rejected completion 7 8 9. TRL's table has two padded rows:

>>> from zephyr_fast.load.collators import PairCollator
>>> pair = {"prompt_ids": [5], "chosen_ids": [6], "rejected_ids": [7, 8, 9]}
>>> batch = PairCollator(pad_token_id=0, layout="varlen")([pair])
>>> table, indices = batch["input_ids"], batch["packed"]["indices"]
>>> table.tolist(), indices.tolist()
([[5, 6, 0, 0], [5, 7, 8, 9]], [[0, 1, 4, 5, 6, 7]])

The model sees six tokens instead of eight, and positions restart with each completion:

>>> _gather(table, indices, padding=0).tolist(), batch["packed"]["position_ids"].tolist()
([[5, 6, 5, 7, 8, 9]], [[0, 1, 0, 1, 2, 3]])

It returns one value per token except the first, here 1 to 5, which are written back to TRL's table.
The 2 is dropped: it predicts the second 5 from the 6, which belongs to another completion.

>>> import torch
>>> _scatter(torch.tensor([[1, 2, 3, 4, 5]]), indices, table.shape).tolist()
[[1, 0, 0], [3, 4, 5]]
"""

import functools
import types
from typing import TYPE_CHECKING, Any

from zephyr_fast.train.token_counts import router_mask

if TYPE_CHECKING:
    import torch

PER_TOKEN = ("log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1", "label_mask")
"""The fields of TRL's FusedCausalLMOutput with one value per token."""


def pack_forward(model: Any) -> None:
    """Let `model`, which has TRL's fused LM head, accept `packed` along with a padded batch.

    `packed` is the plan of a `PairCollator` with a layout. Without it, nothing changes. The
    attention must isolate documents in this layout (`load.collators.layout_for`), and an adapter
    must not prepend tokens.
    """
    padded_forward = model.forward

    @functools.wraps(type(model).forward)  # `generate` inspects the signature
    def forward(
        _self: Any, *positional: Any, packed: "dict[str, Any] | None" = None, **inputs: Any
    ) -> Any:
        if packed is None or not inputs.get("fused_lm_head"):
            return padded_forward(*positional, **inputs)
        plan = dict(packed)
        indices, ids, labels = plan.pop("indices"), inputs.pop("input_ids"), inputs.pop("labels")
        # With a mask, transformers would not isolate the documents of a row.
        inputs.pop("attention_mask")
        with router_mask((indices < ids.numel()).long()):
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


def _gather(table: "torch.Tensor", indices: "torch.Tensor", padding: int) -> "torch.Tensor":
    """Return the table's values in packed order, with `padding` in padded positions."""
    from torch.nn.functional import pad

    return pad(table.flatten(), (0, 1), value=padding)[indices]


def _scatter(
    values: "torch.Tensor", indices: "torch.Tensor", shape: "torch.Size"
) -> "torch.Tensor":
    """Write values per predicted token, [R, W - 1], to the padded table, [2 B, L - 1].

    Padded positions are 0. The first token of a document is predicted from another document. Its
    value goes to the first column, which is cut off. The last slot receives the values of padding.
    """
    slots = values.new_zeros(shape.numel() + 1).scatter(
        0, indices[:, 1:].flatten(), values.flatten()
    )
    return slots[:-1].view(shape)[:, 1:]
