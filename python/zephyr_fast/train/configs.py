"""Parse training arguments from YAML and the command line.

Keys without effect and keys of older recipes are rejected, and the error names the replacement.
"""

import difflib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from zephyr_fast._core import ConfigError, InputError
from zephyr_fast.dataset.product import Product, building_commands
from zephyr_fast.printed import brief, without_secrets
from zephyr_fast.train.config_file import read
from zephyr_fast.train.effects import check_effects
from zephyr_fast.train.intervals import check_intervals
from zephyr_fast.train.ranges import WHOLE_MAX, check_numbers
from zephyr_fast.train.unsupported_keys import UNSUPPORTED_KEYS

CONFIGS = Path(__file__).parents[1] / "configs"

_MADE_BY = " or ".join(f"`zephyr-fast {one.command}` ({one.act})" for one in Product)
_PADDED = ", ".join(one.act for one in Product if one.facts.can_pad)


@dataclass
class ShardArguments:
    """The arguments that TRL does not have."""

    shards: list[str] = field(
        metadata={"help": f"One or more output directories of {_MADE_BY}, or their URLs."}
    )
    shard_weights: list[float] = field(
        default_factory=list,
        metadata={
            "help": "One sampling weight per directory of `shards`. Without weights, every row is "
            "read once per epoch."
        },
    )
    remainder: Literal["carry", "pad", "drop"] = field(
        default="carry",
        metadata={
            "help": "What to do with the last rows of an epoch if they do not fill a step: `carry` "
            f"them into the next epoch, `pad` the step ({_PADDED} only), or `drop` them."
        },
    )
    pack: Literal["auto", "true", "false"] = field(
        default="auto",
        metadata={
            "help": "Whether several documents share a row: `auto` if a check before the first "
            "step proves that the model isolates them, `true` to stop if it does not, `false` for "
            "one document per row. Loss and label tokens are unchanged."
        },
    )


@dataclass
class WindowArguments(ShardArguments):
    """The arguments of an SFT run that TRL does not have."""

    teacher: str | None = field(
        default=None,
        metadata={
            "help": (
                "Teacher model (directory or Hub id) with the same vocabulary. Its token "
                "probabilities are added to the loss."
            )
        },
    )
    teacher_weight: float = field(
        default=0.5,
        metadata={"help": "Weight of the teacher in the loss; the labels get the rest."},
    )


