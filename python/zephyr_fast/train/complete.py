"""Find checkpoints that are complete, so that a resumed run equals one that never stopped.

transformers resumes from a checkpoint without optimizer state too, with a fresh optimizer and
learning-rate schedule and without a message.
"""

import re
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.train.checkpoint import WAY_OUT, check_checkpoint

STATE = "trainer_state.json"
"""The file of a checkpoint that transformers writes last."""

REFERENCE = "reference.safetensors"
"""The reference model of a run that updates it (`sync_ref_model`)."""

_WEIGHTS = ("model*.safetensors", "adapter_model.*", "pytorch_model*", "global_step*")
_OPTIMIZER = ("optimizer.pt", "optimizer.bin", "optimizer_*", "global_step*")
_NEEDED = {
    "weights": _WEIGHTS,
    "optimizer": _OPTIMIZER,
    "learning-rate schedule": ("scheduler.pt",),
    "random number state": ("rng_state*.pth",),
}
"""The parts of a checkpoint, and patterns of names that have them: of one process, FSDP (a file
or a directory) and DeepSpeed."""


def check_complete(folder: str) -> None:
    """Raise InputError unless a run can resume from this checkpoint as if it had never stopped."""
    check_checkpoint(folder)
    if problem := _problem(Path(folder)):
        raise InputError(
            f"cannot resume from `{folder}`: {problem}, because `save_only_model` was set or "
            f"saving was interrupted; {WAY_OUT}"
        )


def newest_complete(out: str) -> tuple[str, list[str]]:
    """Return the newest complete checkpoint of an output directory.

    Returns:
        Its path, and one line for each newer checkpoint that is not complete.

    Raises:
        InputError: If there is none.
    """
    passed: list[str] = []
    for path in _checkpoints(Path(out)):
        try:
            check_complete(str(path))
        except InputError as error:
            passed.append(str(error))
            continue
        return str(path), passed
    reasons = f" ({'; '.join(passed)})" if passed else ""
    raise InputError(
        f"`{out}` has no complete checkpoint to resume from{reasons}; remove "
        "`resume_from_checkpoint` to start from scratch"
    )


def _checkpoints(out: Path) -> list[Path]:
    """Return the directories `checkpoint-N`, the highest number first."""
    if not out.is_dir():
        return []
    numbered = [
        (int(found[1]), path)
        for path in out.iterdir()
        if (found := re.fullmatch(r"checkpoint-([0-9]{1,15})", path.name)) and path.is_dir()
    ]
    return [path for _, path in sorted(numbered, reverse=True)]


def _problem(folder: Path) -> str | None:
    for part, patterns in _NEEDED.items():
        found = [path for pattern in patterns for path in folder.glob(pattern)]
        if not found:
            return f"it has no {part}"
        if empty := next((path for path in found if _is_empty(path)), None):
            return f"`{empty.name}` is empty"
    for path in sorted(folder.glob("*.safetensors")):
        if (reason := _torn(path)) is not None:
            return f"`{path.name}` is damaged ({reason})"
    return None


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def _torn(path: Path) -> str | None:
    """Return why the file cannot be opened; its length must be the one that its header implies."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            return None
    except (SafetensorError, OSError) as error:
        return " ".join(str(error).split())


class ReferenceMixin:
    """Trainer mixin that saves the reference model in checkpoints if the run updates it."""

    args: Any
    accelerator: Any
    ref_model: Any
    state: Any

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        if self._is_kept() and self.args.should_save:
            from safetensors.torch import save_model

            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            folder.mkdir(parents=True, exist_ok=True)
            save_model(self.accelerator.unwrap_model(self.ref_model), str(folder / REFERENCE))
        super()._save_checkpoint(*args, **kwargs)  # type: ignore[misc]  # writes `STATE` last

    def _load_from_checkpoint(self, folder: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_checkpoint(folder, *args, **kwargs)  # type: ignore[misc]
        if self._is_kept():
            from safetensors.torch import load_model

            load_model(self.accelerator.unwrap_model(self.ref_model), str(Path(folder) / REFERENCE))

    def _is_kept(self) -> bool:
        is_sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled  # type: ignore[attr-defined]
        return bool(self.args.sync_ref_model) and not is_sharded


def check_reference(folder: str) -> None:
    """Raise InputError unless the checkpoint has the reference model, for `sync_ref_model`."""
    if not (Path(folder) / REFERENCE).is_file():
        raise InputError(
            f"cannot resume from `{folder}`: it has no reference model, which "
            f"`sync_ref_model` updates (sharded runs do not save it); {WAY_OUT}"
        )
