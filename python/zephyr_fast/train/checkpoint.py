"""Looks through a checkpoint before and after a trainer resumes from it: nothing in it is run, and what cannot be loaded is named.

transformers loads a checkpoint's pickles with `weights_only`, so that none of them runs code. Its errors do not say which file it was.
Not so bounded are the checkpoints of DeepSpeed and of sharded FSDP, which their own libraries unpickle: see SECURITY.md.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError, ZephyrError
from zephyr_fast.limits import COUNT_MAX
from zephyr_fast.printed import brief
from zephyr_fast.train.trust import check_folder, read_json

PICKLES = ("*.pt", "*.pth", "*.bin")
"""What `torch.load` reads of a checkpoint."""

WAY_OUT = "resume from another checkpoint, or start anew, with this one's model as `--model_name_or_path`"


def check_checkpoint(folder: str) -> None:
    """InputError for a folder that a run cannot have written: no regular files, or no `trainer_state.json` that makes sense."""
    if not Path(folder).is_dir():
        raise InputError(f"no checkpoint `{folder}`; name the folder `checkpoint-N` of a run, or `true` for the newest")
    check_folder(folder)
    path = Path(folder) / "trainer_state.json"
    if not path.is_file():
        raise InputError(f"`{folder}` is not a checkpoint: it has no `trainer_state.json`; {WAY_OUT}")
    state = read_json(path)
    step = state.get("global_step") if isinstance(state, dict) else None
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= COUNT_MAX:
        raise InputError(f"`{path}` is damaged: its `global_step` is {brief(step)}; {WAY_OUT}")
    _check_loads(path)


def _check_loads(path: Path) -> None:
    from transformers.trainer_callback import TrainerState

    try:
        TrainerState.load_from_json(str(path))
    except Exception as error:  # whatever its fields make of values of another kind
        raise InputError(f"`{path}` is damaged: {' '.join(str(error).split())}; {WAY_OUT}") from error


@contextmanager
def resuming(folder: str | None) -> Iterator[None]:
    """Names the file of a checkpoint that cannot be loaded, where training ends in an error because of it; other errors go on."""
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
    return sorted(path for pattern in PICKLES for path in Path(folder).glob(pattern) if path.name != "training_args.bin")


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
        why = "it holds pickled objects that are not tensors and numbers, which are not loaded"
        raise InputError(f"cannot resume from `{path}`: {why}; {WAY_OUT}") from error
    except Exception:
        try:
            load(mmap=False)  # files of an older form cannot be mapped
        except Exception as error:
            raise InputError(f"cannot resume from `{path}`: {_first_line(error)}; {WAY_OUT}") from cause


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
