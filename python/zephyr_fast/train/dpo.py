"""Direct preference optimisation on pairs of token ids, with TRL's DPOTrainer taught to take them as they are."""

from functools import partial
from typing import TYPE_CHECKING, Any

import trl

from zephyr_fast.collators import PairCollator
from zephyr_fast.train import configs, run
from zephyr_fast.train.model import load_start, load_tokenizer, read_manifest
from zephyr_fast.train.preference import preference_accuracy

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOConfig, ModelConfig


class DPOTrainer(trl.DPOTrainer):  # type: ignore[misc]  # TRL is untyped
    """TRL's trainer on prepared pairs. Upstream would tokenize text here and has no way to skip it (trl#2368)."""

    def _prepare_dataset(self, dataset: "Dataset", *_args: Any, **_kwargs: Any) -> "Dataset":
        return dataset


def parse(arguments: list[str]) -> "tuple[configs.ShardArguments, DPOConfig, ModelConfig]":
    """The arguments of `main`, from YAML and command line."""
    data, training, model = configs.parse(trl.DPOConfig, arguments)
    return data, training, model


def main(data: configs.ShardArguments, training: "DPOConfig", model: "ModelConfig") -> None:
    """Trains on the `train` pairs of `data.shards`, evaluates on its `test` pairs, saves to `training.output_dir`."""
    manifest = read_manifest(data.shards, "preference")
    run.settle(training, manifest)
    tokenizer = load_tokenizer(data.shards, manifest)
    start = load_start(model, training, manifest, tokenizer)
    train_dataset, eval_dataset = run.open_splits(data.shards, training, manifest)

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

    is_sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    run.train(trainer, measure=dict if is_sharded else partial(preference_accuracy, trainer.model, data.shards))
