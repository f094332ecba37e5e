"""Trainer mixin that saves models which are ready to chat, in checkpoints and at the end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zephyr_fast._core import IntegrityError
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.load.collators import IGNORED
from zephyr_fast.load.index import Selection
from zephyr_fast.load.mixture import Mixture
from zephyr_fast.load.samples import Sample
from zephyr_fast.load.shards import Shards
from zephyr_fast.printed import shown

Rows = Shards | Mixture | Selection

ROWS = 256
"""Rows of a dataset that are searched for a document without BOS."""


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


def end_tokens(manifests: Sequence[Manifest], tokenizer: Any) -> list[int]:
    """Return the ids of the tokens that end the trained messages of the datasets.

    A model stops when it generates one of them. They are often not the tokenizer's EOS: Llama-3
    ends messages with `<|eot_id|>`. Several datasets give the union, because the model learns all
    of them.

    Raises:
        IntegrityError: If a manifest lists an id that the tokenizer does not have.
    """
    known = set(tokenizer.get_vocab().values())
    ids = {id for manifest in manifests for id in manifest.require_tokens()[1].end_tokens}
    if unknown := sorted(ids - known):
        raise IntegrityError(
            f"the manifest lists {unknown[0]} as a token that ends messages, but the shards' "
            "tokenizer has no such id; rebuild the dataset"
        )
    return sorted(ids)


def without_end(manifests: Sequence[Manifest]) -> str | None:
    """Return a warning if no single token ends the trained messages, so a model may not stop."""
    templates = [manifest.require_tokens()[1] for manifest in manifests]
    if any(template.end_tokens for template in templates):
        return None
    ends = " or ".join(f"`{shown(end, 40)}`" for end in templates[0].ends)
    reason = f"messages end with {ends}, which is several tokens" if ends else "no end is trained"
    return f"warning: the model may not stop by itself, because {reason}"


def template_with_bos(rows: Rows, tokenizer: Any) -> Any:
    """Return the chat template, beginning with BOS if all documents of the rows do.

    The tokenizer adds BOS to text, but not to what a chat template renders. So a model would get
    chats without the token that began each document in training.
    """
    bos, template = tokenizer.bos_token, tokenizer.chat_template
    if bos is None or {_first(sample) for sample in _some(rows)} != {tokenizer.bos_token_id}:
        return template
    if isinstance(template, dict):
        return {name: _with_bos(one, bos) for name, one in template.items()}
    return _with_bos(template, bos)


def _with_bos(template: Any, bos: str) -> Any:
    # The template is not rendered here: it comes with the dataset, and could run forever.
    is_bare = isinstance(template, str) and "bos_token" not in template and bos not in template
    return "{{ bos_token }}" + template if is_bare else template


def _some(rows: Rows) -> Sequence[Sample]:
    """Return some of the rows, evenly spread."""
    return rows.samples(np.unique(np.linspace(0, len(rows) - 1, ROWS).astype(np.int64)))


def _first(sample: Sample) -> int:
    ids = sample["prompt_ids"] if "prompt_ids" in sample else sample["input_ids"]
    return int(ids[0]) if len(ids) else IGNORED
