"""Turn off all dropout of a model, for DPO.

TRL's `disable_dropout` only reaches layers of the class `Dropout`. Many models keep a probability
as a number instead, such as `attention_dropout` of Llama or `dropout` of OPT. The reference has no
dropout, so the first loss of a run would not be log 2, and the log-probs would be noisy.
"""

from typing import Any


def disable_dropout(model: Any) -> None:
    """Set every dropout probability of the model's modules to 0."""
    from torch.nn.modules.dropout import _DropoutNd

    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and "drop" in name:
                setattr(module, name, 0.0)
