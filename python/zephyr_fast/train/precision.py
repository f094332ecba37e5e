"""Trainer mixin that keeps adapters in float32, and checks that the first steps move weights.

TRL casts the adapter of a quantized model to bfloat16, which has 8 bits of precision: a step of
1e-6 does not change a weight of 0.01 at all. A float32 adapter of rank 16 needs 0.16 GB for 7 B
parameters.
"""

from typing import Any

from transformers import TrainerCallback

from zephyr_fast._core import ConfigError
from zephyr_fast.train.model import log

STEPS = 3
"""Steps with a learning rate above 0 that are measured."""

SAMPLED = 4096
"""Weights of each tensor that are compared, evenly spread: enough to see whether any moves."""

NONE, FEW = 1e-4, 1e-2
"""Shares of weights below which a run stops, or says so. Weights of exactly 0 move by any step."""


class PrecisionMixin:
    """Mixin to put before a subclass of TRL's trainers."""

    accelerator: Any
    model: Any
    optimizer: Any
    _metrics: Any
    is_deepspeed_enabled: bool

    def __init__(self, model: Any = None, *args: Any, **kwargs: Any) -> None:
        is_adapter = hasattr(model, "peft_config")
        given = [(one, one.data) for one in _trained(model)] if is_adapter else []
        super().__init__(model, *args, **kwargs)  # type: ignore[call-arg]
        for weights, before in given:  # TRL has rounded them
            weights.data = before.to(weights.device)
        if hasattr(self.model, "peft_config"):
            for weights in _trained(self.model):
                weights.data = weights.data.float()
        _keep_gradients(self.model)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; see `Trainer.train`.

        The share of weights that moved is logged as `weights_moved` for the first steps.

        Raises:
            ConfigError: If fewer than 1 in 10,000 moved in them, despite a learning rate above 0.
        """
        self.remove_callback(MovementCallback)  # type: ignore[attr-defined]  # of an earlier call
        if not self.is_deepspeed_enabled:  # its float32 weights are inside its optimizer
            self.add_callback(MovementCallback(self))  # type: ignore[attr-defined]
        return super().train(*args, **kwargs)  # type: ignore[misc]


class MovementCallback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped
    """Compare a sample of the trained weights before and after each of the first steps."""

    def __init__(self, trainer: Any) -> None:
        self._trainer, self._steps, self._moved = trainer, 0, 0.0
        self._before: list[Any] | None = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Copy the sample, if this step can move weights."""
        rates = [group["lr"] for group in self._trainer.optimizer.param_groups]
        if self._steps < STEPS and any(rate > 0 for rate in rates):
            self._before = [_sample(weights).clone() for weights in _trained(self._trainer.model)]

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Count the weights that moved, on all ranks."""
        trainer, before = self._trainer, self._before
        self._before = None
        if before is None or trainer.accelerator.optimizer_step_was_skipped:
            return
        now = [_sample(weights) for weights in _trained(trainer.model)]
        pairs = list(zip(before, now, strict=True))
        moved, total = _all_ranks(
            trainer.accelerator,
            sum(int((old != new).sum()) for old, new in pairs),
            sum(old.numel() for old in before),
        )
        if total == 0:
            return
        self._steps, self._moved = self._steps + 1, self._moved + moved / total / STEPS
        trainer._metrics["train"]["weights_moved"].append(moved / total)
        if self._steps == STEPS and self._moved < NONE:
            raise ConfigError(_reason(trainer.model, trainer.optimizer))
        if self._steps == 1 and moved < FEW * total:
            share = f"only {moved / total:.2%} of the weights moved in this step"
            log(f"{share}: {_cause(trainer.model)}")


def _reason(model: Any, optimizer: Any) -> str:
    rate = max(group["lr"] for group in optimizer.param_groups)
    return (
        f"almost no weight moved in {STEPS} steps with a learning rate of {rate:.2g}: "
        f"{_cause(model)}; set `dtype: float32` (with `bf16: true` for fast matrix products), "
        "train an adapter, or raise `learning_rate`"
    )


def _cause(model: Any) -> str:
    dtypes = sorted({str(one.dtype).removeprefix("torch.") for one in _trained(model)})
    return f"steps may be too small for weights in {' and '.join(dtypes)}"


def _keep_gradients(model: Any) -> None:
    """Keep bitsandbytes from packing 4-bit weights for inference on a CPU.

    It does so in an evaluation, and never unpacks them for training. A packed layer has no
    gradient, so all steps after an evaluation would silently move nothing.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False


def _trained(model: Any) -> list[Any]:
    return [weights for weights in model.parameters() if weights.requires_grad]


def _sample(weights: Any) -> Any:
    """Return some weights of this rank's part of a parameter."""
    local = (weights.to_local() if hasattr(weights, "to_local") else weights).detach().flatten()
    return local[:: max(1, local.numel() // SAMPLED)]


def _all_ranks(accelerator: Any, *counts: int) -> list[int]:
    import torch

    if accelerator.num_processes == 1:
        return list(counts)
    table = torch.tensor([counts], device=accelerator.device)
    found: list[int] = accelerator.gather(table).sum(dim=0).tolist()
    return found
