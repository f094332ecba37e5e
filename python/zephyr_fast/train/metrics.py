"""Measure how often a model assigns the chosen completion of held-out pairs a higher log-prob."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_fast.load.collators import PairCollator
from zephyr_fast.load.shards import Shards

if TYPE_CHECKING:
    import torch

PAIRS_PER_BATCH = 8


def preference_accuracy(model: Any, shards: str | Path, split: str = "test") -> dict[str, float]:
    """Evaluate how a causal language model (transformers) ranks the pairs of a split.

    Under accelerate, each process evaluates its part, and all return the same result. Models
    sharded over processes (FSDP, ZeRO-3) are not supported.

    Args:
        model: The model, on the device to use.
        shards: Directory or URL of a dataset of pairs.
        split: Name of the split.

    Returns:
        `preference_accuracy`: share of pairs whose chosen completion has the higher summed
        log-prob. `preference_margin`: mean log-prob per token of the chosen minus that of the
        rejected completion, in nats. `preference_pairs`: number of pairs.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import reduce

    state, pairs = PartialState(), Shards(shards, split)
    rows = range(state.process_index, len(pairs), state.num_processes)
    sums = torch.zeros(3, dtype=torch.float64)
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(rows), PAIRS_PER_BATCH):
            batch = PairCollator(pad_token_id=0)(
                [pairs[row] for row in rows[start : start + PAIRS_PER_BATCH]]
            )
            sums += _sums(model, {name: tensor.to(device) for name, tensor in batch.items()})
    model.train(was_training)
    right, margin, count = (
        reduce(sums.float().to(device), "sum") if state.num_processes > 1 else sums
    ).tolist()
    return {
        "preference_accuracy": right / count,
        "preference_margin": margin / count,
        "preference_pairs": count,
    }


def _sums(model: Any, batch: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """Return [3] float64: correctly ranked pairs, sum of the margins per token, number of pairs."""
    import torch

    trained = batch["completion_mask"][:, 1:].bool()
    logits = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2).float(), batch["input_ids"][:, 1:], reduction="none"
    )
    chosen, rejected = (
        -(losses * trained).sum(dim=1).chunk(2)[0],
        -(losses * trained).sum(dim=1).chunk(2)[1],
    )
    chosen_tokens, rejected_tokens = trained.sum(dim=1).chunk(2)
    margin = chosen / chosen_tokens - rejected / rejected_tokens
    return (
        torch.stack([(chosen > rejected).sum(), margin.sum(), torch.tensor(len(chosen))])
        .double()
        .cpu()
    )
