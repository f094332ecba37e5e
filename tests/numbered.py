"""Packed windows and pairs that say their own row number, so that what training consumed can be
read off its batches.
"""

from pathlib import Path
from typing import Any

import numpy as np

from shards_by_hand import write

LENGTH = 8


def numbered(folder: Path, rows: int, first: int = 0, test_rows: int = 0) -> Path:
    """Shards of `rows` windows with the numbers from `first` on, two documents each."""
    splits = {
        "train": [window(first + row) for row in range(rows)],
        "test": [window(row) for row in range(test_rows)],
    }
    return write(folder, "sft", splits, seq_len=LENGTH, rows_per_batch=5)


def window(number: int) -> dict[str, Any]:
    ids = [1, 3 + number // 1000, 3 + number % 1000, 3, 1, 4, 5, 6]
    return {
        "input_ids": ids,
        "labels": [-100, *ids[1:4], -100, *ids[5:]],
        "seq_lengths": [4, 4],
        "row_ids": [2 * number, 2 * number + 1],
    }


def numbered_pairs(folder: Path, rows: int, first: int = 0) -> Path:
    """Shards of `rows` pairs with the numbers from `first` on in their prompts, and answers of
    one to four tokens.
    """
    pairs = [pair_of(first + row) for row in range(rows)]
    return write(folder, "preference", {"train": pairs}, seq_len=LENGTH, rows_per_batch=5)


def pair_of(number: int) -> dict[str, Any]:
    prompt = [1, 3 + number // 1000, 3 + number % 1000, 3]
    scores = {"score_chosen": 1.0, "score_rejected": 0.0, "row_id": number, "pair": 0}
    return {
        "prompt_ids": prompt,
        "chosen_ids": [4, 5, 6, 7][: 1 + number % 4],
        "rejected_ids": [8, 9][: 1 + number % 2],
        **scores,
    }


def numbers(input_ids: Any) -> list[int]:
    """Row numbers of a batch [B, LENGTH], or of the answers of pairs."""
    table = np.asarray(input_ids)
    return [int(row) for row in (table[:, 1] - 3) * 1000 + table[:, 2] - 3]


def collate(samples: list[dict[str, Any]]) -> list[int]:
    """Row numbers of samples, minus one less where nothing is trained; in a file of its own, so
    that workers can import it.
    """
    found = numbers(np.stack([sample["input_ids"] for sample in samples]))
    return [
        number if (sample["labels"] != -100).any() else -1
        for number, sample in zip(found, samples, strict=True)
    ]
