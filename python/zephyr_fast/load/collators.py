"""Collate samples into batches of tensors in which packed documents are isolated.

A packed sequence contains several documents. Transformers isolates them only if `position_ids`
restart with each document and there is no attention mask. TRL's default collator passes a mask, so
every document silently attends to the previous ones (logits are off by 0.5). Flash attention
detects restarts only in batches of one row. Therefore there are two layouts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from zephyr_fast._core import ConfigError
from zephyr_fast.load.samples import Sample

if TYPE_CHECKING:
    import torch

Ints = npt.NDArray[np.int64]
Batch = dict[str, Any]
"""Tensors by name. `max_length_q` and `max_length_k`, the longest document, are ints."""

Layout = Literal["varlen", "rows"]

IGNORED = -100
"""The label of a token that does not contribute to the loss."""


def layout_for(attention: str) -> Layout:
    """Return the layout in which an attention implementation isolates documents.

    Args:
        attention: Name of the implementation in transformers.

    Raises:
        ConfigError: If it is not known to isolate documents in either layout.
    """
    if attention in ("sdpa", "eager", "flex_attention"):
        return "rows"
    if "flash" in attention and not attention.startswith("paged"):
        return "varlen"
    raise ConfigError(
        f"attention implementation `{attention}` is not known to isolate packed "
        "documents; use flash_attention_2, flash_attention_3, flex_attention, sdpa "
        "or eager"
    )


@dataclass(frozen=True)
class WindowCollator:
    """Collate packed sequences into int64 tensors without an attention mask.

    Samples have the int32 columns `input_ids`, `labels` and `seq_lengths`. `varlen` concatenates
    the batch to one row [1, T] and adds the document boundaries for flash attention kernels. `rows`
    keeps one sequence per row [B, L], padded on the right. The padding counts as one more document.
    The first token of each document gets the label -100, because it would be predicted from the
    previous document.
    """

    layout: Layout
    pad_token_id: int
    pad_to_multiple_of: int | None = None
    counts: bool = False
    """Whether batches also have `token_counts`: the tokens of each row without padding, int64."""

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        batch = self._rows(samples) if self.layout == "rows" else self._varlen(samples)
        if self.counts:
            tokens = np.array([len(sample["input_ids"]) for sample in samples], dtype=np.int64)
            batch["token_counts"] = _tensor(tokens if self.layout == "rows" else tokens.sum()[None])
        return batch

    def _rows(self, samples: Sequence[Sample]) -> Batch:
        width = _round_up(
            max(len(sample["input_ids"]) for sample in samples), self.pad_to_multiple_of
        )
        return {
            "input_ids": _padded(
                [sample["input_ids"] for sample in samples], width, self.pad_token_id
            ),
            "labels": _padded([_labels(sample) for sample in samples], width, IGNORED),
            "position_ids": _stacked(
                [_positions(_filled(sample["seq_lengths"], width)) for sample in samples]
            ),
        }

    def _varlen(self, samples: Sequence[Sample]) -> Batch:
        ids = np.concatenate([sample["input_ids"] for sample in samples])
        width = _round_up(len(ids), self.pad_to_multiple_of)
        lengths = _filled(np.concatenate([sample["seq_lengths"] for sample in samples]), width)
        return {
            "input_ids": _padded([ids], width, self.pad_token_id),
            "labels": _padded(
                [np.concatenate([_labels(sample) for sample in samples])], width, IGNORED
            ),
            "position_ids": _stacked([_positions(lengths)]),
            **_borders(lengths),
        }


@dataclass(frozen=True)
class PairCollator:
    """Collate pairs into the batch of TRL's preference collator.

    Samples have the int32 columns `prompt_ids`, `chosen_ids` and `rejected_ids`. The batch has
    `input_ids`, `attention_mask` and `completion_mask` [2 B, L] int64: all chosen completions, then
    all rejected ones, padded on the right. `ref_chosen_logps` and `ref_rejected_logps` ([B]
    float32) are passed through. With a layout, the batch also has `packed`: the plan by which
    `train.padding_free` packs the completions, each with its prompt as one document, for the model.
    """

    pad_token_id: int
    pad_to_multiple_of: int | None = None
    layout: Layout | None = None

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        answers = [
            (sample["prompt_ids"], sample[side])
            for side in ("chosen_ids", "rejected_ids")
            for sample in samples
        ]
        width = _round_up(
            max(len(prompt) + len(answer) for prompt, answer in answers), self.pad_to_multiple_of
        )
        one = [np.ones(len(prompt) + len(answer), dtype=np.int64) for prompt, answer in answers]
        trained = [np.repeat([0, 1], [len(prompt), len(answer)]) for prompt, answer in answers]
        batch = {
            "input_ids": _padded(
                [np.concatenate(pair) for pair in answers], width, self.pad_token_id
            ),
            "attention_mask": _padded(one, width, 0),
            "completion_mask": _padded(trained, width, 0),
        }
        for name in ("ref_chosen_logps", "ref_rejected_logps"):
            if name in samples[0]:
                batch[name] = _tensor(
                    np.array([sample[name] for sample in samples], dtype=np.float32)
                )
        if self.layout:
            batch["packed"] = self._plan(np.array([len(tokens) for tokens in one]), width)
        return batch

    def _plan(self, lengths: Ints, width: int) -> Batch:
        """Return the plan of packed rows [R, W] for the padded table [2 B, width].

        `indices` [R, W] holds the index of each token in the flattened table; 2 B · width means
        padding. The remaining entries mark the documents of each row.
        """
        rows = [np.arange(len(lengths))] if self.layout == "varlen" else _best_fit(lengths)
        packed_width = _round_up(
            max(int(lengths[row].sum()) for row in rows), self.pad_to_multiple_of
        )
        tokens = [
            np.concatenate([document * width + np.arange(lengths[document]) for document in row])
            for row in rows
        ]
        plan = {
            "indices": _padded(tokens, packed_width, len(lengths) * width),
            "position_ids": _stacked(
                [_positions(_filled(lengths[row], packed_width)) for row in rows]
            ),
        }
        return plan | (_borders(_filled(lengths, packed_width)) if self.layout == "varlen" else {})


def _labels(sample: Sample) -> Ints:
    labels: Ints = sample["labels"].astype(np.int64)
    labels[np.cumsum(sample["seq_lengths"][:-1])] = IGNORED
    labels[0] = IGNORED
    return labels


def _best_fit(lengths: Ints) -> list[Ints]:
    """Return the documents of each row. No row is longer than the longest document.

    Documents are assigned from long to short, each to the row with the least sufficient room.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for document in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[document])
        fits = [row for row, left in enumerate(room) if left >= length]
        if fits:
            row = min(fits, key=lambda row: room[row])
        else:
            row = len(rows)
            rows.append([])
            room.append(int(lengths.max()))
        rows[row].append(document)
        room[row] -= length
    return [np.array(row) for row in rows]


