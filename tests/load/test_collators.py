"""Packed documents do not see each other: the loss of a packed window is that of its documents
alone, and labels are the masks'.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from windows import documents
from zephyr_fast import ConfigError
from zephyr_fast.load.collators import IGNORED, WindowCollator, layout_for
from zephyr_fast.load.shards import Shards

PAD = 2


def summed_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The sum over all labelled tokens of their negative log-probability."""
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("multiple", [None, 64])
def test_a_packed_window_has_the_loss_of_its_documents_alone(
    shards: Path, start: Path, attention: str, multiple: int | None
) -> None:
    model = AutoModelForCausalLM.from_pretrained(start, attn_implementation=attention).eval()
    samples = [sample for sample in Shards(shards, "train") if len(sample["seq_lengths"]) > 1][:4]
    batch = WindowCollator(layout_for(attention), PAD, multiple)(samples)
    with torch.inference_mode():
        packed = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits
        together = summed_loss(packed, batch["labels"])
        alone = [
            summed_loss(model(input_ids=ids, use_cache=False).logits, labels)
            for sample in samples
            for ids, labels in documents(sample)
        ]
    assert len(alone) > len(samples)
    torch.testing.assert_close(together, torch.stack(alone).sum(), rtol=1e-5, atol=0)


def test_an_attention_mask_would_let_documents_see_each_other(shards: Path, start: Path) -> None:
    """The trap that the collator avoids; where transformers mends it, this fails and the note in
    collators.py is old.
    """
    model = AutoModelForCausalLM.from_pretrained(start, attn_implementation="sdpa").eval()
    sample = next(sample for sample in Shards(shards, "train") if len(sample["seq_lengths"]) > 1)
    batch = WindowCollator("rows", PAD)([sample])
    with torch.inference_mode():
        right = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
        ).logits
        ones = torch.ones_like(batch["input_ids"])
        wrong = model(
            input_ids=batch["input_ids"],
            position_ids=batch["position_ids"],
            attention_mask=ones,
            use_cache=False,
        ).logits
    assert (right - wrong).abs().max() > 1e-2


def test_labels_are_the_shards_own_but_for_the_first_token_of_each_document(shards: Path) -> None:
    samples = list(Shards(shards, "train"))[:8]
    batch = WindowCollator("rows", PAD)(samples)
    for row, sample in enumerate(samples):
        wanted = sample["labels"].astype(np.int64)
        wanted[np.cumsum([0, *sample["seq_lengths"][:-1]])] = IGNORED
        found = batch["labels"][row].numpy()
        np.testing.assert_array_equal(found[: len(wanted)], wanted)
        assert (found[len(wanted) :] == IGNORED).all()


def test_both_layouts_hold_the_same_tokens_labels_and_positions(shards: Path) -> None:
    samples = list(Shards(shards, "train"))[:5]
    rows, varlen = (WindowCollator(layout, PAD)(samples) for layout in ("rows", "varlen"))
    lengths = [len(sample["input_ids"]) for sample in samples]
    for name in ("input_ids", "labels", "position_ids"):
        flat = torch.cat([rows[name][row, :length] for row, length in enumerate(lengths)])
        assert torch.equal(varlen[name][0], flat)
    borders = varlen["cu_seq_lens_q"].tolist()
    assert np.diff(borders).tolist() == [
        length for sample in samples for length in sample["seq_lengths"]
    ]
    assert varlen["max_length_q"] == max(np.diff(borders))


def test_attention_that_is_not_known_to_keep_documents_apart_is_refused() -> None:
    assert (
        layout_for("flash_attention_2") == layout_for("kernels-community/flash-attn2") == "varlen"
    )
    for attention in ("paged|flash_attention_2", "my_attention"):
        with pytest.raises(ConfigError, match="isolate packed documents"):
            layout_for(attention)