def packaged() -> list[str]:
    """Return the names of the bundled configs."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find(name: str) -> Path:
    """Return the path of a config, given the name of a bundled one or a path."""
    if name in packaged():
        return CONFIGS / f"{name}.yaml"
    if os.path.lexists(name):
        return Path(name)
    raise InputError(
        f"no config `{without_secrets(name)}`: no such file, and not a bundled "
        f"config (those are: {', '.join(packaged())})"
    )


def parse(
    kind: type, arguments: list[str], arguments_type: type[ShardArguments] = ShardArguments
) -> tuple[Any, ...]:
    """Parse a YAML file and the command line, which overrides the file.

    Args:
        kind: TRL's SFTConfig or DPOConfig.
        arguments: The command line, without the training method.
        arguments_type: The additional arguments of this method.

    Returns:
        Instances of `arguments_type`, `kind` and TRL's ModelConfig.

    Raises:
        ConfigError: For keys that are unknown, removed from TRL or without effect, and for invalid
            values.
        InputError: If the config file does not exist or cannot be read.
    """
    from trl import ModelConfig, TrlParser

    config, rest = _split(arguments)
    given = read(config) if config else {}
    where = f"{config}: " if config else ""
    parser = TrlParser(
        (arguments_type, kind, ModelConfig), allow_abbrev=False, prog="python -m zephyr_fast.train"
    )
    parser.error = _reject
    parser.set_defaults(eval_on_start=None)  # `run` decides if it was not given
    # argparse has no public list of its options; the `--no_x` forms are among them.
    options = parser._option_string_actions
    known = {action.dest for action in options.values()}
    environment = _environment(given.pop("env", {}), where)
    actions = {action.dest: action for action in parser._actions}
    if isinstance(given.get("shards"), str):
        given["shards"] = [given["shards"]]
    for key, value in given.items():
        _check_key(key, f"{where}`{key}`", known)
        _check_value(value, actions[key], f"{where}`{key}`")
    flags = [word.partition("=")[0] for word in rest if word.startswith("--")]
    chosen = set(given)
    for flag in flags:
        dest = options[flag].dest if flag in options else flag.removeprefix("--").replace("-", "_")
        _check_key(dest, f"`{flag}`", known if flag in options else known - {dest})
        chosen.add(dest)
    _check_shards_given(given, flags, "-h" in rest)
    _check_json(rest)
    os.environ.update(environment)
    try:
        # TRL's config reader would open the file again.
        parser.set_defaults_with_config(**given)
        check_intervals(parser.parse_args(rest), chosen, where)
        parsed = tuple(parser.parse_args_into_dataclasses(args=rest, look_for_args_file=False))
    except (
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
        AttributeError,
        AssertionError,
        OSError,
    ) as error:
        # TRL and transformers raise these for incompatible values and for wrong types.
        raise ConfigError(f"{where}{' '.join(str(error).split())}") from error
    check_numbers(parsed[1], where)
    check_numbers(parsed[2], where)
    check_effects(parsed[1], parsed[2], chosen)
    return parsed


def _check_shards_given(given: Mapping[str, Any], flags: list[str], is_help: bool) -> None:
    """Raise ConfigError unless `shards` is set once; argparse would keep the last `--shards`."""
    if flags.count("--shards") > 1:
        raise ConfigError("`--shards` is given twice; list all directories once: `--shards A B`")
    if not given.get("shards") and not {"--shards", "--help"} & set(flags) and not is_help:
        raise ConfigError(
            "no data to train on; pass `--shards DIR`, the output directory of "
            f"{building_commands()}"
        )


def _check_json(words: list[str]) -> None:
    """Raise ConfigError for a table that is not valid JSON, and name its flag.

    The parsers of TRL and transformers name neither the flag nor the file.
    """
    flag = ""
    for word in words:
        if word.startswith("--"):
            flag, _, word = word.partition("=")
        if word.startswith("{") and flag.endswith(("kwargs", "config")):
            try:
                json.loads(word)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"`{flag}` is not valid JSON: {error}") from error


def _split(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """Return the path of the config and the remaining arguments.

    TrlParser supports `--config PATH`, but not `--config=PATH`.
    """
    rest = [
        part
        for word in arguments
        for part in (word.split("=", 1) if word.startswith("--config=") else [word])
    ]
    if "--config" not in rest:
        return None, rest
    place = rest.index("--config")
    if rest.count("--config") > 1 or place + 1 == len(rest):
        raise ConfigError("`--config` needs exactly one name or path")
    return find(rest[place + 1]), rest[:place] + rest[place + 2 :]


def whole(given: Mapping[str, Any], key: str, default: int, least: int, file: Path) -> int:
    """Return an integer of a config file; raise ConfigError if it is invalid or too large."""
    value = given.get(key, default)
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= WHOLE_MAX:
        raise ConfigError(
            f"{file}: `{key}` must be a whole number from {least} to {WHOLE_MAX:,}, not "
            f"{brief(value)}"
        )
    return value


def real(given: Mapping[str, Any], key: str, default: float, file: Path) -> float:
    """Return a non-negative number of a config file; raise ConfigError if it is invalid.

    NaN and infinity are invalid.
    """
    value = given.get(key, default)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= WHOLE_MAX:
        raise ConfigError(
            f"{file}: `{key}` must be a number from 0 to {WHOLE_MAX:,}, not {brief(value)}"
        )
    return number


def _reject(message: str) -> NoReturn:
    """Raise ConfigError in place of argparse, which would print a usage text and exit."""
    raise ConfigError(f"{message}; see `--help`")


def _environment(given: object, where: str) -> dict[str, str]:
    """Return the `env` table of a config file; TRL copies it to the process environment."""
    if not isinstance(given, dict):
        raise ConfigError(f"{where}`env` must be a table of `NAME: value` lines")
    for name, value in given.items():
        if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)):
            raise ConfigError(
                f"{where}`env`: {brief(name)} is not a valid name of an environment variable"
            )
        if not isinstance(value, str | int | float) or "\0" in str(value):
            raise ConfigError(
                f"{where}`env`: `{name}` must be a string or a number, not {brief(value)}"
            )
    return {name: str(value) for name, value in given.items()}


def _check_value(value: object, action: Any, shown: str) -> None:
    """Raise ConfigError if a value has the wrong type; argparse only converts strings."""
    text = str(value).lower() if isinstance(value, bool) else value
    if action.dest in CHOICES and text not in action.choices:
        raise ConfigError(f"{shown} must be one of {', '.join(action.choices)}, not {brief(value)}")
    if value is None:
        return
    if action.type is int and not _is_written(value, int):
        raise ConfigError(f"{shown} must be a whole number, not {brief(value)}")
    if action.type is float and action.nargs is None and not _is_written(value, float):
        raise ConfigError(f"{shown} must be a number, not {brief(value)}")
    if action.dest in TEXTS and not isinstance(value, str):
        raise ConfigError(f"{shown} must be a string, not {brief(value)}")
    if action.dest in LISTS and not (
        isinstance(value, list) and all(LISTS[action.dest](part) for part in value)
    ):
        raise ConfigError(
            f"{shown} must be a list of "
            f"{'numbers' if action.type is float else 'strings'}, not {brief(value)}"
        )


def _is_written(value: object, kind: type[int] | type[float]) -> bool:
    """Return whether this is such a number, or a string that contains one.

    YAML parses `2e-5`, which has no dot, as a string.
    """
    if isinstance(value, str):
        try:
            kind(value)
        except ValueError:
            return False
        return True
    return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TEXTS = {
    "teacher",
    "output_dir",
    "model_name_or_path",
    "model_revision",
    "attn_implementation",
    "dtype",
}
"""Keys whose value must be a string. For other string keys, TRL also accepts lists and tables."""

CHOICES = {"pack", "remainder"}
"""Keys with a few possible values, which argparse checks on the command line only."""

LISTS: dict[str, Callable[[object], bool]] = {
    "shards": lambda part: isinstance(part, str),
    "shard_weights": _is_number,
}


def _check_key(key: str, shown: str, known: set[str]) -> None:
    if key in UNSUPPORTED_KEYS:
        raise ConfigError(f"{shown} {UNSUPPORTED_KEYS[key]}")
    if key not in known:
        near = difflib.get_close_matches(key, known - UNSUPPORTED_KEYS.keys(), n=1)
        raise ConfigError(
            f"{shown} is not a known key" + (f"; did you mean `{near[0]}`?" if near else "")
        )
