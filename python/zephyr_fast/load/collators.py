"""Turns samples into batches of tensors without letting packed documents see each other.

A packed window holds several documents. Transformers keeps them apart only where it finds
restarting `position_ids` and *no* attention mask (TRL's default collator sends one, and then
every document attends to those before it, with no warning: logits off by 0.5). Flash attention
looks for restarts only in a batch of one row. Hence two layouts.
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
"""Tensors by name; the longest document of a batch, `max_length_q`, is an int."""

Layout = Literal["varlen", "rows"]

IGNORED = -100
"""The label of a token that is not trained."""


def layout_for(attention: str) -> Layout:
    """The layout in which `attention` (transformers' name of an implementation) keeps documents
    apart.

    ConfigError for one that is not known to do so in either.
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
    """Packed windows (`input_ids`, `labels`, `seq_lengths`) to a batch of int64 tensors with no
    attention mask.

    `varlen`: all windows of the batch in one row, [1, T], and the documents' borders for flash
    attention kernels. `rows`: one window a row, [B, L], padded on the right; the padding is one
    more document. The first token of each document has label -100: it would be predicted from
    the document before.
    """

    layout: Layout
    pad_token_id: int
    pad_to_multiple_of: int | None = None

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        if self.layout == "rows":
            return self._rows(samples)
        return self._varlen(samples)

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
    """Pairs (`prompt_ids`, `chosen_ids`, `rejected_ids`) to the batch of TRL's own preference
    collator.

    `input_ids`, `attention_mask` and `completion_mask` are [2 B, L] int64: the chosen ones
    first, then the rejected ones, padded on the right. `ref_chosen_logps` and
    `ref_rejected_logps` ([B] float32) are passed on. With a layout there is `packed` beside
    them: the plan by which `train.padding_free` lays the same answers out, each with its prompt
    as one document, before the model sees them.
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
        """For each position of the packed rows [R, W], `indices`: the index of its token in the
        padded table [2 B, width], flattened.

        The number 2 B · width stands for padding. Beside it what tells the documents of a row
        apart.
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
    """The documents of each row, no row longer than the longest document: the longest first,
    each where it fits closest.
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
    """Where the documents of a varlen row begin and end, as flash attention and state-space
    kernels take it.
    """
    borders = _tensor(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return {
        "cu_seq_lens_q": borders,
        "cu_seq_lens_k": borders,
        "max_length_q": int(lengths.max()),
        "max_length_k": int(lengths.max()),
        "seq_idx": _tensor(np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[None]),
    }


def _positions(lengths: Ints) -> Ints:
    """0, 1, 2 … within each document."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) - np.repeat(starts, lengths)


def _filled(lengths: Ints, width: int) -> Ints:
    """The lengths with the padding, if there is any, as the last one."""
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
