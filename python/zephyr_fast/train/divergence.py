"""Trainer mixin that stops a run whose loss, gradient or weights are no longer finite numbers.

transformers would log a NaN loss as 0, continue, and save NaN weights as the result.
"""

from typing import Any

from zephyr_fast.load.loader import Loader
from zephyr_fast.load.mixture import Mixture
from zephyr_fast.train.errors import DivergedError

ROWS_SHOWN = 32
"""Rows that a message names at most."""


class DivergenceMixin:
    """Mixin to put before a subclass of transformers' `Trainer`."""

    args: Any
    accelerator: Any
    model: Any
    state: Any
    callback_handler: Any
    _micro_batch: int = 0
    _problem: str | None = None

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of one micro batch; raise DivergedError on all ranks if it is not finite.

        The ranks agree at the last micro batch of a step, before the weights are updated.
        """
        self.args.logging_nan_inf_filter = False  # it would replace such a loss
        loss = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if self._problem is None and not bool(loss.isfinite().all()):
            self._problem = f"the loss is {_name(loss)}{self._rows(self._micro_batch)}"
        self._micro_batch += 1
        if self.accelerator.sync_gradients:
            self._micro_batch = 0
            self._agree()
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)  # type: ignore[misc]
        # A scaler of float16 gradients skips such steps itself.
        if norm is not None and self.accelerator.scaler is None and not _is_finite(norm):
            self._problem = f"the gradient is {_name(norm)}{self._rows(None)}"
            self._agree()
        return norm

    def check_weights(self) -> None:
        """Raise DivergedError, on all ranks, unless all trained weights are finite."""
        for name, weights in self.model.named_parameters():
            if weights.requires_grad and not bool(_local(weights).isfinite().all()):
                self._problem = f"the weights `{name}` are NaN or infinite"
                break
        self._agree(after=True)

    def _agree(self, after: bool = False) -> None:
        import torch

        found = self._problem is not None
        if self.accelerator.num_processes > 1:
            flag = torch.tensor([int(found)], device=self.accelerator.device)
            found = bool(self.accelerator.gather(flag).any())
        if not found:
            return
        step = self.state.global_step + (0 if after else 1)
        problem = self._problem or "the loss or the weights of another rank are not finite"
        raise DivergedError(
            f"step {step}: {problem}; stopped without saving, so existing checkpoints are from "
            "before; lower `learning_rate`, or look at these rows"
        )

    def _rows(self, micro_batch: int | None) -> str:
        """Return which rows of the `train` split this rank reads in the current step."""
        loader = self.callback_handler.train_dataloader
        if not isinstance(loader, Loader):
            return ""
        import numpy as np

        part, stream = loader.batches.part, loader.batches.stream
        step = self.state.global_step - self._first_step()
        rows = stream.rows(np.array([step]), part.offsets()).reshape(-1, part.device_batch)
        chosen = rows.ravel() if micro_batch is None else rows[micro_batch]
        return f" on {_named(loader, [row for row in chosen.tolist() if row >= 0])}"

    def _first_step(self) -> int:
        return int(getattr(self, "_initial_global_step", 0))


def _named(loader: Loader, rows: list[int]) -> str:
    """Return the rows by number, of each dataset if there are several."""
    shards = getattr(loader.rows, "shards", None)
    more = f" and {len(rows) - ROWS_SHOWN} more" if len(rows) > ROWS_SHOWN else ""
    if isinstance(shards, Mixture):
        places = (shards.place(row) for row in rows[:ROWS_SHOWN])
        listed = ", ".join(f"{row} of `{part.folder}`" for part, row in places)
    else:
        listed = ", ".join(map(str, rows[:ROWS_SHOWN]))
    return f"`train` rows {listed}{more}"


def _local(weights: Any) -> Any:
    """Return this rank's shard of a parameter."""
    return weights.to_local() if hasattr(weights, "to_local") else weights


def _is_finite(number: Any) -> bool:
    import torch

    return bool(torch.as_tensor(number).isfinite().all())


def _name(number: Any) -> str:
    import torch

    return "NaN" if bool(torch.as_tensor(number).isnan().any()) else "infinite"
