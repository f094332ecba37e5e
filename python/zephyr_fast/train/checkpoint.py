"""Check a checkpoint before a run resumes from it, and name the file that cannot be loaded.

Nothing in the checkpoint is executed. transformers loads its pickles with `weights_only`, which
prevents code execution, but its errors do not name the file. Checkpoints of DeepSpeed and sharded
FSDP are unpickled by those libraries without this protection: see SECURITY.md.
"""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError, ZephyrError
from zephyr_fast.printed import brief
from zephyr_fast.train.ranges import WHOLE_MAX
from zephyr_fast.train.trust import check_folder, read_json

PICKLES = ("*.pt", "*.pth", "*.bin")
"""The files of a checkpoint that `torch.load` reads."""

WAY_OUT = (
    "resume from another checkpoint, or start a new run with this one as `--model_name_or_path`"
)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= WHOLE_MAX


def _is_state(value: object) -> bool:
    """Return whether this is an exported callback: two tables, `args` and `attributes`."""
    return isinstance(value, dict) and all(
        isinstance(value.get(part), dict) for part in ("args", "attributes")
    )


def _are_states(value: object) -> bool:
    """Return whether these are exported callbacks.

    transformers writes a list for several callbacks of one class.
    """
    if not isinstance(value, dict):
        return False
    lists = [one if isinstance(one, list) else [one] for one in value.values()]
    control = value.get("TrainerControl", {"args": {}, "attributes": {}})
    return (
        all(map(_is_state, chain(*lists)))
        and _is_state(control)
        and all(type(one) is bool for one in control["args"].values())
    )


_FIELDS: dict[str, Callable[[object], bool]] = {
    "global_step": _is_count,
    "max_steps": _is_count,
    "num_train_epochs": _is_count,
    "train_batch_size": lambda value: _is_count(value) and value != 0,
    "best_global_step": _is_count,
    "epoch": lambda value: type(value) in (int, float) and 0 <= value <= WHOLE_MAX,  # type: ignore[operator]  # the type is checked first
    "best_metric": lambda value: type(value) in (int, float),
    "best_model_checkpoint": lambda value: isinstance(value, str),
    "log_history": lambda value: (
        isinstance(value, list)
        and all(isinstance(entry, dict) and "step" in entry for entry in value)
    ),
    "stateful_callbacks": _are_states,
}
"""A check for each field of `trainer_state.json` that a resumed run uses."""


def check_checkpoint(folder: str) -> None:
    """Raise InputError unless the directory is a checkpoint that a run can have written.

    It must have only regular files and a consistent `trainer_state.json`.
    """
    if not Path(folder).is_dir():
        raise InputError(
            f"no checkpoint `{folder}`; pass the `checkpoint-N` directory of a run, or "
            "`true` for the newest one"
        )
    check_folder(folder)
    path = Path(folder) / "trainer_state.json"
    if not path.is_file():
        raise InputError(
            f"`{folder}` is not a checkpoint: it has no `trainer_state.json`; {WAY_OUT}"
        )
    state = read_json(path)
    if not isinstance(state, dict):
        raise InputError(f"`{path}` is damaged: it is not a JSON object; {WAY_OUT}")
    for name, fits in _FIELDS.items():
        if (name == "global_step" or state.get(name) is not None) and not fits(state.get(name)):
            raise InputError(
                f"`{path}` is damaged: its `{name}` is {brief(state.get(name))}; {WAY_OUT}"
            )
    _check_loads(path)


def _check_loads(path: Path) -> None:
    from transformers.trainer_callback import TrainerState

    try:
        TrainerState.load_from_json(str(path))
    except Exception as error:  # its fields raise anything on wrong types
        raise InputError(
            f"`{path}` is damaged: {' '.join(str(error).split())}; {WAY_OUT}"
        ) from error


@contextmanager
def resuming(folder: str | None) -> Iterator[None]:
    """Name the checkpoint file if training fails because it cannot be loaded.

    Other errors pass unchanged.
    """
    try:
        yield
    except ZephyrError:
        raise
    except Exception as error:
        if folder is not None:
            for path in _pickles(folder):
                _check_pickle(path, error)
        raise


def _pickles(folder: str) -> list[Path]:
    return sorted(
        path
        for pattern in PICKLES
        for path in Path(folder).glob(pattern)
        if path.name != "training_args.bin"
    )


def _check_pickle(path: Path, cause: Exception) -> None:
    """Raise InputError if torch cannot load this file as weights.

    `mmap` leaves the tensors on disk.
    """
    import torch
    from transformers.trainer_pt_utils import safe_globals

    def load(mmap: bool) -> Any:
        with safe_globals():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)

    try:
        load(mmap=True)
    except pickle.UnpicklingError as error:
        why = "it contains pickled objects other than tensors, which are never loaded"
        raise InputError(f"cannot resume from `{path}`: {why}; {WAY_OUT}") from error
    except Exception:
        try:
            load(mmap=False)  # files in the old format cannot be mapped
        except Exception as error:
            raise InputError(
                f"cannot resume from `{path}`: {_first_line(error)}; {WAY_OUT}"
            ) from cause


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
