"""Run a trainer: initial evaluation, training, final evaluation, saving."""

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
"""A function that measures the model before and after training."""


def read_manifests(data: ShardArguments, product: Product) -> list[Manifest]:
    """Read the manifests of all datasets, and replace URLs in `data` with their local copies.

    Raises ConfigError if a dataset has another product.
    """
    data.shards = [str(local(directory)) for directory in data.shards]
    return [read_manifest(directory, product) for directory in data.shards]


def hide_token(training: "SFTConfig | DPOConfig") -> None:
    """Move Hub tokens from the arguments, which checkpoints store, to the environment."""
    import os

    given = training.model_init_kwargs if isinstance(training.model_init_kwargs, dict) else {}
    tokens = [training.hub_token, *(given.pop(name, None) for name in ("token", "use_auth_token"))]
    training.hub_token = None
    if token := next((token for token in tokens if isinstance(token, str) and token), None):
        os.environ["HF_TOKEN"] = token


def apply_shard_settings(
    data: ShardArguments, training: "SFTConfig | DPOConfig", manifests: list[Manifest]
) -> None:
    """Set the arguments that the shards determine, and resolve `resume_from_checkpoint: "true"`."""
    hide_token(training)
    if training.train_sampling_strategy != "random" and (
        len(data.shards) > 1 or data.shard_weights or data.remainder != "carry"
    ):
        raise ConfigError(
            "several `shards`, `shard_weights` and `remainder` need "
            "`train_sampling_strategy: random`"
        )
    training.remove_unused_columns = False  # the columns of the index are not the model's inputs
    if str(training.resume_from_checkpoint).lower() == "true":
        training.resume_from_checkpoint = last_checkpoint(str(training.output_dir))
    if training.resume_from_checkpoint:
        check_checkpoint(str(training.resume_from_checkpoint))
    training.do_eval = training.do_eval or training.eval_strategy != "no"
    read = [manifest.split("train") for manifest in manifests]
    if training.do_eval and "test" in manifests[0].splits:
        read.append(manifests[0].split("test"))
    training.max_length = max(split.seq_len for split in read)
    # The baseline. The trainer measures it after the model is sharded and on its device.
    training.eval_on_start = training.do_eval and not training.resume_from_checkpoint


def last_checkpoint(folder: str) -> str:
    """Return the newest checkpoint of an output directory; raise InputError if there is none."""
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
    """Open the `train` split of all datasets and, for evaluation, the `test` split of the first."""
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
    """Measure, train, measure again, and save model, tokenizer and metrics.

    Metrics go to `all_results.json` in the output directory.
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
        True  # needed for generation; in training, it would break the isolation of documents
    )
    trainer.save_model()
    log(f"model saved to {args.output_dir}")
    trainer.end()  # trackers and process group


def _at_start(trainer: "Trainer") -> dict[str, Any]:
    """Return the metrics logged before the first step; a resumed run has them in its checkpoint."""
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
