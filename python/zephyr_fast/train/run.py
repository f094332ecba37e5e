"""Run a trainer: initial evaluation, training, final evaluation, saving."""

from typing import TYPE_CHECKING, Any

from zephyr_fast._core import ConfigError
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.dataset.product import Product
from zephyr_fast.dataset.remote import local
from zephyr_fast.load.index import index, open_shards, with_lengths
from zephyr_fast.load.mixture import Mixture
from zephyr_fast.train.checkpoint import resuming
from zephyr_fast.train.complete import check_complete, check_reference, newest_complete
from zephyr_fast.train.configs import ShardArguments
from zephyr_fast.train.model import log, read_manifest
from zephyr_fast.train.saving import without_end

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer, TrainerCallback
    from trl import DPOConfig, SFTConfig


def read_manifests(data: ShardArguments, product: Product) -> list[Manifest]:
    """Read the manifests of all datasets, and replace URLs in `data` with their local copies.

    Raises ConfigError if a dataset has another product or no `train` split.
    """
    data.shards = [str(local(directory)) for directory in data.shards]
    manifests = [read_manifest(directory, product) for directory in data.shards]
    for directory, manifest in zip(data.shards, manifests, strict=True):
        if "train" not in manifest.splits:
            raise ConfigError(
                f"`{directory}` has no `train` split, so there is nothing to train on"
            )
    return manifests


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
        training.resume_from_checkpoint, passed = newest_complete(str(training.output_dir))
        for reason in passed:
            log(reason)
        log(f"resuming from `{training.resume_from_checkpoint}`")
    if training.resume_from_checkpoint:
        check_complete(str(training.resume_from_checkpoint))
        if getattr(training, "sync_ref_model", False):
            check_reference(str(training.resume_from_checkpoint))
    training.do_eval = (
        training.do_eval or training.eval_strategy != "no" or bool(training.eval_on_start)
    )
    if warning := without_end(manifests):
        log(warning)
    read = [manifest.split("train") for manifest in manifests]
    if training.do_eval and "test" in manifests[0].splits:
        read.append(manifests[0].split("test"))
    training.max_length = max(split.seq_len for split in read)
    # The baseline. The trainer measures it after the model is sharded and on its device.
    if training.eval_on_start is None:  # see `configs.parse`
        training.eval_on_start = training.do_eval and not training.resume_from_checkpoint


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
    elif manifest.kind.facts.varies_in_length and training.train_sampling_strategy != "random":
        train = with_lengths(train)
    return train, open_shards(data.shards[0], "test") if training.do_eval else None


def run_training(trainer: "Trainer") -> None:
    """Train, and save model, tokenizer and metrics.

    Metrics go to `all_results.json` in the output directory. The final evaluation is part of the
    training loop, so trackers get it in the same run.
    """
    args = trainer.args
    trainer.add_callback(evaluate_last_step())
    with resuming(args.resume_from_checkpoint):
        metrics = trainer.train(resume_from_checkpoint=args.resume_from_checkpoint).metrics
    trainer.save_metrics("train", metrics)
    trainer.save_state()
    if args.do_eval:
        if before := _logged(trainer, 0):
            trainer.save_metrics("before", _prefixed("before", before))
        after = _logged(trainer, _saved_step(trainer)) or _unprefixed(trainer.evaluate())
        trainer.save_metrics("eval", _prefixed("eval", after))
    trainer.save_model()
    log(f"model saved to {args.output_dir}")
    trainer.end()  # trackers and process group


def evaluate_last_step() -> "TrainerCallback":
    """Return a callback that evaluates after the last step, before trackers are closed.

    With `eval_strategy: epoch`, transformers does so itself.
    """
    from transformers import TrainerCallback
    from transformers.trainer_utils import IntervalStrategy

    class EvaluateLastStep(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            is_last = state.global_step >= state.max_steps or control.should_training_stop
            if args.do_eval and is_last and args.eval_strategy != IntervalStrategy.EPOCH:
                control.should_evaluate = True

    return EvaluateLastStep()


def _saved_step(trainer: "Trainer") -> int:
    """Return the step whose weights are saved: the last one, or that of the best checkpoint."""
    state = trainer.state
    is_best = trainer.args.load_best_model_at_end and state.best_model_checkpoint
    return int(state.best_global_step if is_best else state.global_step)


def _logged(trainer: "Trainer", step: int) -> dict[str, Any]:
    """Return the metrics of the evaluation after a step, if there was one.

    A resumed run has those of earlier steps in its checkpoint.
    """
    entries = [
        entry
        for entry in trainer.state.log_history
        if entry["step"] == step and "eval_loss" in entry
    ]
    return _unprefixed(entries[-1]) if entries else {}


def _unprefixed(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix("eval_"): value
        for name, value in metrics.items()
        if name.startswith("eval_")
    }


def _prefixed(prefix: str, metrics: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in metrics.items()}
