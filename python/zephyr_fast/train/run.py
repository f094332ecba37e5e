"""Runs a trainer from its first evaluation to the saved folder; the same for every act."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zephyr_fast._core import ConfigError, InputError
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.dataset.product import Product
from zephyr_fast.dataset.remote import local
from zephyr_fast.load.index import index, open_shards, with_lengths
from zephyr_fast.load.mixture import Mixture
from zephyr_fast.train.checkpoint import check_checkpoint, resuming
from zephyr_fast.train.configs import ShardArguments
from zephyr_fast.train.model import log, read_manifest

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer
    from trl import DPOConfig, SFTConfig

Metric = Callable[[], dict[str, float]]
"""Something to measure on the model before and after training."""


def read_manifests(data: ShardArguments, product: Product) -> list[Manifest]:
    """The manifests of all folders that are trained on, `data.shards` first; from here on,
    `data` names URLs' copies in the cache.

    ConfigError where one holds rows of another product.
    """
    data.shards = [str(local(directory)) for directory in data.shards]
    return [read_manifest(directory, product) for directory in data.shards]


def hide_token(training: "SFTConfig | DPOConfig") -> None:
    """Takes tokens of the Hub out of the arguments, which are written to each checkpoint, into
    this process's environment.
    """
    import os

    given = training.model_init_kwargs if isinstance(training.model_init_kwargs, dict) else {}
    tokens = [training.hub_token, *(given.pop(name, None) for name in ("token", "use_auth_token"))]
    training.hub_token = None
    if token := next((token for token in tokens if isinstance(token, str) and token), None):
        os.environ["HF_TOKEN"] = token


def apply_shard_settings(
    data: ShardArguments, training: "SFTConfig | DPOConfig", manifests: list[Manifest]
) -> None:
    """Sets what the shards decide, and turns `resume_from_checkpoint: "true"` into True."""
    hide_token(training)
    if training.train_sampling_strategy != "random" and (
        len(data.shards) > 1 or data.shard_weights or data.remainder != "carry"
    ):
        raise ConfigError(
            "several `shards`, `shard_weights` and `remainder` need "
            "`train_sampling_strategy: random`"
        )
    training.max_length = max(manifest.split("train").seq_len for manifest in manifests)
    training.remove_unused_columns = False  # the index data set's own columns are not the model's
    if str(training.resume_from_checkpoint).lower() == "true":
        training.resume_from_checkpoint = last_checkpoint(str(training.output_dir))
    if training.resume_from_checkpoint:
        check_checkpoint(str(training.resume_from_checkpoint))
    training.do_eval = training.do_eval or training.eval_strategy != "no"
    # The score to compare with; the trainer takes it once the model is where it will be trained,
    # sharded or not.
    training.eval_on_start = training.do_eval and not training.resume_from_checkpoint


def last_checkpoint(folder: str) -> str:
    """The newest checkpoint of an output folder; InputError where it has none."""
    from pathlib import Path

    from transformers.trainer_utils import get_last_checkpoint

    found = get_last_checkpoint(folder) if Path(folder).is_dir() else None
    if found is None:
        raise InputError(
            f"`{folder}` has no checkpoint to resume from; remove "
            "`resume_from_checkpoint` to start from scratch"
        )
    return str(found)


def open_splits(
    data: ShardArguments, training: "SFTConfig | DPOConfig", manifest: Manifest
) -> tuple["Dataset", "Dataset | None"]:
    """The `train` rows of all folders and, if the run evaluates, the `test` split of the first,
    which training never sees.
    """
    if training.do_eval and "test" not in manifest.splits:
        raise ConfigError(
            f"`{data.shards[0]}` has no `test` split to evaluate on; set "
            "`eval_strategy: no`, or set `shards.test_fraction` in the data recipe"
        )
    train = open_shards(data.shards[0], "train")
    if len(data.shards) > 1 or data.shard_weights:
        train = index(Mixture(data.shards, "train", data.shard_weights or None))
    elif manifest.kind.varies_in_length and training.train_sampling_strategy != "random":
        train = with_lengths(train)
    return train, open_shards(data.shards[0], "test") if training.do_eval else None


def run_training(trainer: "Trainer", metric: Metric) -> None:
    """Measures, trains, measures again, saves model, tokenizer and metrics (`all_results.json`)
    to the output folder.
    """
    args = trainer.args
    before = _prefixed("before", metric()) if args.eval_on_start else {}
    with resuming(args.resume_from_checkpoint):
        metrics = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint).metrics
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    if args.do_eval:
        trainer.save_metrics("before", before | _prefixed("before", _at_start(trainer)))
        trainer.save_metrics("eval", trainer.evaluate() | _prefixed("eval", metric()))
    trainer.model.config.use_cache = (
        True  # off in training, where it would undo the documents' masks; generation needs it
    )
    trainer.save_model()
    log(f"model saved to {args.output_dir}")
    trainer.end()  # trackers and process group


def _at_start(trainer: "Trainer") -> dict[str, Any]:
    """What the trainer logged of its evaluation before the first step; a resumed run has it from
    its checkpoint.
    """
    starts = (
        entry for entry in trainer.state.log_history if entry["step"] == 0 and "eval_loss" in entry
    )
    return {
        name.removeprefix("eval_"): value
        for name, value in next(starts, {}).items()
        if name.startswith("eval_")
    }


def _prefixed(prefix: str, metrics: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in metrics.items()}
