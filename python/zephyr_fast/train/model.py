"""Says which model a run starts from, and checks that the shards were made for it."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr_fast._core import InputError, IntegrityError, RecipeError
from zephyr_fast.manifest import Kind, Manifest

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase
    from trl import DPOConfig, ModelConfig, SFTConfig

SAMPLE = Path(__file__).parents[1] / "sample" / "model"
"""The packaged model, `--model_name_or_path sample`: a configuration without weights."""

MADE_BY = {"sft": "zephyr-fast prep", "preference": "zephyr-fast binarize"}


@dataclass(frozen=True)
class Start:
    """What TRL's trainers take: a model or its name, and how to load the one, quantize it, and wrap it in an adapter."""

    model: Any
    quantization_config: Any
    peft_config: Any


def read_manifest(folder: str, kind: Kind) -> Manifest:
    """The manifest of shards of this kind; RecipeError where they are of the other."""
    manifest = Manifest.read(folder)
    if manifest.kind != kind:
        act = "dpo" if manifest.kind == "preference" else "sft"
        raise RecipeError(f"`{folder}` holds {manifest.kind} shards, for `{act}`; this needs those of `{MADE_BY[kind]}`")
    return manifest


def load_tokenizer(folder: str, manifest: Manifest) -> "PreTrainedTokenizerBase":
    """The tokenizer that made the shards, chat template included; it is saved with the model."""
    from transformers import AutoTokenizer

    for card in manifest.files:
        path = Path(folder) / card.file
        if path.parent == Path(folder) / "tokenizer" and hashlib.sha256(path.read_bytes()).hexdigest() != card.sha256:
            raise IntegrityError(f"`{path}` is not the file that made the shards")
    if not (Path(folder) / "tokenizer" / "tokenizer.json").is_file():
        raise InputError(f"`{folder}` has no `tokenizer` folder; copy the whole out folder")
    tokenizer = AutoTokenizer.from_pretrained(f"{folder}/tokenizer")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_start(
    arguments: "ModelConfig", training: "SFTConfig | DPOConfig", manifests: Sequence[Manifest], tokenizer: "PreTrainedTokenizerBase"
) -> Start:
    """What to train, after the checks that need no weights. Most often a name: TRL loads the weights itself.

    A folder with nothing but a `config.json` gives random weights from `seed`. A folder with an adapter goes on with
    it, over its base model. Errors: RecipeError where model and shards do not fit together.
    """
    from trl import get_peft_config, get_quantization_config

    name = named(arguments)
    quantization, adapter = get_quantization_config(arguments), get_peft_config(arguments)
    training.model_init_kwargs = _loading(arguments, training)
    base = base_of_adapter(name)
    check_fit(base or name, manifests, tokenizer, training.trust_remote_code)
    if base:
        return Start(_load_adapter(name, base, training, quantization), None, None)
    if _has_only_config(name):
        return Start(_random(name, training), quantization, adapter)
    return Start(name, quantization, adapter)


def named(arguments: "ModelConfig") -> str:
    """The folder or Hub id of the model to start from."""
    name = arguments.model_name_or_path
    if name is None:
        raise RecipeError("name the model to start from: `--model_name_or_path FOLDER_OR_HUB_ID`, or `sample`")
    return str(SAMPLE) if name == "sample" else str(name)


def note(text: str) -> None:
    """One line on stderr, from the first process only."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(text, file=sys.stderr, flush=True)


def _loading(arguments: "ModelConfig", training: "SFTConfig | DPOConfig") -> dict[str, Any]:
    """How `from_pretrained` is called: as TRL's own scripts do."""
    given = training.model_init_kwargs if isinstance(training.model_init_kwargs, dict) else {}
    return {
        "revision": arguments.model_revision,
        "trust_remote_code": training.trust_remote_code,
        "attn_implementation": arguments.attn_implementation,
        "dtype": arguments.dtype,
        **given,
    }


