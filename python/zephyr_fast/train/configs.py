"""Reads what to train from a YAML file and the command line, and says what replaced the keys that older recipes use."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from zephyr_fast._core import InputError, RecipeError

CONFIGS = Path(__file__).parents[1] / "configs"

_SHARDS_DECIDE = "has no effect on shards, which hold finished token ids; "
_LENGTH = _SHARDS_DECIDE + "set `seq_len` (prep) or `max_length` (binarize) in the data recipe"
_PACKING = _SHARDS_DECIDE + "`prep` has packed them, with a mask for each document"
_SOURCE = "is now `shards`, the out folder of `zephyr-fast prep` or `binarize`"
_TEMPLATE = _SHARDS_DECIDE + "the data recipe names the template, and the shards carry it"
_LOSS = _SHARDS_DECIDE + "their labels say what is trained; see `[tokenize]` in the data recipe"
_ALWAYS = "is no longer needed: remove it; "

REPLACED = {
    # Keys of the handbook's recipes and of older TRL and transformers, which the installed ones no longer know.
    "max_seq_length": _LENGTH,
    "max_prompt_length": _LENGTH,
    "max_completion_length": _LENGTH,
    "max_target_length": _LENGTH,
    "warmup_ratio": "is now `warmup_steps`: a value below 1 is a share of all steps, so `warmup_steps: 0.1`",
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
    "preprocessing_num_workers": _SHARDS_DECIDE + "the engine uses every core; see `--threads` of `zephyr-fast prep`",
    "auto_insert_empty_system_msg": _TEMPLATE,
    "chat_template": _TEMPLATE,
    "tokenizer_name_or_path": _SHARDS_DECIDE + "the tokenizer is the one in their `tokenizer` folder",
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


@dataclass
class ShardArguments:
    """What TRL's own arguments do not have."""

    shards: str = field(metadata={"help": "Out folder of `zephyr-fast prep` (sft) or `zephyr-fast binarize` (dpo)."})
    mix: list[str] = field(default_factory=list, metadata={"help": "More out folders of the same kind, to train on beside `shards`."})
    shard_weights: list[float] = field(
        default_factory=list,
        metadata={"help": "How often each of `shards` and `mix` is read, in proportion. Without them, every row once an epoch."},
    )
    tail: Literal["carry", "pad", "drop"] = field(
        default="carry",
        metadata={
            "help": "What becomes of rows that do not fill an epoch's last step: they open the next epoch, the step is padded "
            "(sft), or they are left out."
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
    if (CONFIGS / f"{name}.yaml").is_file() and Path(name).name == name:
        return CONFIGS / f"{name}.yaml"
    if Path(name).is_file():
        return Path(name)
    raise InputError(f"no config `{name}`: no such file, and the packaged ones are: {', '.join(packaged())}")


def parse(kind: type, arguments: list[str], own: type[ShardArguments] = ShardArguments) -> tuple[Any, ...]:
    """Our `own` arguments, `kind` (TRL's SFTConfig or DPOConfig) and ModelConfig, from YAML and command line.

    The command line wins over the file. RecipeError for a key that is unknown, gone from TRL, or without effect.
    """
    from trl import ModelConfig, TrlParser

    config, rest = _split(arguments)
    given = read(config) if config else {}
    where = f"{config}: " if config else ""
    parser = TrlParser((own, kind, ModelConfig), allow_abbrev=False, prog="python -m zephyr_fast.train")
    options = parser._option_string_actions  # argparse has no public list; `--no_x`, too, is one of these
    known = {action.dest for action in options.values()}
    for key in given.keys() - {"env"}:
        _check(key, f"{where}`{key}`", known)
    for flag in (word.partition("=")[0] for word in rest if word.startswith("--")):
        dest = options[flag].dest if flag in options else flag.removeprefix("--").replace("-", "_")
        _check(dest, f"`{flag}`", known if flag in options else known - {dest})
    if not {"-h", "--help"} & set(rest) and "shards" not in given and not any(word.partition("=")[0] == "--shards" for word in rest):
        raise RecipeError("name the data to train on: `--shards FOLDER`, the out folder of `zephyr-fast prep` or `binarize`")
    try:
        return tuple(parser.parse_args_and_config([*(["--config", str(config)] if config else []), *rest]))
    except ValueError as error:  # what TRL and transformers raise for values that do not go together
        raise RecipeError(f"{where}{' '.join(str(error).split())}") from error


def _split(arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The config's path and the other arguments. TrlParser itself knows `--config PATH` but not `--config=PATH`."""
    rest = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    if "--config" not in rest:
        return None, rest
    place = rest.index("--config")
    if rest.count("--config") > 1 or place + 1 == len(rest):
        raise RecipeError("`--config` takes one name or path")
    return find(rest[place + 1]), rest[:place] + rest[place + 2 :]


def read(config: Path) -> dict[str, Any]:
    """What a config file says. Errors: InputError, RecipeError where it is not YAML."""
    try:
        given = yaml.safe_load(config.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read `{config}`: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{config}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise RecipeError(f"{config}: not a list of `key: value` lines")
    return given


def _check(key: str, shown: str, known: set[str]) -> None:
    if key in REPLACED:
        raise RecipeError(f"{shown} {REPLACED[key]}")
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        raise RecipeError(f"{shown} is not a key of TRL's" + (f"; did you mean `{near[0]}`?" if near else ""))
