"""The trainers of TRL that several training methods build on, reading shards in our order."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import trl

from zephyr_fast._core import ConfigError
from zephyr_fast.load.collators import IGNORED, Layout, WindowCollator, layout_for
from zephyr_fast.load.index import IndexRows, is_index
from zephyr_fast.train import packing
from zephyr_fast.train.causality import CausalityMixin
from zephyr_fast.train.divergence import DivergenceMixin
from zephyr_fast.train.evaluation import ROWS, ExactEvaluationMixin, Weights
from zephyr_fast.train.model import log, warn_of_other_ids
from zephyr_fast.train.optimizers import OptimizerMixin
from zephyr_fast.train.ordered import OrderedTrainerMixin
from zephyr_fast.train.precision import PrecisionMixin
from zephyr_fast.train.resumed import ResumeMixin
from zephyr_fast.train.saving import SavingMixin, end_tokens, template_with_bos
from zephyr_fast.train.token_counts import TokenCountMixin


class CheckedTrainerMixin(
    ResumeMixin,
    OptimizerMixin,
    SavingMixin,
    PrecisionMixin,
    DivergenceMixin,
    ExactEvaluationMixin,
    TokenCountMixin,
    CausalityMixin,
    OrderedTrainerMixin,
):
    """What the trainers of all methods share."""


class SFTTrainer(CheckedTrainerMixin, trl.SFTTrainer):  # type: ignore[misc]  # TRL is untyped
    """TRL's trainer; rows come in our order, packed only where the model is proven to keep their
    documents apart.
    """

    pack = "auto"
    """Of `packing.CHOICES`."""

    data_collator: WindowCollator
    _is_packed: bool | None = None

    def __init__(
        self,
        model: Any,
        args: Any = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        **rest: Any,
    ) -> None:
        args = trl.SFTConfig() if args is None else args
        rows = IndexRows(train_dataset).shards if is_index(train_dataset) else None
        if rows is not None:
            # TRL would tokenize, truncate to its default of 1,024 tokens and drop columns.
            args.dataset_kwargs = {"skip_prepare_dataset": True}
            args.remove_unused_columns = False
            args.max_length = max(
                split.seq_len for manifest in rows.manifests for split in manifest.splits.values()
            )
        if isinstance(data_collator, WindowCollator):
            data_collator = replace(data_collator, counts=True)
        super().__init__(
            model, args=args, data_collator=data_collator, train_dataset=train_dataset, **rest
        )
        if rows is not None:
            tokenizer = self.processing_class
            warn_of_other_ids(tokenizer, str(rows.folder), rows.manifests[0])
            tokenizer.chat_template = template_with_bos(rows, tokenizer)
            self.end_token_ids = end_tokens(rows.manifests, tokenizer)
            if data_collator is None:
                self.collate(tokenizer.pad_token_id)

    def collate(self, pad_token_id: int) -> None:
        """Sets the collator, in the layout that the model's attention needs.

        ConfigError where that attention is not known to keep documents apart and `pack` is true.
        """
        layout: Layout = "rows"
        if self.pack == "false":
            self._is_packed = False
        else:
            try:
                layout = layout_for(self.model.config._attn_implementation)
            except ConfigError as error:
                if self.pack == "true":
                    raise
                log(f"{error}; continuing with one document per row, which is slower")
                self._is_packed = False
        self.data_collator = WindowCollator(
            layout, pad_token_id, self.args.pad_to_multiple_of, counts=True
        )

    def weights(self, inputs: Mapping[str, Any]) -> Weights:
        """Return the label tokens of a batch, which the loss is a mean over."""
        return {ROWS: int((inputs["labels"][:, 1:] != IGNORED).sum())}

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The batch on its device; unpacked where the proof, on the first batch, fails."""
        inputs = super()._prepare_inputs(inputs)
        if not isinstance(self.data_collator, WindowCollator) or "position_ids" not in inputs:
            return inputs
        if self._is_packed is None:
            self._is_packed = all(
                packing.allowed(self.pack, self._proof(model, inputs))
                for model in self.trained_models()
            )
        if self._is_packed:
            return inputs
        return packing.unpacked(inputs, self.data_collator.pad_token_id)

    def _proof(self, model: Any, inputs: dict[str, Any]) -> packing.Proof:
        args, layout = self.args, self.data_collator.layout
        rows = max(args.per_device_train_batch_size, args.per_device_eval_batch_size)
        longest = args.max_length or inputs["input_ids"].shape[1]
        return packing.prove(
            model,
            inputs["input_ids"],
            layout,
            width=longest,
            windows=rows,
            autocast=packing.autocast(self.accelerator),
            device=self.accelerator.device,
            gather=self.accelerator.gather,
        )
