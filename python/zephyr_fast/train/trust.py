"""What stands between a folder of weights or a checkpoint and the libraries that read it: no
code of the folder runs, and nobody is asked.

transformers and torch decide by themselves what to load. Here is settled beforehand what they
may not be given (a FIFO, a device, a configuration that would import a module or fetch a
kernel), and afterwards what their refusals mean.
"""

import errno
import os
import pickle
import stat
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zephyr_fast._core import ConfigError, InputError, ZephyrError
from zephyr_fast.printed import brief
from zephyr_fast.untrusted.bounded import parse_json, read_bytes

JSON_BYTES_MAX = 64 << 20
"""A `.json` file of a model or a checkpoint, its tokenizer apart: configurations, indexes of
weights, a log of every step.
"""

FILES_MAX = 100_000
"""Files at the top of a folder: a model of a thousand shards, a checkpoint of as many ranks."""


def check_folder(name: str) -> None:
    """InputError for a folder that cannot be a model's or a checkpoint's: its files are regular
    ones, its small JSON files can be read.

    What is no folder, as a Hub id, is passed.
    """
    if not os.path.isdir(name):
        if os.path.lexists(name) and not name.endswith((".json", ".gguf")):
            raise InputError(
                f"`{name}` is not a directory; pass the directory that contains the model's "
                "`config.json`"
            )
        return
    try:
        with os.scandir(name) as entries:
            for number, entry in enumerate(entries):
                if number >= FILES_MAX:
                    raise InputError(
                        f"`{name}` has more than {FILES_MAX:,} files, so it is not a model or "
                        "checkpoint"
                    )
                _check_file(Path(entry.path))
    except OSError as error:
        raise InputError(f"cannot read `{error.filename or name}`: {error.strerror}") from error


def _check_file(path: Path) -> None:
    try:
        kind = path.stat().st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # a link that leads nowhere is no file
            return
        raise
    if stat.S_ISDIR(kind):
        return
    if not stat.S_ISREG(kind):
        raise InputError(f"cannot read `{path}`: it is not a regular file")
    if path.suffix == ".json" and path.name != "tokenizer.json":
        read_json(path)


def read_json(path: Path) -> Any:
    """A JSON file of a folder that others may have made; InputError where it is not JSON, too
    deep or too long.
    """
    try:
        return parse_json(read_bytes(path, JSON_BYTES_MAX))
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"cannot read `{path}`: invalid JSON: {error}") from error


def check_adapter(file: str) -> None:
    """InputError for an adapter's configuration that makes peft import a module, by a name that
    is in the file.
    """
    given = read_json(Path(file))
    if not isinstance(given, dict):
        raise InputError(f"`{file}` is not an adapter configuration")
    if given.get("megatron_config") is not None or given.get(
        "megatron_core", "megatron.core"
    ) not in (None, "megatron.core"):
        raise InputError(
            f"`{file}` requests the import of a Megatron module, which an adapter must not do"
        )
    arguments = given.get("tokenizer_kwargs")
    if arguments and (not isinstance(arguments, dict) or arguments.get("trust_remote_code")):
        raise InputError(f"`{file}` requests custom tokenizer code, which an adapter must not do")


def check_kernels(config: Any, name: str) -> None:
    """InputError for a model whose own configuration names a kernel of the Hub: compiled code,
    which only a user may ask for.
    """
    for key in ("_attn_implementation", "_experts_implementation"):
        value = getattr(config, key, None)
        if isinstance(value, str) and "/" in value:
            raise InputError(
                f"`config.json` of `{name}` requests the Hub kernel {brief(value)}; remove that key"
            )


def never_ask() -> None:
    """From now on transformers asks no question on the terminal: code that it was not told to
    run is refused.
    """
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Turns anything that a library raises at a small file of others into an error that names it.

    All kinds are caught, as readers of hostile files raise all kinds; none of them runs a model.
    """
    try:
        yield
    except ZephyrError:
        raise
    except BaseException as error:
        if not is_trouble(error):
            raise
        raise _typed(what, error) from error


def is_trouble(error: BaseException) -> bool:
    """Whether this is an error of whoever read a file, and nobody's wish to stop: a Rust
    library's panic is no `Exception`.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def refused_model(what: str) -> Iterator[None]:
    """As `refused_weights`, where a model is loaded and nothing else is done: there, all other
    errors are its files', too.
    """
    with refused(what), refused_weights(what):
        yield


@contextmanager
def refused_weights(what: str) -> Iterator[None]:
    """As `refused`, while weights are loaded and a trainer is made of them: errors of torch
    itself stay what they are.

    What TRL and transformers refuse there by a ValueError are options that do not go together.
    """
    from safetensors import SafetensorError

    try:
        yield
    except ZephyrError:
        raise
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise _typed(what, error) from error
        raise ConfigError(f"cannot start from {what}: {' '.join(str(error).split())}") from error
    except (OSError, EOFError, RecursionError, pickle.UnpicklingError, SafetensorError) as error:
        raise _typed(what, error) from error
    except BaseException as error:
        if not (is_trouble(error) and _is_from_loading(error)):
            raise
        raise _typed(what, error) from error


def _is_from_loading(error: BaseException) -> bool:
    """Return whether the model's files caused this, not memory, a device or another process."""
    import torch
    from torch import distributed

    machine: tuple[type[BaseException], ...] = (MemoryError, torch.OutOfMemoryError)
    if distributed.is_available():
        machine = (*machine, distributed.DistError)
    frames = traceback.walk_tb(error.__traceback__)
    return not isinstance(error, machine) and any(
        frame.f_code.co_name == "create_model_from_path" for frame, _ in frames
    )


def _typed(what: str, error: BaseException) -> ZephyrError:
    says = " ".join(str(error).split()) or type(error).__name__
    if "trust_remote_code" in says:
        return ConfigError(
            f"{what} contains custom code, which is not run by default; review it, then "
            "set `trust_remote_code: true` in the training config (this applies only "
            "to the model you start from)"
        )
    if isinstance(error, pickle.UnpicklingError):
        return InputError(
            f"cannot load {what}: it contains pickled objects other than weights, which "
            "are never loaded"
        )
    if "ignore_mismatched_sizes" in says:  # transformers only prints which ones
        says = "the shapes of its weights do not match its `config.json`"
    if isinstance(error, KeyError):
        says = f"unknown value {says}"
    return InputError(f"cannot load {what}: {says}")
