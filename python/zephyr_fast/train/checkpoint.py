"""Looks through a checkpoint before and after a trainer resumes from it: nothing in it is run,
and what cannot be loaded is named.

transformers loads a checkpoint's pickles with `weights_only`, so that none of them runs code.
Its errors do not say which file it was. Not so bounded are the checkpoints of DeepSpeed and of
sharded FSDP, which their own libraries unpickle: see SECURITY.md.
"""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError, ZephyrError
from zephyr_fast.printed import brief
from zephyr_fast.train.configs import WHOLE_MAX
from zephyr_fast.train.trust import check_folder, read_json

PICKLES = ("*.pt", "*.pth", "*.bin")
"""What `torch.load` reads of a checkpoint."""

WAY_OUT = (
    "resume from another checkpoint, or start a new run with this one as `--model_name_or_path`"
)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= WHOLE_MAX


def _is_state(value: object) -> bool:
    """Whether this is what a callback exports: the arguments that it is made with, and its
    attributes, one value for each.
    """
    return isinstance(value, dict) and all(
        isinstance(value.get(part), dict) for part in ("args", "attributes")
    )


def _are_states(value: object) -> bool:
    """Of several callbacks of one kind, transformers writes a list."""
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
    "epoch": lambda value: type(value) in (int, float) and 0 <= value <= WHOLE_MAX,  # type: ignore[operator]  # a number by then
    "best_metric": lambda value: type(value) in (int, float),
    "best_model_checkpoint": lambda value: isinstance(value, str),
    "log_history": lambda value: (
        isinstance(value, list)
        and all(isinstance(entry, dict) and "step" in entry for entry in value)
    ),
    "stateful_callbacks": _are_states,
}
"""What a `trainer_state.json` must have in the fields that a run goes on from."""


def check_checkpoint(folder: str) -> None:
    """InputError for a folder that a run cannot have written: no regular files, or no
    `trainer_state.json` that makes sense.
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
    except Exception as error:  # whatever its fields make of values of another kind
        raise InputError(
            f"`{path}` is damaged: {' '.join(str(error).split())}; {WAY_OUT}"
        ) from error


@contextmanager
def resuming(folder: str | None) -> Iterator[None]:
    """Names the file of a checkpoint that cannot be loaded, where training ends in an error
    because of it; other errors go on.
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
    """InputError if torch cannot load this file as weights; `mmap` leaves tensors on the disk."""
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
            load(mmap=False)  # files of an older form cannot be mapped
        except Exception as error:
            raise InputError(
                f"cannot resume from `{path}`: {_first_line(error)}; {WAY_OUT}"
            ) from cause


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