def check_fit(name: str, manifests: Sequence[Manifest], tokenizer: "PreTrainedTokenizerBase", trust: bool) -> None:
    """Positions, vocabulary and ids of the shards against the model's configuration and its own tokenizer.

    Errors: InputError for a model that is not there, RecipeError for one that does not fit.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust).get_text_config()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the model `{name}`: {' '.join(str(error).split())}") from error
    positions = _positions_max(config)
    needed = max(split.seq_len for manifest in manifests for split in manifest.splits.values())
    if positions is not None and needed > positions:
        raise RecipeError(f"samples of up to {needed} tokens do not fit `{name}`, which has {positions} positions")
    if len(tokenizer) > config.vocab_size:
        raise RecipeError(
            f"the shards' tokenizer has {len(tokenizer)} tokens, `{name}` only {config.vocab_size}; "
            "make the shards with the model's own: `--tokenizer`"
        )
    _check_same_ids(name, tokenizer, trust)


def _positions_max(config: "PreTrainedConfig") -> int | None:
    positions = getattr(config, "max_position_embeddings", None)
    return positions if isinstance(positions, int) else None


def _check_same_ids(name: str, tokenizer: "PreTrainedTokenizerBase", trust: bool) -> None:
    """A token that both know must have one id; ids of another tokenizer would train noise and look like a high loss."""
    from transformers import AutoTokenizer

    if Path(name).is_dir() and not list(Path(name).glob("tokenizer*")):
        return
    try:
        own = AutoTokenizer.from_pretrained(name, trust_remote_code=trust).get_vocab()
    except (OSError, ValueError):  # a model without a tokenizer
        return
    made = tokenizer.get_vocab()
    if moved := next((token for token, id in made.items() if own.get(token, id) != id), None):
        raise RecipeError(
            f"the shards were made with another tokenizer than that of `{name}`: {moved!r} is {made[moved]} there, "
            f"{own[moved]} here; make them again with `--tokenizer {name}`"
        )


def _has_only_config(name: str) -> bool:
    folder = Path(name)
    weights = (".safetensors", ".bin", ".gguf", ".index.json")
    return (folder / "config.json").is_file() and not any(path.name.endswith(weights) for path in folder.iterdir())


def _random(name: str, training: "SFTConfig | DPOConfig") -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, set_seed
    from trl import DPOConfig

    if isinstance(training, DPOConfig):
        raise InputError(f"`{name}` has no weights: preferences are taught to a trained model; run `sft` first")
    note(f"{name} has no weights: they start random, from seed {training.seed}")
    set_seed(training.seed)
    loading = training.model_init_kwargs or {}
    assert isinstance(loading, dict)  # _loading made it
    dtype = "float32" if loading["dtype"] in (None, "auto") else loading["dtype"]
    training.model_init_kwargs = None  # there is nothing left to load
    return AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(name, trust_remote_code=training.trust_remote_code),
        dtype=getattr(torch, dtype) if isinstance(dtype, str) else dtype,
        attn_implementation=loading["attn_implementation"],
        trust_remote_code=training.trust_remote_code,
    )


def base_of_adapter(name: str) -> str | None:
    """The base model of a folder or Hub repository that holds a LoRA adapter; None where it holds none."""
    from transformers.utils import find_adapter_config_file

    if Path(name).is_dir() and not (Path(name) / "adapter_config.json").is_file():
        return None
    if find_adapter_config_file(name) is None:
        return None
    from peft import PeftConfig

    return str(PeftConfig.from_pretrained(name).base_model_name_or_path)


def _load_adapter(name: str, base: str, training: "SFTConfig | DPOConfig", quantization: Any) -> Any:
    """The base model under the adapter, which goes on being trained; DPOTrainer keeps a frozen copy as its reference."""
    from peft import PeftModel
    from trl.trainer.utils import create_model_from_path

    note(f"{name} is an adapter of {base}: it is trained on, with its own rank and targets (`lora_*` keys have no effect)")
    loading = dict(training.model_init_kwargs or {})
    if quantization is not None:
        loading["quantization_config"] = quantization
    if training.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
        loading["device_map"] = None
    training.model_init_kwargs = None  # there is nothing left to load
    return PeftModel.from_pretrained(create_model_from_path(base, **loading), name, is_trainable=True)
