"""Reads what to train from a YAML file and the command line, and says what replaced the keys
that older recipes use.
"""

import difflib
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn

from zephyr_fast._core import ConfigError, InputError
from zephyr_fast.dataset.product import Product
from zephyr_fast.printed import brief, without_secrets
from zephyr_fast.train.config_file import read

CONFIGS = Path(__file__).parents[1] / "configs"

_SHARDS_DECIDE = "has no effect on shards, which hold finished token ids; "
_LENGTH_KEYS = " or ".join(f"`{one.length_key}` ({one.command})" for one in Product)
_LENGTH = _SHARDS_DECIDE + f"set {_LENGTH_KEYS} in the data recipe"
_PACKING = _SHARDS_DECIDE + "`prep` has packed them, with a mask for each document"
_COMMANDS = "` or `".join(one.command for one in Product)
_SOURCE = f"is now `shards`, the out folder of `zephyr-fast {_COMMANDS}`"
_TEMPLATE = _SHARDS_DECIDE + "the data recipe names the template, and the shards carry it"
_LOSS = _SHARDS_DECIDE + "their labels say what is trained; see `[tokenize]` in the data recipe"
_ALWAYS = "is no longer needed: remove it; "

REPLACED = {
    # Keys of the handbook's recipes and of older TRL and transformers, which the installed ones no
    # longer know.
    "max_seq_length": _LENGTH,
    "max_prompt_length": _LENGTH,
    "max_completion_length": _LENGTH,
    "max_target_length": _LENGTH,
    "warmup_ratio": "is now `warmup_steps`: a value below 1 is a share of all steps, so "
    "`warmup_steps: 0.1`",
    "torch_dtype": "is now `dtype`",
    "evaluation_strategy": "is now `eval_strategy`",
    "group_by_length": "is now `train_sampling_strategy: group_by_length`",
    "overwrite_output_dir": _ALWAYS + "checkpoints are only used with `resume_from_checkpoint`",
    "save_safetensors": _ALWAYS + "weights are always saved as safetensors",
    "logging_dir": "is now the environment variable TENSORBOARD_LOGGING_DIR",
    "no_cuda": "is now `use_cpu`",
    "use_flash_attention_2": "is now `attn_implementation: flash_attention_2`",
    "half_precision_backend": _ALWAYS + "set `bf16` or `fp16`",
    "dispatch_batches": "is now a key of `accelerator_config`",
    "split_batches": "is now a key of `accelerator_config`",
    "push_to_hub_model_id": "is now `hub_model_id`",
    "rpo_alpha": "is now `loss_type: [sigmoid, sft]` with `loss_weights: [1.0, ALPHA]`",
    "reference_free": "is gone from TRL",
    "generate_during_eval": "is gone from TRL",
    "ref_adapter_name": _ALWAYS + "the reference of an adapter is its own first state",
    "model_adapter_name": _ALWAYS + "the adapter is called `default`",
    "label_pad_token_id": _ALWAYS + "it is -100",
    # Where the data were.
    "dataset_mixer": _SOURCE,
    "dataset_mixture": _SOURCE,
    "dataset_splits": _SOURCE + "; it has its own `train` and `test` splits",
    "dataset_configs": _SOURCE,
    "dataset_name": _SOURCE,
    "dataset_config": _SOURCE,
    "datasets": _SOURCE,
    "dataset_train_split": _SOURCE + "; it has its own `train` and `test` splits",
    "dataset_test_split": _SOURCE + "; it has its own `train` and `test` splits",
    "preprocessing_num_workers": _SHARDS_DECIDE
    + "the engine uses every core; see `--threads` of `zephyr-fast prep`",
    "auto_insert_empty_system_msg": _TEMPLATE,
    "chat_template": _TEMPLATE,
    "tokenizer_name_or_path": _SHARDS_DECIDE
    + "the tokenizer is the one in their `tokenizer` folder",
    # Keys that TRL still has, which would silently do nothing to finished token ids.
    "max_length": _LENGTH,
    "truncation_mode": _LENGTH,
    "packing": _PACKING,
    "packing_strategy": _PACKING,
    "eval_packing": _PACKING,
    "padding_free": _PACKING,
    "chat_template_path": _TEMPLATE,
    "dataset_text_field": _SOURCE,
    "dataset_num_proc": _SHARDS_DECIDE + "nothing is left to prepare",
    "dataset_kwargs": _SHARDS_DECIDE + "nothing is left to prepare",
    "assistant_only_loss": _LOSS,
    "completion_only_loss": _LOSS,
    "eos_token": _SHARDS_DECIDE + "the tokenizer is the one in their `tokenizer` folder",
    "pad_token": _SHARDS_DECIDE + "the tokenizer is the one in their `tokenizer` folder",
    "remove_unused_columns": _ALWAYS + "shards hold nothing but what is trained on",
}
"""What to say of a key that is refused, by its name."""