def _borders(lengths: Ints) -> Batch:
    """Return the document boundaries of a varlen row, for flash attention and SSM kernels."""
    borders = _tensor(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return {
        "cu_seq_lens_q": borders,
        "cu_seq_lens_k": borders,
        "max_length_q": int(lengths.max()),
        "max_length_k": int(lengths.max()),
        "seq_idx": _tensor(np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[None]),
    }


def _positions(lengths: Ints) -> Ints:
    """Return 0, 1, 2 … for each document."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) - np.repeat(starts, lengths)


def _filled(lengths: Ints, width: int) -> Ints:
    """Return the lengths, with the padding, if any, as the last document."""
    padding = width - int(lengths.sum())
    return np.append(lengths, padding).astype(np.int64) if padding else lengths.astype(np.int64)


def _round_up(length: int, multiple: int | None) -> int:
    return length if multiple is None else -(-length // multiple) * multiple


def _padded(rows: list[Ints], width: int, value: int) -> "torch.Tensor":
    table = np.full((len(rows), width), value, dtype=np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return _tensor(table)


def _stacked(rows: list[Ints]) -> "torch.Tensor":
    return _tensor(np.stack(rows))


def _tensor(array: npt.NDArray[Any]) -> "torch.Tensor":
    import torch

    return torch.from_numpy(array)
