"""Measure how often a model assigns the chosen completion of a pair a higher log-prob.

TRL's `rewards/accuracies` compares with the reference model; these measures do not.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def preferences(log_probs: "torch.Tensor", completion_mask: "torch.Tensor") -> dict[str, float]:
    """Return how a model ranks the pairs of a batch.

    Args:
        log_probs: Log-prob of each next token, [2 B, L - 1], 0 outside completions; chosen
            completions first. An adapter may add columns on the left.
        completion_mask: [2 B, L], 1 for completion tokens.

    Returns:
        `preference_accuracy`: share of pairs whose chosen completion has the higher summed
        log-prob. `preference_margin`: mean log-prob per token of the chosen minus that of the
        rejected completion, in nats.
    """
    trained = completion_mask[:, 1:]
    sums = (log_probs[:, -trained.shape[1] :].float() * trained).sum(dim=1)
    chosen, rejected = sums.chunk(2)
    per_token = sums / trained.sum(dim=1).clamp(min=1)
    margins = per_token.chunk(2)[0] - per_token.chunk(2)[1]
    return {
        "preference_accuracy": float((chosen > rejected).float().mean()),
        "preference_margin": float(margins.mean()),
    }