WHOLE_MAX = 2**53
"""Above any step, token or sample of a run, and exact as a float, which some of TRL's fields
are.
"""

BOUNDS: dict[str, tuple[float, float]] = {
    "per_device_train_batch_size": (1, 2**31 - 1),
    "per_device_eval_batch_size": (1, 2**31 - 1),
    "gradient_accumulation_steps": (1, 2**31 - 1),
    "num_train_epochs": (0, 2**31 - 1),
    "max_steps": (-1, 2**53),
    "learning_rate": (0, 1e9),
    "seed": (0, 2**32 - 1),
    "data_seed": (0, 2**32 - 1),
    "dataloader_num_workers": (0, 4_096),
    "dataloader_prefetch_factor": (1, 2**31 - 1),
    "save_total_limit": (0, 2**31 - 1),
    "pad_to_multiple_of": (1, 2**31 - 1),
}
"""Least and greatest of what is divided by, counted with or seeded from."""


_MADE_BY = " or ".join(f"`zephyr-fast {one.command}` ({one.act})" for one in Product)
_PADDED = ", ".join(one.act for one in Product if one.can_pad)


@dataclass
class ShardArguments:
    """What TRL's own arguments do not have."""

    shards: str = field(metadata={"help": f"Out folder of {_MADE_BY}."})
    mix: list[str] = field(
        default_factory=list,
        metadata={"help": "More out folders of the same kind, to train on beside `shards`."},
    )
    shard_weights: list[float] = field(
        default_factory=list,
        metadata={
            "help": "How often each of `shards` and `mix` is read, in proportion. Without them, "
            "every row once an epoch."
        },
    )
    tail: Literal["carry", "pad", "drop"] = field(
        default="carry",
        metadata={
            "help": "What becomes of rows that do not fill an epoch's last step: they open the "
            "next "
            f"epoch, the step is padded ({_PADDED}), or they are left out."
        },
    )

    @property
    def folders(self) -> list[str]:
        """All folders that are trained on."""
        return [self.shards, *self.mix]


def packaged() -> list[str]:
    """Names of the packaged configs."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a config: a packaged one by its name, else the path itself."""
    if name in packaged():
        return CONFIGS / f"{name}.yaml"
    if os.path.lexists(name):
        return Path(name)
    raise InputError(
        f"no config `{without_secrets(name)}`: no such file, and the packaged ones are: "
        f"{', '.join(packaged())}"
    )


def parse(
    kind: type, arguments: list[str], own: type[ShardArguments] = ShardArguments
) -> tuple[Any, ...]:
    """Our `own` arguments, `kind` (TRL's SFTConfig or DPOConfig) and ModelConfig, from YAML and
    command line.

    The command line wins over the file. ConfigError for a key that is unknown, gone from TRL, or
    without effect.
    """
    from trl import ModelConfig, TrlParser

    config, rest = _split(arguments)
    given = read(config) if config else {}
    where = f"{config}: " if config else ""
    parser = TrlParser(
        (own, kind, ModelConfig), allow_abbrev=False, prog="python -m zephyr_fast.train"
    )
    parser.error = _refuse
    # argparse has no public list; `--no_x`, too, is one of these.
    options = parser._option_string_actions
    known = {action.dest for action in options.values()}
    environment = _environment(given.pop("env", {}), where)
    actions = {action.dest: action for action in parser._actions}
    for key, value in given.items():
        _check(key, f"{where}`{key}`", known)
        _check_value(value, actions[key], f"{where}`{key}`")
    for flag in (word.partition("=")[0] for word in rest if word.startswith("--")):
        dest = options[flag].dest if flag in options else flag.removeprefix("--").replace("-", "_")
        _check(dest, f"`{flag}`", known if flag in options else known - {dest})
    if (
        not {"-h", "--help"} & set(rest)
        and "shards" not in given
        and not any(word.partition("=")[0] == "--shards" for word in rest)
    ):
        raise ConfigError(
            "name the data to train on: `--shards FOLDER`, the out folder of `zephyr-fast prep` or "
            "`binarize`"
        )
    os.environ.update(environment)
    try:
        # TRL's own reader of config files would open the file again.
        parser.set_defaults_with_config(**given)
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
        # What TRL and transformers raise for values that do not go together, or are of another kind
        # than they expect.
        raise ConfigError(f"{where}{' '.join(str(error).split())}") from error
    _check_numbers(parsed[1], where)
    return parsed


