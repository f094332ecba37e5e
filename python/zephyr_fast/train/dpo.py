"""Direct preference optimization on tokenized pairs with TRL's DPOTrainer.

Four things differ from stock TRL: pairs are not tokenized again, rows are read in a reproducible
order, reference log-probs can be stored (`zephyr-fast ref-logprobs`) instead of a reference model
in memory, and completions are packed instead of padded.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trl
from trl.trainer import dpo_trainer

from zephyr_fast._core import ConfigError
from zephyr_fast.dataset.product import Product
from zephyr_fast.load.collators import PairCollator, layout_for
from zephyr_fast.load.index import IndexRows
from zephyr_fast.train import configs, packing, run, saving
from zephyr_fast.train.adapter_targets import check_targets
from zephyr_fast.train.complete import ReferenceMixin
from zephyr_fast.train.dropout import disable_dropout
from zephyr_fast.train.effects import check_preferences
from zephyr_fast.train.evaluation import ROWS, Weights
from zephyr_fast.train.metrics import preferences
from zephyr_fast.train.model import (
    load_tokenizer,
    log,
    model_name,
    resolve_model,
    warn_of_other_ids,
)
from zephyr_fast.train.padding_free import pack_forward
from zephyr_fast.train.ref_logprobs import attach
from zephyr_fast.train.ref_logprobs.store import COLUMNS
from zephyr_fast.train.trainers import CheckedTrainerMixin
from zephyr_fast.train.trust import refused_weights

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOConfig, ModelConfig


class DPOTrainer(ReferenceMixin, CheckedTrainerMixin, trl.DPOTrainer):  # type: ignore[misc]  # TRL is untyped
    """TRL's trainer on tokenized pairs; TRL would tokenize text, always (trl#2368)."""

    data_collator: PairCollator
    pack = "auto"
    """One of `packing.CHOICES`."""

    _is_packed: bool | None = None

    def __init__(self, model: Any, args: "DPOConfig", **rest: Any) -> None:
        with (
            _without_reference(isinstance(model, str))
            if args.precompute_ref_log_probs
            else nullcontext()
        ):
            super().__init__(model=model, args=args, **rest)
        if args.disable_dropout:
            for one in (self.model, self.ref_model):
                if one is not None:
                    disable_dropout(one)

    def _prepare_dataset(self, dataset: "Dataset", *_args: Any, **_kwargs: Any) -> "Dataset":
        return dataset

    def _precompute_ref_logps(
        self, dataset: "Dataset", name: str, *_args: Any, **_kwargs: Any
    ) -> "Dataset":
        """Return the dataset, which has the columns; TRL does not check for them (trl#3985)."""
        if not set(COLUMNS) <= set(dataset.column_names):
            raise ConfigError(
                f"`precompute_ref_log_probs` is set, but the `{name}` pairs have no stored "
                "reference log-probs; run `zephyr-fast ref-logprobs`"
            )
        return dataset

    def pack_pairs(self) -> None:
        """Compute all further batches without padding, in the layout that the attention needs.

        Raises:
            ConfigError: If `pack` is `true` and the attention is not known to isolate packed
                completions. Otherwise, batches stay padded.
        """
        attention = self.model.config._attn_implementation
        adapter = getattr(self.model, "active_peft_config", None)
        try:
            if adapter is not None and adapter.is_prompt_learning:
                raise ConfigError("prompt-learning adapters cannot be packed")
            layout = layout_for(attention)
        except ConfigError as error:
            if self.pack == "true":
                raise ConfigError(f"{error}; or set `pack: auto`") from error
            log(f"{error}; continuing with one completion per row, which is slower")
            return
        for model in (self.model, self.ref_model):
            if model is not None:
                unwrapped = self.accelerator.unwrap_model(model)
                pack_forward(
                    unwrapped.get_base_model()
                    if adapter is not None and model is self.model
                    else unwrapped
                )
        self.data_collator = replace(self.data_collator, layout=layout)
        log(f"packing completions (layout `{layout}`, attention `{attention}`)")

    def weights(self, inputs: Mapping[str, Any]) -> Weights:
        """Return the pairs and the completion tokens of a batch."""
        chosen, rejected = inputs["completion_mask"][:, 1:].sum(dim=1).chunk(2)
        tokens = int(chosen.sum()), int(rejected.sum())
        return {
            ROWS: len(chosen),
            "entropy": sum(tokens),
            "logits/chosen": tokens[0],
            "logits/rejected": tokens[1],
            "mean_token_accuracy": tokens[0],
            "aux_loss": int(inputs["attention_mask"].sum()),
        }

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return TRL's loss; an evaluation also has the measures of `metrics.preferences`."""
        inputs = self._packed_if_isolated(model, inputs)
        if self.model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        outputs: list[Any] = []
        mask = inputs["completion_mask"]

        def recorded(**given: Any) -> Any:
            outputs.append(model(**given))
            return outputs[-1]

        result = super().compute_loss(recorded, inputs, *args, **kwargs)
        for name, value in preferences(outputs[0].log_probs, mask).items():
            self._metrics["eval"][name].append(value)
        return result

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return self._packed_if_isolated(self.model_wrapped, super()._prepare_inputs(inputs))

    def _packed_if_isolated(self, model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the batch, padded unless the model is proven to isolate packed completions.

        This is done once before the first step, with the sharded and quantized model.
        """
        if "packed" in inputs and not self._isolates(model, inputs):
            return {name: value for name, value in inputs.items() if name != "packed"}
        return inputs

    def _isolates(self, model: Any, inputs: dict[str, Any]) -> bool:
        if self._is_packed is None:
            args, layout = self.args, self.data_collator.layout
            assert layout is not None  # else the batch would not be packed
            pairs = max(args.per_device_train_batch_size, args.per_device_eval_batch_size)
            self._is_packed = all(
                packing.allowed(
                    self.pack,
                    packing.prove(
                        one,
                        inputs["input_ids"][inputs["attention_mask"].bool()],
                        layout,
                        # Not the width of this batch: later ones may be wider, and those of
                        # other ranks.
                        width=args.max_length or inputs["input_ids"].shape[1],
                        windows=2 * pairs,
                        autocast=packing.autocast(self.accelerator),
                        device=self.accelerator.device,
                        gather=self.accelerator.gather,
                    ),
                )
                for one in (model, self.ref_model)
                if one is not None
            )
        return self._is_packed


def parse(arguments: list[str]) -> "tuple[configs.ShardArguments, DPOConfig, ModelConfig]":
    """Parse the arguments of `main` from YAML and the command line."""
    data, training, model = configs.parse(trl.DPOConfig, arguments)
    return data, training, model


def main(data: configs.ShardArguments, training: "DPOConfig", model: "ModelConfig") -> None:
    """Train on the `train` pairs of `data.shards`, evaluate on the `test` pairs of the first.

    Saves the model to `training.output_dir`.

    Raises:
        ZephyrError: For invalid or incompatible data, models and options.
    """
    pack = packing.choice(data.pack)
    check_preferences(training, pack)
    manifests = run.read_manifests(data, Product.PAIRS)
    run.apply_shard_settings(data, training, manifests)
    tokenizer = load_tokenizer(data.shards[0], manifests[0])
    warn_of_other_ids(tokenizer, data.shards[0], manifests[0])
    train_dataset, eval_dataset = run.open_splits(data, training, manifests[0])
    tokenizer.chat_template = saving.template_with_bos(IndexRows(train_dataset).shards, tokenizer)
    if training.precompute_ref_log_probs:
        keys = attach.keys_of_run(training, model, manifests)
        train_dataset = attach.with_reference(train_dataset, data.shards, keys, "train")
        eval_dataset = eval_dataset and attach.with_reference(
            eval_dataset, data.shards[:1], keys[:1], "test"
        )
    start = resolve_model(model, training, manifests, tokenizer)

    with refused_weights(f"the model `{model_name(model)}`"):
        trainer = DPOTrainer(
            model=start.model,
            args=training,
            data_collator=PairCollator(tokenizer.pad_token_id, training.pad_to_multiple_of),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            quantization_config=start.quantization_config,
            peft_config=start.peft_config,
        )
    if start.peft_config is not None:
        check_targets(trainer.model, model)
    trainer.remainder = data.remainder
    trainer.end_token_ids = saving.end_tokens(manifests, tokenizer)
    trainer.pack = pack
    if pack != "false":
        trainer.pack_pairs()

    run.run_training(trainer)


@contextmanager
def _without_reference(loads_policy: bool) -> Iterator[None]:
    """Patch TRL while it builds a trainer with stored reference log-probs.

    TRL would hash all weights for the name of a cache file (minutes for 7 B parameters,
    `_precompute_model_hash`) and, under FSDP, load a second model and discard it. Neither is
    needed. If the policy is a name, TRL loads it first, with the same function as the reference.
    """
    hash_module, load = dpo_trainer.hash_module, dpo_trainer.create_model_from_path
    remaining = [load] if loads_policy else []
    dpo_trainer.hash_module = lambda _module: ""
    dpo_trainer.create_model_from_path = lambda *args, **kwargs: (
        remaining.pop()(*args, **kwargs) if remaining else None
    )
    try:
        yield
    finally:
        dpo_trainer.hash_module, dpo_trainer.create_model_from_path = hash_module, load
