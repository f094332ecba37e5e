"""Protect against model and checkpoint directories that are malicious or malformed.

No code of such a directory runs, and no question is asked. transformers and torch decide themselves
which files to load. So this module first rejects inputs that they must not get (FIFOs, devices,
configurations that import modules or download kernels), and then translates their errors.
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
from zephyr_fast.train.architecture import no_missing_weights
from zephyr_fast.untrusted.bounded import parse_json, read_bytes

JSON_BYTES_MAX = 64 << 20
"""Maximum size of a `.json` file of a model or checkpoint, except `tokenizer.json`."""

FILES_MAX = 100_000
"""Maximum number of entries of a directory, enough for a thousand weight shards or ranks."""


def check_folder(name: str) -> None:
    """Raise InputError unless all files are regular and all small JSON files can be parsed.

    Names that are not directories, such as Hub ids, pass.
    """
    is_path = os.path.isabs(name) or name.startswith(".") or name.count("/") > 1
    if is_path and not os.path.lexists(name):
        raise InputError(f"cannot load the model `{name}`: no such directory")
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
        if error.errno in (errno.ENOENT, errno.ELOOP):  # a dangling link
            return
        raise
    if stat.S_ISDIR(kind):
        return
    if not stat.S_ISREG(kind):
        raise InputError(f"cannot read `{path}`: it is not a regular file")
    if path.suffix == ".json" and path.name != "tokenizer.json":
        read_json(path)


def read_json(path: Path) -> Any:
    """Parse an untrusted JSON file; raise InputError if it is invalid, too deep or too large."""
    try:
        return parse_json(read_bytes(path, JSON_BYTES_MAX))
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"cannot read `{path}`: invalid JSON: {error}") from error


def check_adapter(file: str) -> None:
    """Raise InputError for an adapter configuration that would import a module or run code."""
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
    """Raise InputError if a model's configuration requests a Hub kernel.

    Kernels are compiled code, which only the user may request.
    """
    for key in ("_attn_implementation", "_experts_implementation"):
        value = getattr(config, key, None)
        if isinstance(value, str) and "/" in value:
            raise InputError(
                f"`config.json` of `{name}` requests the Hub kernel {brief(value)}; remove that key"
            )


def never_ask() -> None:
    """Make transformers reject untrusted code instead of asking on the terminal."""
    from transformers import dynamic_module_utils

    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Convert errors of a library that reads small untrusted files into one that names them.

    Readers of hostile files raise all kinds of errors, so all are caught. No model runs in the
    block.
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
    """Return whether this is an error, not a request to stop.

    The panic of a Rust library is not a subclass of `Exception`.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def refused_forward(what: str) -> Iterator[None]:
    """Convert errors of a model's first forward pass, except those of memory and devices."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (ZephyrError, *machine_errors())):
            raise
        raise _typed(what, error) from error


@contextmanager
def refused_model(what: str) -> Iterator[None]:
    """Combine `refused_weights` and `refused`, for blocks that only load a model."""
    with refused(what), refused_weights(what):
        yield


@contextmanager
def refused_weights(what: str) -> Iterator[None]:
    """Convert errors of loading weights, in a block that also builds a trainer.

    Files that lack weights are an error as well. Other errors of torch pass unchanged. A ValueError
    of TRL or transformers means incompatible options.
    """
    from safetensors import SafetensorError

    try:
        with no_missing_weights(what):
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
    frames = traceback.walk_tb(error.__traceback__)
    return not isinstance(error, machine_errors()) and any(
        frame.f_code.co_name == "create_model_from_path" for frame, _ in frames
    )


def machine_errors() -> tuple[type[BaseException], ...]:
    """Return the errors of memory, devices and other processes, which no file causes."""
    import torch
    from torch import distributed

    machine = (MemoryError, torch.OutOfMemoryError, torch.AcceleratorError)
    return (*machine, distributed.DistError) if distributed.is_available() else machine


def _typed(what: str, error: BaseException) -> ZephyrError:
    message = " ".join(str(error).split()) or type(error).__name__
    if "trust_remote_code" in message:
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
    if "ignore_mismatched_sizes" in message:  # transformers only prints which ones
        message = "the shapes of its weights do not match its `config.json`"
    if isinstance(error, KeyError):
        message = f"unknown value {message}"
    return InputError(f"cannot load {what}: {message}")