def _split(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The config's path and the other arguments. TrlParser itself knows `--config PATH` but not
    `--config=PATH`.
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
        raise ConfigError("`--config` takes one name or path")
    return find(rest[place + 1]), rest[:place] + rest[place + 2 :]


def whole(given: Mapping[str, Any], key: str, default: int, least: int, file: Path) -> int:
    """A whole number of a config file; ConfigError for anything else, and for one that no run
    can have.
    """
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
    """A number of a config file that is 0 or more; ConfigError for anything else, nan and
    infinity included.
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


def _refuse(message: str) -> NoReturn:
    """What argparse calls for a command line that it cannot read; it would print what was typed,
    and leave.
    """
    raise ConfigError(f"{message}; see `--help`")


def _environment(given: object, where: str) -> dict[str, str]:
    """The `env` table of a config file, which TRL puts into the process's environment."""
    if not isinstance(given, dict):
        raise ConfigError(f"{where}`env` is not a table of `NAME: value` lines")
    for name, value in given.items():
        if not (isinstance(name, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)):
            raise ConfigError(
                f"{where}`env`: {brief(name)} is not a name of an environment variable"
            )
        if not isinstance(value, str | int | float) or "\0" in str(value):
            raise ConfigError(
                f"{where}`env`: `{name}` must be text or a number, not {brief(value)}"
            )
    return {name: str(value) for name, value in given.items()}


def _check_value(value: object, action: Any, shown: str) -> None:
    """ConfigError for a value of a file that is not of its key's kind: argparse only looks at
    texts.
    """
    if value is None:
        return
    if action.type is int and not _is_written(value, int):
        raise ConfigError(f"{shown} must be a whole number, not {brief(value)}")
    if action.type is float and action.nargs is None and not _is_written(value, float):
        raise ConfigError(f"{shown} must be a number, not {brief(value)}")
    if action.dest in TEXTS and not isinstance(value, str):
        raise ConfigError(f"{shown} must be text, not {brief(value)}")
    if action.dest in LISTS and not (
        isinstance(value, list) and all(LISTS[action.dest](part) for part in value)
    ):
        raise ConfigError(
            f"{shown} must be a list of {'numbers' if action.type is float else 'texts'}, not "
            f"{brief(value)}"
        )


def _is_written(value: object, kind: type[int] | type[float]) -> bool:
    """Whether this is such a number, or text that is one: YAML takes `2e-5`, without a dot, for
    text.
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
    "shards",
    "teacher",
    "output_dir",
    "model_name_or_path",
    "model_revision",
    "attn_implementation",
    "dtype",
}
"""Keys that are names; TRL has lists and tables for some others, whatever it calls their type."""

LISTS: dict[str, Callable[[object], bool]] = {
    "mix": lambda part: isinstance(part, str),
    "shard_weights": _is_number,
}


def _check_numbers(training: Any, where: str) -> None:
    """ConfigError for numbers that no run can have; of many, transformers says so only by
    dividing by them.
    """
    for key in (one.name for one in fields(training)):
        value = getattr(training, key)
        if isinstance(value, float) and math.isnan(value):
            raise ConfigError(f"{where}`{key}` is not a number")
        if isinstance(value, int) and abs(value) > WHOLE_MAX:
            raise ConfigError(f"{where}`{key}` is {brief(value)}, more than any run can have")
    for key, (least, most) in BOUNDS.items():
        value = getattr(training, key, None)
        if value is not None and not (_is_number(value) and least <= value <= most):
            raise ConfigError(
                f"{where}`{key}` must be from {least} to {most:,}, not {brief(value)}"
            )


def _check(key: str, shown: str, known: set[str]) -> None:
    if key in REPLACED:
        raise ConfigError(f"{shown} {REPLACED[key]}")
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        raise ConfigError(
            f"{shown} is not a key of TRL's" + (f"; did you mean `{near[0]}`?" if near else "")
        )
