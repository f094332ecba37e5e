"""Supervised training on packed shards, with TRL's own SFTTrainer."""

from typing import TYPE_CHECKING

from zephyr_fast.collators import WindowCollator, layout_for
from zephyr_fast.train import configs, run
from zephyr_fast.train.model import load_start, load_tokenizer, note, read_manifest

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig


def parse(arguments: list[str]) -> "tuple[configs.ShardArguments, SFTConfig, ModelConfig]":
    """The arguments of `main`, from YAML and command line."""
    from trl import SFTConfig

    data, training, model = configs.parse(SFTConfig, arguments)
    return data, training, model


def main(data: configs.ShardArguments, training: "SFTConfig", model: "ModelConfig") -> None:
    """Trains on the `train` split of `data.shards`, evaluates on its `test` split, saves to `training.output_dir`."""
    from trl import SFTTrainer

    manifest = read_manifest(data.shards, "sft")
    run.settle(training, manifest)
    training.dataset_kwargs = {"skip_prepare_dataset": True}
    tokenizer = load_tokenizer(data.shards, manifest)
    start = load_start(model, training, manifest, tokenizer)
    train_dataset, eval_dataset = run.open_splits(data.shards, training, manifest)

    trainer = SFTTrainer(
        model=start.model,
        args=training,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        quantization_config=start.quantization_config,
        peft_config=start.peft_config,
    )

    # Which layout keeps documents apart depends on the attention that the model turned out to have.
    attention = trainer.model.config._attn_implementation
    layout = layout_for(attention)
    trainer.data_collator = WindowCollator(layout, tokenizer.pad_token_id, training.pad_to_multiple_of)
    note(f"packed documents are kept apart by position: layout `{layout}` for attention `{attention}`")

    run.train(trainer, measure=dict)
