"""Trainer mixin whose evaluation is exact: one mean over all tokens or pairs of the split.

transformers averages the means of batches, so its numbers change with the batch size and the
number of ranks: a short last batch counts as much as a full one, and rows are repeated to give
each rank a batch. Here, every row counts once, and each batch mean is weighted by the tokens or
pairs that it is a mean of. An evaluation also leaves the random number generators unchanged, so
a model learns the same with and without it.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

ROWS = "rows"
"""The weight that `loss` and all metrics without another weight have."""

Weights = dict[str, int]
"""What one batch counts, by the name or prefix of a metric; `rows` is for the others."""


class ExactEvaluationMixin:
    """Mixin to put before a subclass of TRL's trainers; `weights` returns what a batch counts.

    Trainers with `compute_metrics` keep the evaluation of transformers.
    """

    args: Any
    accelerator: Any
    eval_dataset: Any
    data_collator: Any
    _metrics: Any
    _totals: "_Totals | None" = None

    def weights(self, inputs: Mapping[str, Any]) -> Weights:
        """Return what this batch counts, on its device."""
        raise NotImplementedError

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Return this rank's batches; every rank has the same number of them."""
        if isinstance(eval_dataset, str):
            eval_dataset = self.eval_dataset[eval_dataset]
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if not hasattr(rows, "__getitems__") or not self._is_exact():
            return super().get_eval_dataloader(eval_dataset)  # type: ignore[misc]
        import torch

        args, workers = self.args, self.args.dataloader_num_workers
        batches = EvalBatches(len(rows), args.eval_batch_size, args.process_index, args.world_size)
        return torch.utils.data.DataLoader(
            rows,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=workers,
            multiprocessing_context=args.dataloader_multiprocessing_context if workers else None,
            prefetch_factor=args.dataloader_prefetch_factor if workers else None,
            pin_memory=args.dataloader_pin_memory,
            generator=torch.Generator().manual_seed(0),
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate; see `Trainer.evaluate`. Random number generators keep their state."""
        with _same_randomness():
            metrics: dict[str, float] = super().evaluate(*args, **kwargs)  # type: ignore[misc]
        return metrics

    def evaluation_loop(
        self, dataloader: Any, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any
    ) -> Any:
        """Run transformers' loop, and replace its means of batch means."""
        batches = getattr(dataloader, "batch_sampler", None)
        is_exact = isinstance(batches, EvalBatches)
        self._totals = _Totals(batches) if isinstance(batches, EvalBatches) else None
        try:
            output = super().evaluation_loop(  # type: ignore[misc]
                dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs
            )
            if is_exact and self._totals is not None:
                means = self._totals.means(self.accelerator)
                output.metrics[f"{metric_key_prefix}_loss"] = means.pop("loss")
                for name, mean in means.items():
                    self._metrics["eval"][name] = [mean]
        finally:
            self._totals = None
        return output

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> tuple[Any, Any, Any]:
        """Evaluate one batch, and add its local means to the totals."""
        totals = self._totals
        if totals is None:
            stock: tuple[Any, Any, Any] = super().prediction_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
            return stock
        inputs = self._prepare_inputs(inputs)  # may decide, with all ranks, whether to pack
        weights = self.weights(inputs)
        metrics = self._metrics["eval"]
        metrics.clear()
        with _local(self.accelerator):
            result: tuple[Any, Any, Any] = super().prediction_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        means = {name: values[-1] for name, values in metrics.items() if name != "num_tokens"}
        means["loss"] = float(result[0]) - self.router_loss(means)
        totals.add(means, weights)
        return result

    def router_loss(self, means: Mapping[str, float]) -> float:
        """Return the part of a loss that balances experts; it is not a mean over tokens or pairs.

        The evaluation reports it as `aux_loss`.
        """
        return float(getattr(self, "router_aux_loss_coef", 0.0) or 0.0) * means.get("aux_loss", 0.0)

    def _is_exact(self) -> bool:
        return getattr(self, "compute_metrics", None) is None

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        moved: dict[str, Any] = super()._prepare_inputs(inputs)  # type: ignore[misc]
        return moved


@dataclass(frozen=True)
class EvalBatches:
    """Batch sampler of one rank: each row is in one batch of one rank.

    Sharded models need the same number of forward passes on all ranks. A rank that has no rows
    left gets row 0, in a batch that does not count.

    >>> [list(EvalBatches(5, batch=2, rank=rank, world_size=2)) for rank in (0, 1)]
    [[[0, 1], [4]], [[2, 3], [0]]]
    >>> EvalBatches(5, batch=2, rank=1, world_size=2).counts(1)
    False
    """

    rows: int
    batch: int
    rank: int
    world_size: int

    def __len__(self) -> int:
        return -(-self.rows // (self.batch * self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        return (list(self._rows(step)) or [0] for step in range(len(self)))

    def counts(self, step: int) -> bool:
        """Return whether the rows of this batch are the rank's own."""
        return len(self._rows(step)) > 0

    def _rows(self, step: int) -> range:
        first = (step * self.world_size + self.rank) * self.batch
        return range(first, min(first + self.batch, self.rows))


class _Totals:
    """Weighted sums of the batch means of one evaluation on one rank."""

    def __init__(self, batches: EvalBatches) -> None:
        self.batches, self.step = batches, 0
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, means: Mapping[str, float], weights: Weights) -> None:
        """Add one batch; the sums get an entry for each metric even if it does not count."""
        counted = self.batches.counts(self.step)
        self.step += 1
        for name, mean in means.items():
            weight = _weight(name, weights) if counted else 0
            # Zero times NaN is NaN: a batch without label tokens has no mean.
            self.sums[name] = self.sums.get(name, 0.0) + (weight * mean if weight else 0.0)
            self.counts[name] = self.counts.get(name, 0) + weight

    def means(self, accelerator: Any) -> dict[str, float]:
        """Return the means over all ranks."""
        import torch

        names = sorted(self.sums)  # the same on all ranks
        table = torch.tensor(
            [[self.sums[name], self.counts[name]] for name in names], dtype=torch.float64
        )
        if accelerator.num_processes > 1:
            # Not every device has float64. Two float32 numbers keep 48 bits of each sum.
            high = table.float()
            low = (table - high.double()).float()
            parts = accelerator.gather(torch.stack([high, low])[None].to(accelerator.device))
            table = parts.cpu().double().sum(dim=(0, 1))
        return {
            name: total / count if count else 0.0
            for name, (total, count) in zip(names, table.tolist(), strict=True)
        }


def _weight(name: str, weights: Weights) -> int:
    for key in (name, name.partition("/")[0]):
        if key in weights:
            return weights[key]
    return weights[ROWS]


@contextmanager
def _local(accelerator: Any) -> Iterator[None]:
    """Let TRL compute the metrics of this rank's batch instead of those of all ranks."""
    for name in ("gather", "gather_for_metrics"):
        setattr(accelerator, name, lambda value, *_args, **_kwargs: value)
    try:
        yield
    finally:
        del accelerator.gather, accelerator.gather_for_metrics


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Restore the state of all random number generators of this process."""
    import torch

    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(array)
