"""Supervised fine-tuning on packed shards with TRL's SFTTrainer."""

from typing import TYPE_CHECKING

import trl

from zephyr_fast._core import ConfigError
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.dataset.product import Product
from zephyr_fast.train import configs, packing, run
from zephyr_fast.train.adapter_targets import check_targets
from zephyr_fast.train.effects import check_noise
from zephyr_fast.train.model import load_tokenizer, model_name, resolve_model
from zephyr_fast.train.trainers import SFTTrainer
from zephyr_fast.train.trust import refused_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from trl import ModelConfig, SFTConfig


def parse(arguments: list[str]) -> "tuple[configs.WindowArguments, SFTConfig, ModelConfig]":
    """Parse the arguments of `main` from YAML and the command line."""
    data, training, model = configs.parse(trl.SFTConfig, arguments, configs.WindowArguments)
    return data, training, model


def main(data: configs.WindowArguments, training: "SFTConfig", model: "ModelConfig") -> None:
    """Train on the `train` split of `data.shards`, evaluate on the `test` split of the first.

    Saves the model to `training.output_dir`.

    Raises:
        ZephyrError: For invalid or incompatible data, models and options.
    """
    pack = packing.choice(data.pack)
    check_noise(training, pack)
    if data.teacher is None and data.teacher_weight != configs.WindowArguments.teacher_weight:
        raise ConfigError("`teacher_weight` has no effect without `teacher`")
    manifests = run.read_manifests(data, Product.WINDOWS)
    run.apply_shard_settings(data, training, manifests)
    tokenizer = load_tokenizer(data.shards[0], manifests[0])
    start = resolve_model(model, training, manifests, tokenizer)
    train_dataset, eval_dataset = run.open_splits(data, training, manifests[0])

    with refused_weights(f"the model `{model_name(model)}`"):
        trainer = _kind(data, manifests, tokenizer)(
            model=start.model,
            args=training,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=tokenizer,
            quantization_config=start.quantization_config,
            peft_config=start.peft_config,
        )
    if start.peft_config is not None:
        check_targets(trainer.model, model)
    trainer.remainder = data.remainder
    if data.teacher:
        trainer.set_teacher(data.teacher, data.teacher_weight)

    trainer.pack = pack
    trainer.collate(tokenizer.pad_token_id)

    run.run_training(trainer)


def _kind(
    data: configs.WindowArguments, manifests: list[Manifest], tokenizer: "PreTrainedTokenizerBase"
) -> type[SFTTrainer]:
    """Return the trainer class, after a check of the teacher, if there is one."""
    if data.teacher is None:
        return SFTTrainer
    from zephyr_fast.train.distill import DistillationTrainer, check_teacher

    check_teacher(data.teacher, manifests, tokenizer)
    return DistillationTrainer
