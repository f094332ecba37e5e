"""Trainer mixin that reads each row exactly once per epoch and resumes at the exact row.

Use it as `class MyTrainer(OrderedTrainerMixin, SFTTrainer)`. The trainer sees one stream over all
epochs, divided into steps; the epoch follows from the stream's index. A checkpoint stores that
index (`stateful_callbacks` of its `trainer_state.json`). A resumed run starts there, with any
number of ranks, workers and device batch size, and skips nothing.
"""

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import send_to_device
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState, TrainerState
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from zephyr_fast._core import ConfigError, InputError, IntegrityError, ZephyrError
from zephyr_fast.load import permutation
from zephyr_fast.load.index import IndexRows
from zephyr_fast.load.loader import Batches, Loader, Part, Workers
from zephyr_fast.load.rank_check import RankState, check_ranks
from zephyr_fast.load.stream import PADDING, LoaderState, Remainder, Stream, other_version
from zephyr_fast.train.complete import newest_complete
from zephyr_fast.train.model import log
from zephyr_fast.train.ranges import WHOLE_MAX

if TYPE_CHECKING:
    from torch.utils.data import DataLoader
    from transformers import TrainerControl, TrainingArguments


class OrderedTrainerMixin:
    """Mixin to put before a subclass of transformers' `Trainer`.

    `train_dataset` must be an index dataset of shards. If `train_sampling_strategy` is not
    `random`, transformers controls order and resume.
    """

    remainder: Remainder = "carry"
    """How to treat the last rows of an epoch; see `zephyr_fast.load.stream`."""

    args: Any
    state: Any
    train_dataset: Any
    _resumed: str | None = None

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        """Train; see `Trainer.train`.

        Raises:
            ConfigError: On all ranks, if they would read different streams or the checkpoint
            belongs to
                another stream.
            InputError: If there is no checkpoint to resume from.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint, passed = newest_complete(self.args.output_dir)
            for reason in passed:
                log(reason)
        self._resumed = str(resume_from_checkpoint) if resume_from_checkpoint else None
        if self._is_ordered():
            self.args.ignore_data_skip = True  # the loader starts at the checkpoint's position
            self.remove_callback(LoaderStateCallback)  # type: ignore[attr-defined]  # of an earlier call
            self.add_callback(LoaderStateCallback())  # type: ignore[attr-defined]
        return super().train(self._resumed, *args, **kwargs)  # type: ignore[misc]

    def get_train_dataloader(self) -> "Loader | DataLoader[Any]":
        """Return this rank's part of the stream, after all ranks compared their state."""
        if not self._is_ordered():
            stock: DataLoader[Any] = super().get_train_dataloader()  # type: ignore[misc]
            return stock
        try:
            loader, state = self._loader()
        except ZephyrError as error:
            check_ranks({"error": str(error)})
            raise
        check_ranks(state)
        if dropped := loader.batches.stream.dropped():
            log(
                f"`remainder: drop` skips {dropped} of {loader.batches.stream.order.size} "
                "samples per epoch"
            )
        return loader

    def set_initial_training_values(
        self, args: "TrainingArguments", dataloader: Any
    ) -> tuple[Any, ...]:
        """Return the values of `Trainer`'s method for one stream over all epochs.

        The training loop sees a single long epoch.
        """
        if not isinstance(dataloader, Loader):
            stock: tuple[Any, ...] = super().set_initial_training_values(args, dataloader)  # type: ignore[misc]
            return stock
        batches = dataloader.batches
        steps = max(1, _steps_before(self._resumed) + batches.steps)
        samples = steps * batches.part.batch
        return (
            1,
            steps,
            batches.stream.order.size,
            samples,
            batches.part.batch,
            steps * batches.part.micro_batches,
            steps,
        )

    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> Any:
        """Let the arguments decide when to save, log and evaluate, not those of the checkpoint."""
        progress = super()._init_training_state(max_steps, *args, **kwargs)  # type: ignore[misc]
        self.state.compute_steps(self.args, max_steps)
        return progress

    def _is_ordered(self) -> bool:
        return bool(self.args.train_sampling_strategy == "random")

    def _loader(self) -> tuple[Loader, RankState]:
        args = self.args
        _check_supported(self)
        rows = IndexRows(self.train_dataset)
        if self.remainder == "pad":
            # If padding is not supported, raise now and not at the end of the first epoch.
            rows.samples([PADDING])
        seed = args.seed if args.data_seed is None else args.data_seed
        part = Part(
            args.process_index,
            args.world_size,
            self._train_batch_size,  # type: ignore[attr-defined]
            args.gradient_accumulation_steps,
        )
        order, identity = rows.order(seed), rows.shards.identity
        first = (
            _index(_read_state(self._resumed), identity, seed, order.size) if self._resumed else 0
        )
        stream = Stream(
            order, part.batch, "drop" if args.dataloader_drop_last else self.remainder, first
        )
        steps = args.max_steps - _steps_before(self._resumed)
        if args.max_steps <= 0:
            steps = stream.steps_to(math.ceil(args.num_train_epochs * order.size))
        workers = Workers(
            args.dataloader_num_workers,
            args.dataloader_multiprocessing_context,
            args.dataloader_prefetch_factor,
            args.dataloader_pin_memory,
        )
        # transformers uses a batch (e.g. to count tokens) before it moves it to the device.
        to_device = partial(
            send_to_device, device=args.device, non_blocking=args.dataloader_pin_memory
        )
        collate = self.data_collator  # type: ignore[attr-defined]
        loader = Loader(
            rows,
            Batches(stream, part, 0, max(0, steps)),
            collate,
            identity,
            seed,
            workers,
            to_device,
        )
        return loader, _rank_state(loader)


