"""Trainer mixin that refuses to resume a checkpoint of another model, adapter or optimizer.

transformers would load what fits. A changed `learning_rate` would have no effect, because the
checkpoint's comes back with its optimizer. Another start model would silently become the frozen
base of an adapter or the reference of DPO, which checkpoints do not contain.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zephyr_fast._core import ConfigError
from zephyr_fast.printed import brief
from zephyr_fast.train.checkpoint import WAY_OUT
from zephyr_fast.train.trust import machine_errors, read_json

STORED_AS = "FrozenWeights"
"""The key of the digest in `stateful_callbacks` of a checkpoint."""

SAMPLED = 64
"""Values of each tensor that the digest covers, evenly spread."""

ADAPTER_FIELDS = (
    *("peft_type", "r", "lora_alpha", "use_dora", "use_rslora", "target_modules"),
    *("target_parameters", "modules_to_save"),
)
"""Fields of an adapter's configuration that a resumed run must not change."""

OPTIMIZER_FIELDS = {
    "initial_lr": "learning_rate",
    "weight_decay": "weight_decay",
    "betas": "adam_beta1` or `adam_beta2",
    "eps": "adam_epsilon",
    "momentum": "optim_args",
}
"""Settings that an optimizer takes from the checkpoint, and the arguments that they come from."""


class ResumeMixin:
    """Mixin to put before a subclass of TRL's trainers."""

    args: Any
    accelerator: Any
    model: Any
    optimizer: Any
    state: Any
    is_fsdp_enabled: bool
    is_deepspeed_enabled: bool
    _frozen: str | None = None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as `Trainer.train` does.

        Raises:
            ConfigError: If the checkpoint to resume from belongs to another model, adapter,
                reference or optimizer.
        """
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):  # each rank has a part
            self._frozen = digest(_frozen_weights(self))
        return super().train(*args, **kwargs)  # type: ignore[misc]

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        attributes = {"sha256": self._frozen}
        self.state.stateful_callbacks[STORED_AS] = {"args": {}, "attributes": attributes}
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]

    def _load_from_checkpoint(self, folder: str, *args: Any, **kwargs: Any) -> None:
        _check_adapter(Path(folder), self.accelerator.unwrap_model(self.model))
        _check_frozen(folder, self._frozen)
        with _same_run(folder, "weights"):
            super()._load_from_checkpoint(folder, *args, **kwargs)  # type: ignore[misc]

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        before = _settings(self.optimizer)
        with _same_run(str(checkpoint), "optimizer state"):
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
        if checkpoint is not None:
            _check_optimizer(checkpoint, before, _settings(self.optimizer))


def digest(weights: list[Any]) -> str:
    """Return the SHA-256 of a sample of values of some tensors."""
    found = hashlib.sha256()
    for one in weights:
        flat = one.detach().flatten()
        sample = flat[:: max(1, flat.numel() // SAMPLED)][:SAMPLED]
        found.update(str(tuple(one.shape)).encode())
        found.update(sample.float().cpu().numpy().tobytes())
    return found.hexdigest()


def _frozen_weights(trainer: Any) -> list[Any]:
    """Return the weights that a run uses and does not train: base model, reference, teacher."""
    others = (getattr(trainer, name, None) for name in ("ref_model", "teacher"))
    return [
        *(one for one in trainer.model.parameters() if not one.requires_grad),
        *(one for other in others if other is not None for one in other.parameters()),
    ]


def _check_frozen(folder: str, expected: str | None) -> None:
    states = read_json(Path(folder) / "trainer_state.json").get("stateful_callbacks", {})
    stored = states.get(STORED_AS, {}).get("attributes", {}).get("sha256")
    if None not in (stored, expected) and stored != expected:  # earlier versions stored none
        raise ConfigError(
            f"cannot resume from `{folder}`: the run that wrote it had another base model, "
            "reference or teacher; start from the same `--model_name_or_path` (and `dtype`)"
        )


def _check_adapter(folder: Path, model: Any) -> None:
    """Raise ConfigError if the checkpoint has an adapter and the run has none or another one."""
    path, adapters = folder / "adapter_config.json", getattr(model, "peft_config", None)
    if not path.is_file():
        if adapters and (folder / "model.safetensors").is_file():
            raise ConfigError(
                f"cannot resume from `{folder}`: it trains all weights, and this run an adapter; "
                f"remove `use_peft`, or {WAY_OUT}"
            )
        return
    if not adapters:
        raise ConfigError(
            f"cannot resume from `{folder}`: it trains an adapter, and this run all weights; set "
            f"`use_peft: true`, or {WAY_OUT}"
        )
    stored, mine = read_json(path), adapters["default"].to_dict()
    for field in ADAPTER_FIELDS:
        theirs, ours = (_plain(one.get(field)) for one in (stored, mine))
        if theirs != ours:
            raise ConfigError(
                f"cannot resume from `{folder}`: its adapter has `{field}` {brief(theirs)}, and "
                f"that of this run {brief(ours)}"
            )


def _plain(value: Any) -> Any:
    """Return a value of an adapter configuration as in its JSON file, without order."""
    if isinstance(value, list | set | tuple):
        return sorted(map(str, value))
    return str(getattr(value, "value", value))


def _settings(optimizer: Any) -> list[dict[str, Any]]:
    """Return the settings of each group of parameters."""
    groups = getattr(optimizer, "param_groups", None) or []
    return [{name: one for name, one in group.items() if name != "params"} for group in groups]


def _check_optimizer(
    checkpoint: str, before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    """Raise ConfigError if loading the checkpoint replaced settings of the optimizer."""
    for mine, theirs in zip(before, after, strict=False):
        if not mine.keys() <= theirs.keys():
            raise ConfigError(
                f"cannot resume from `{checkpoint}`: it was trained with another optimizer; set "
                f"the same `optim`, or {WAY_OUT}"
            )
        for field, argument in OPTIMIZER_FIELDS.items():
            ours, stored = _numbers(mine.get(field)), _numbers(theirs.get(field))
            if ours is not None and stored is not None and ours != stored:
                raise ConfigError(
                    f"cannot resume from `{checkpoint}` with another `{argument}`: it was trained "
                    f"with {_shown(stored)}, not {_shown(ours)}; set the same value, or {WAY_OUT}"
                )


def _shown(values: tuple[float, ...]) -> str:
    return " and ".join(f"{one:g}" for one in values)


def _numbers(value: Any) -> tuple[float, ...] | None:
    values = value if isinstance(value, list | tuple) else [value]
    return None if None in values else tuple(float(one) for one in values)


@contextmanager
def _same_run(folder: str, part: str) -> Iterator[None]:
    """Convert the errors of loading a checkpoint whose tensors do not fit this run."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())
        fits = (
            "size mismatch",
            "size of optimizer's group",
            "parameter groups",
            "valid checkpoint",
        )
        if isinstance(error, machine_errors()) or not any(words in text for words in fits):
            raise
        raise ConfigError(
            f"cannot resume from `{folder}`: its {part} is that of another model ({brief(text)}); "
            f"set the same `--model_name_or_path`, or {WAY_OUT}"
        ) from error
