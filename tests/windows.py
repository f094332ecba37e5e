"""Takes packed windows apart."""

from typing import Any

import numpy as np
import torch


def documents(sample: dict[str, Any]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels of each document of a window, each as a batch of one."""
    borders = np.cumsum(sample["seq_lengths"])[:-1]
    parts = zip(
        np.split(sample["input_ids"], borders), np.split(sample["labels"], borders), strict=True
    )
    return [
        (torch.tensor(ids[None]).long(), torch.tensor(labels[None]).long()) for ids, labels in parts
    ]