class LoaderStateCallback(TrainerCallback, ExportableState):  # type: ignore[misc]  # transformers is untyped
    """Update the trainer's epoch, trigger end-of-epoch actions and store the loader's state.

    Checkpoints store the state after the completed steps, not that of the loader, because the
    trainer prefetches batches.
    """

    def __init__(self) -> None:
        self._loader: Loader | None = None
        self._before = self._done = 0

    def on_train_begin(
        self, args: Any, state: TrainerState, control: "TrainerControl", **rest: Any
    ) -> None:
        """Record the start of the run."""
        self._loader = rest["train_dataloader"]
        self._before, self._done = state.global_step, 0
        state.num_train_epochs = math.ceil(args.num_train_epochs)

    def on_step_end(
        self, args: Any, state: TrainerState, control: "TrainerControl", **rest: Any
    ) -> None:
        """Advance by one step of the stream."""
        assert self._loader is not None  # on_train_begin comes first
        stream = self._loader.batches.stream
        self._done = state.global_step - self._before
        index = stream.start(self._done)
        state.epoch = index / stream.order.size
        ended = index // stream.order.size > stream.start(self._done - 1) // stream.order.size
        # transformers does the same at the end of training.
        if ended and state.global_step < state.max_steps:
            control.should_log |= args.logging_strategy == IntervalStrategy.EPOCH
            control.should_evaluate |= (
                args.eval_strategy == IntervalStrategy.EPOCH and args.eval_delay <= state.epoch
            )
            control.should_save |= args.save_strategy == SaveStrategy.EPOCH

    def state(self) -> dict[str, Any]:
        """Return `zephyr_fast.load.stream.LoaderState` as JSON, in transformers' structure."""
        if self._loader is None:
            return {"args": {}, "attributes": {}}
        text = self._loader.state_after(self._done).to_json()
        return {"args": {}, "attributes": {"loader_state": text}}


_FIRST_NAME = "OrderState"
"""The key of version 1 of the state in a checkpoint."""


def _read_state(checkpoint: str) -> LoaderState:
    path = Path(checkpoint) / "trainer_state.json"
    try:
        callbacks = TrainerState.load_from_json(str(path)).stateful_callbacks
        if _FIRST_NAME in callbacks and LoaderStateCallback.__name__ not in callbacks:
            raise other_version(1)
        kept = callbacks[LoaderStateCallback.__name__]["attributes"]
        return LoaderState.from_json(kept["loader_state"])
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read `{path}`: {error}; resume from an earlier checkpoint"
        ) from error
    except (KeyError, TypeError) as error:
        raise InputError(
            f"`{checkpoint}` has no data position, because zephyr-fast did not write it "
            "in this mode; start a new run with it as `--model_name_or_path`"
        ) from error


def _index(state: LoaderState, identity: str, seed: int, size: int) -> int:
    """Return the index of the stream at which `state` continues.

    Raises ConfigError if the state belongs to another stream.
    """
    if state.data_sha256 != identity:
        found = f"{state.data_sha256[:16]}…, not {identity[:16]}…"
        raise ConfigError(f"the checkpoint belongs to a run on other shards (SHA-256 {found})")
    if state.permutation_version != permutation.VERSION:
        found = f"version {state.permutation_version}, not {permutation.VERSION}"
        raise ConfigError(
            f"the checkpoint shuffles rows with another algorithm ({found}); resume "
            "with the zephyr-fast version that wrote it, or start a new run with it as "
            "`--model_name_or_path`"
        )
    if state.seed != seed:
        raise ConfigError(
            f"the checkpoint reads rows in another order (seed {state.seed}, not "
            f"{seed}); set `seed: {state.seed}`"
        )
    index = state.epoch * size + state.index_in_epoch
    if state.index_in_epoch >= size or index > WHOLE_MAX:
        raise IntegrityError(
            f"the checkpoint continues at sample {state.index_in_epoch} of epoch "
            f"{state.epoch}, but an epoch has only {size} samples"
        )
    return index


def _steps_before(checkpoint: str | None) -> int:
    if checkpoint is None:
        return 0
    return int(
        TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json")).global_step
    )


def _rank_state(loader: Loader) -> RankState:
    """Return the values that must be equal on all ranks."""
    stream, part = loader.batches.stream, loader.batches.part
    return {
        "manifest": loader.data_sha256,
        "samples": stream.order.size,
        "seed": loader.seed,
        "next index": stream.first,
        "remainder": stream.remainder,
        "per_device_train_batch_size": part.device_batch,
        "gradient_accumulation_steps": part.micro_batches,
        "world size": part.world_size,
        "steps": loader.batches.steps,
    }


def _check_supported(trainer: Any) -> None:
    """Raise ConfigError for options that duplicate rows between ranks or reorder them."""
    if trainer.get_tp_size() * trainer.get_cp_size() * trainer.get_sp_size() > 1:
        raise ConfigError(
            "tensor, context and sequence parallelism are not supported: they share "
            "rows between ranks"
        )
    if trainer.args.accelerator_config.split_batches or not trainer.args.dataloader_in_order:
        raise ConfigError(
            "`split_batches` and `dataloader_in_order: false` are not supported; remove them"
        )
