"""Trainer mixin that saves models which are ready to chat, in checkpoints and at the end."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zephyr_fast.load.collators import IGNORED
from zephyr_fast.load.samples import Sample
from zephyr_fast.load.shards import Shards

ROWS = 256
"""Rows of a dataset from which its end tokens are taken."""

SHARE = 0.01
"""Share of trained turns that a token must end; less often, a truncated turn ends with it."""


class SavingMixin:
    """Mixin to put before a subclass of transformers' `Trainer`."""

    accelerator: Any
    args: Any
    model: Any
    processing_class: Any

    end_token_ids: Sequence[int] = ()
    """Ids at which the saved model stops to generate, in addition to the model's own."""

    def save_model(self, output_dir: Any = None, *args: Any, **kwargs: Any) -> None:
        """Save the model, with its KV cache switched on and the tokens at which it stops.

        In training it is off: a cache would break the isolation of packed documents.

        Raises:
            DivergedError: If weights are NaN or infinite.
        """
        self.check_weights()  # type: ignore[attr-defined]  # of DivergenceMixin
        model = self.accelerator.unwrap_model(self.model)
        config, generation = model.config, getattr(model, "generation_config", None)
        before, config.use_cache = config.use_cache, True
        if generation is not None:
            generation.eos_token_id = self._stops(generation.eos_token_id)
        try:
            super().save_model(output_dir, *args, **kwargs)  # type: ignore[misc]
            if generation is not None and self.args.should_save:
                # peft does not save it with an adapter.
                generation.save_pretrained(Path(output_dir or self.args.output_dir))
        finally:
            config.use_cache = before

    def _stops(self, given: Any) -> int | list[int] | None:
        """Return the ids that end a generation: the model's, EOS, and those of trained turns."""
        ids = {
            *(given if isinstance(given, list) else [given]),
            getattr(self.processing_class, "eos_token_id", None),
            *self.end_token_ids,
        } - {None}
        return next(iter(ids)) if len(ids) == 1 else sorted(ids) or None


def end_tokens(shards: str, tokenizer: Any) -> list[int]:
    """Return the ids of the special tokens that end the trained turns of a dataset.

    A model stops when it generates one of them. They are often not the tokenizer's EOS: Llama-3
    ends turns with `<|eot_id|>`.
    """
    last = Counter(id for sample in _some(shards) for id in _last_of_turns(sample))
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special} | set(
        tokenizer.all_special_ids
    )
    least = SHARE * sum(last.values())
    return sorted(id for id, count in last.items() if id in special and count >= least)


def template_with_bos(shards: str, tokenizer: Any) -> Any:
    """Return the chat template, beginning with BOS if all documents of the dataset do.

    The tokenizer adds BOS to text, but not to what a chat template renders. So a model would get
    chats without the token that began each document in training.
    """
    bos, template = tokenizer.bos_token, tokenizer.chat_template
    starts = {int(_first(sample)) for sample in _some(shards)}
    if bos is None or starts != {tokenizer.bos_token_id}:
        return template
    if isinstance(template, dict):
        return {name: _with_bos(one, bos) for name, one in template.items()}
    return _with_bos(template, bos)


def _with_bos(template: Any, bos: str) -> Any:
    # The template is not rendered here: it comes with the dataset, and could run forever.
    is_bare = isinstance(template, str) and "bos_token" not in template and bos not in template
    return "{{ bos_token }}" + template if is_bare else template


def _some(shards: str) -> Sequence[Sample]:
    """Return rows of the `train` split, evenly spread."""
    rows = Shards(shards, "train")
    return rows.samples(np.unique(np.linspace(0, len(rows) - 1, ROWS).astype(np.int64)))


def _first(sample: Sample) -> int:
    ids = sample["prompt_ids"] if "prompt_ids" in sample else sample["input_ids"]
    return int(ids[0]) if len(ids) else IGNORED


def _last_of_turns(sample: Sample) -> list[int]:
    """Return the last token of each trained turn."""
    if "chosen_ids" in sample:
        return [int(sample[side][-1]) for side in ("chosen_ids", "rejected_ids")]
    labels = np.append(sample["labels"], IGNORED)
    ends = np.cumsum(sample["seq_lengths"]) - 1  # a turn also ends with its document
    is_last = (labels[:-1] != IGNORED) & (labels[1:] == IGNORED)
    is_last[ends] |= labels[:-1][ends] != IGNORED
    found: list[int] = sample["labels"][is_last].tolist()
    return found
