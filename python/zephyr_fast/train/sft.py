"""Supervised training on packed shards, with TRL's own SFTTrainer reading them in our order."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import trl

from zephyr_fast._core import RecipeError
from zephyr_fast.collators import WindowCollator, layout_for
from zephyr_fast.index import index
from zephyr_fast.mixture import Mixture
from zephyr_fast.train import configs, run
from zephyr_fast.train.in_order import InOrder
from zephyr_fast.train.model import load_start, load_tokenizer, note, read_manifest

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig


@dataclass
class WindowArguments(configs.ShardArguments):
    """What a run on packed windows has beside TRL's own arguments."""

    mix: list[str] = field(default_factory=list, metadata={"help": "More out folders of `zephyr-fast prep`, to train on beside `shards`."})
    shard_weights: list[float] = field(
        default_factory=list,
        metadata={"help": "How often each of `shards` and `mix` is read, in proportion. Without them, every row once an epoch."},
    )
    tail: Literal["carry", "pad", "drop"] = field(
        default="carry",
        metadata={"help": "What becomes of rows that do not fill an epoch's last step: they open the next epoch, or the step is padded."},
    )


class SFTTrainer(InOrder, trl.SFTTrainer):  # type: ignore[misc]  # TRL is untyped
    """TRL's trainer; rows come in our order."""


def parse(arguments: list[str]) -> "tuple[WindowArguments, SFTConfig, ModelConfig]":
    """The arguments of `main`, from YAML and command line."""
    data, training, model = configs.parse(trl.SFTConfig, arguments, WindowArguments)
    return data, training, model


def main(data: WindowArguments, training: "SFTConfig", model: "ModelConfig") -> None:
    """Trains on the `train` split of `data.shards` (and `data.mix`), evaluates on the `test` split of the former.

    Saves to `training.output_dir`.
    """
    if training.train_sampling_strategy != "random" and (data.mix or data.shard_weights or data.tail != "carry"):
        raise RecipeError("`mix`, `shard_weights` and `tail` are for `train_sampling_strategy: random`; leave the strategy out")
    manifest = max((read_manifest(folder, "sft") for folder in [data.shards, *data.mix]), key=lambda one: one.split("train").seq_len)
    run.settle(training, manifest)
    training.dataset_kwargs = {"skip_prepare_dataset": True}
    tokenizer = load_tokenizer(data.shards, read_manifest(data.shards, "sft"))
    start = load_start(model, training, manifest, tokenizer)
    train_dataset, eval_dataset = run.open_splits(data.shards, training, manifest)
    if data.mix or data.shard_weights:
        train_dataset = index(Mixture([data.shards, *data.mix], "train", data.shard_weights or None))

    trainer = SFTTrainer(
        model=start.model,
        args=training,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        quantization_config=start.quantization_config,
        peft_config=start.peft_config,
    )
    trainer.tail = data.tail

    # Which layout keeps documents apart depends on the attention that the model turned out to have.
    attention = trainer.model.config._attn_implementation
    layout = layout_for(attention)
    trainer.data_collator = WindowCollator(layout, tokenizer.pad_token_id, training.pad_to_multiple_of)
    note(f"packed documents are kept apart by position: layout `{layout}` for attention `{attention}`")

    run.train(trainer, measure=dict)
