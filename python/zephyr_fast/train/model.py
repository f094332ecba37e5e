"""Resolve the model a run starts from, and check that it matches the shards."""

import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zephyr_fast._core import ConfigError, InputError, IntegrityError
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.dataset.product import Product
from zephyr_fast.printed import brief, shown, without_secrets
from zephyr_fast.train.architecture import check_architecture
from zephyr_fast.train.tokenizer_ids import differs, differs_from_file
from zephyr_fast.train.trust import (
    check_adapter,
    check_folder,
    check_kernels,
    is_trouble,
    never_ask,
    refused,
    refused_model,
)
from zephyr_fast.untrusted.bounded import parse_json, read_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase
    from trl import DPOConfig, ModelConfig, SFTConfig

PACKAGED_MODEL = Path(__file__).parents[1] / "sample" / "model"
"""The bundled model, `--model_name_or_path sample`: a configuration without weights."""

TOKENIZER_FILES = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
}
"""The files that a dataset's `tokenizer` directory may contain."""

TOKENIZER_BYTES_MAX = 256 << 20
"""Maximum size of a tokenizer file; the largest vocabularies have some 35 MB."""


@dataclass(frozen=True)
class ModelSource:
    """The arguments of TRL's trainers: a model or its name, quantization and adapter settings."""

    model: Any
    quantization_config: Any
    peft_config: Any


def read_manifest(folder: str, product: Product) -> Manifest:
    """Read the manifest of a dataset; raise ConfigError if it has another product."""
    manifest = Manifest.read(folder)
    if manifest.kind is not product:
        found = f"holds {manifest.kind} data, for `{manifest.kind.act}`"
        raise ConfigError(
            f"`{folder}` {found}; this command needs the output of `zephyr-fast {product.command}`"
        )
    return manifest


def load_tokenizer(folder: str, manifest: Manifest) -> "PreTrainedTokenizerBase":
    """Load the tokenizer that built the shards, including its chat template.

    Training saves it with the model. Only files listed in the manifest are read. They are loaded
    from a copy of the verified bytes.

    Raises:
        InputError: If the tokenizer is missing or requests custom code.
        IntegrityError: If a file does not match the manifest.
    """
    from transformers import AutoTokenizer

    contents = tokenizer_files(folder, manifest)
    if "tokenizer.json" not in contents:
        raise InputError(f"`{folder}` has no `tokenizer` directory; copy the complete dataset")
    _check_no_code(
        contents.get("tokenizer_config.json", b"{}"), f"{folder}/tokenizer/tokenizer_config.json"
    )
    never_ask()
    with (
        tempfile.TemporaryDirectory(prefix="zephyr-fast-") as copy,
        refused(f"the tokenizer of `{folder}`"),
    ):
        for name, content in contents.items():
            (Path(copy) / name).write_bytes(content)
        tokenizer = AutoTokenizer.from_pretrained(copy, trust_remote_code=False)
        tokenizer.name_or_path = f"{folder}/tokenizer"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenizer_files(folder: str, manifest: Manifest) -> dict[str, bytes]:
    """Return the contents of the `tokenizer` directory by name.

    Raises IntegrityError if they do not match the manifest.
    """
    contents = {}
    for card in manifest.files:
        file = PurePosixPath(card.file)
        if file.parent != PurePosixPath("tokenizer") or file.name not in TOKENIZER_FILES:
            continue
        path = Path(folder) / "tokenizer" / file.name
        try:
            contents[file.name] = read_bytes(path, TOKENIZER_BYTES_MAX)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"cannot read `{path}`: {error.strerror}") from error
        if hashlib.sha256(contents[file.name]).hexdigest() != card.sha256:
            raise IntegrityError(
                f"`{path}` was changed after the shards were built: its checksum does not match"
            )
    return contents


def warn_of_other_ids(
    tokenizer: "PreTrainedTokenizerBase", folder: str, manifest: Manifest
) -> None:
    """Warn if the tokenizer that a trainer saves gives other ids than the shards have.

    Args:
        tokenizer: The trainer's tokenizer.
        folder: Directory of the dataset.
        manifest: Its manifest.

    Raises:
        IntegrityError: If the tokenizer of the dataset does not match the manifest.
    """
    content = tokenizer_files(folder, manifest).get("tokenizer.json")
    if content and (example := differs_from_file(tokenizer, content)):
        log(
            "warning: the trainer's tokenizer, which is saved with the model, gives other ids than "
            f"those of the shards, such as {example}; use the tokenizer in `{folder}/tokenizer`"
        )


def _check_no_code(config: bytes, where: str) -> None:
    """Raise InputError for a tokenizer configuration with custom code.

    It would be saved with the model, and every later load would ask to run it.
    """
    try:
        given = parse_json(config)
    except ValueError as error:
        raise InputError(f"cannot read `{where}`: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f"`{where}` is not a tokenizer configuration")
    if "auto_map" in given:
        raise InputError(
            f"`{where}` requests custom code (`auto_map`), which a dataset must not do; "
            "rebuild it with a tokenizer that has no such key"
        )


def resolve_model(
    arguments: "ModelConfig",
    training: "SFTConfig | DPOConfig",
    manifests: Sequence[Manifest],
    tokenizer: "PreTrainedTokenizerBase",
) -> ModelSource:
    """Resolve the model to train, after all checks that need no weights.

    Usually this is a name, and TRL loads the weights. A directory with only a `config.json` gives
    random weights from `seed`. A directory with an adapter continues that adapter on its base
    model.

    Raises:
        ConfigError: If model and shards do not match.
        InputError: If the model does not exist or cannot be loaded.
    """
    from trl import get_peft_config, get_quantization_config

    name = model_name(arguments)
    quantization, adapter = get_quantization_config(arguments), get_peft_config(arguments)
    training.model_init_kwargs = _loading(arguments, training)
    base = base_of_adapter(name)
    check_fit(base or name, manifests, tokenizer, training.trust_remote_code)
    if base:
        return ModelSource(_load_adapter(name, base, training, quantization), None, None)
    if _has_only_config(name):
        return ModelSource(_random(name, training), quantization, adapter)
    return ModelSource(name, quantization, adapter)


def model_name(arguments: "ModelConfig") -> str:
    """Return the directory or Hub id of the model to start from."""
    name = arguments.model_name_or_path
    if name is None:
        raise ConfigError(
            "no model to start from; pass `--model_name_or_path DIR_OR_HUB_ID`, or `sample`"
        )
    return str(PACKAGED_MODEL) if name == "sample" else str(name)


def log(text: str) -> None:
    """Print one line on stderr, from the main process only."""
    from accelerate import PartialState

    if PartialState().is_main_process:
        print(shown(without_secrets(text)), file=sys.stderr, flush=True)


def _loading(arguments: "ModelConfig", training: "SFTConfig | DPOConfig") -> dict[str, Any]:
    """Return the arguments of `from_pretrained`, the same as in TRL's scripts."""
    given = training.model_init_kwargs if isinstance(training.model_init_kwargs, dict) else {}
    return {
        "revision": arguments.model_revision,
        "trust_remote_code": training.trust_remote_code,
        "attn_implementation": arguments.attn_implementation,
        "dtype": arguments.dtype,
        **given,
    }


def check_fit(
    name: str, manifests: Sequence[Manifest], tokenizer: "PreTrainedTokenizerBase", trust: bool
) -> None:
    """Check a model's configuration and tokenizer against the shards.

    Args:
        name: Directory or Hub id of the model.
        manifests: Manifests of the shards.
        tokenizer: Tokenizer of the shards.
        trust: Whether the model's custom code may run.

    Raises:
        InputError: If the model does not exist or cannot be loaded.
        ConfigError: If positions, vocabulary or token ids do not match.
        IntegrityError: If manifest and tokenizer of the shards contradict each other.
    """
    from transformers import AutoConfig

    check_folder(name)
    never_ask()
    with refused(f"the model `{name}`"):
        whole = AutoConfig.from_pretrained(name, trust_remote_code=trust)
        check_architecture(whole, name, is_loaded=not _has_only_config(name))
        config = whole.get_text_config()
        vocabulary = int(config.vocab_size)
    check_kernels(config, name)
    positions = _positions_max(config)
    needed = max(split.seq_len for manifest in manifests for split in manifest.splits.values())
    if positions is not None and needed > positions:
        raise ConfigError(
            f"samples have up to {needed} tokens, but `{name}` supports only {positions} positions"
        )
    if len(tokenizer) > vocabulary:
        raise ConfigError(
            f"the shards' tokenizer has {len(tokenizer)} tokens, but `{name}` only "
            f"{vocabulary}; rebuild the dataset with the model's tokenizer "
            "(`--tokenizer`)"
        )
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= vocabulary:
        raise ConfigError(
            f"the shards' tokenizer uses the id {largest}, but `{name}` has only "
            f"{vocabulary} ids; rebuild the dataset with the model's tokenizer "
            "(`--tokenizer`)"
        )
    for manifest in manifests:
        listed = manifest.require_tokens()[0].vocab_size
        if listed > max(largest + 1, len(tokenizer)):  # ids in the shards are checked against it
            raise IntegrityError(
                f"the manifest lists {listed} tokens for the shards' tokenizer, which has "
                f"{len(tokenizer)}; rebuild the dataset"
            )
    _check_same_ids(name, tokenizer, trust)


def _positions_max(config: "PreTrainedConfig") -> int | None:
    positions = getattr(config, "max_position_embeddings", None)
    return positions if isinstance(positions, int) else None


def _check_same_ids(name: str, tokenizer: "PreTrainedTokenizerBase", trust: bool) -> None:
    """Raise ConfigError if a token has different ids in the shards and the model.

    Wrong ids would train on noise, which looks like a high loss. A tokenizer of the same tokens can
    still split texts in another way. That is a matter of serving, so it is a warning.
    """
    from transformers import AutoTokenizer

    if os.path.isdir(name) and not list(Path(name).glob("tokenizer*")):
        return
    try:
        of_model = AutoTokenizer.from_pretrained(name, trust_remote_code=trust)
        model_ids, example = of_model.get_vocab(), differs(of_model, tokenizer)
    except (OSError, ValueError):  # a model without a tokenizer
        return
    except BaseException as error:  # readers of damaged or hostile files raise anything
        if not is_trouble(error):
            raise
        raise InputError(
            f"cannot load the tokenizer of the model `{name}`: {' '.join(str(error).split())}"
        ) from error
    shard_ids = tokenizer.get_vocab()
    if moved := next(
        (token for token, id in shard_ids.items() if model_ids.get(token, id) != id), None
    ):
        raise ConfigError(
            f"the shards were built with another tokenizer than that of `{name}`: "
            f"{moved!r} is id {shard_ids[moved]} in the shards and {model_ids[moved]} in the "
            f"model; rebuild them with `--tokenizer {name}`"
        )
    if example:
        log(
            f"warning: with the tokenizer of `{name}`, transformers gives other ids than those of "
            f"the shards: {example}; serve the trained model with the tokenizer saved with it"
        )


def _has_only_config(name: str) -> bool:
    folder = Path(name)
    weights = (".safetensors", ".bin", ".gguf", ".index.json")
    return os.path.isfile(folder / "config.json") and not any(
        path.name.endswith(weights) for path in folder.iterdir()
    )


def _random(name: str, training: "SFTConfig | DPOConfig") -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, set_seed
    from trl import DPOConfig

    if isinstance(training, DPOConfig):
        raise InputError(
            f"`{name}` has no weights; DPO starts from a trained model, so run `sft` first"
        )
    log(f"`{name}` has no weights; initializing randomly with seed {training.seed}")
    set_seed(training.seed)
    loading = training.model_init_kwargs or {}
    assert isinstance(loading, dict)  # set by _loading
    dtype = "float32" if loading["dtype"] in (None, "auto") else loading["dtype"]
    training.model_init_kwargs = None  # TRL must not load the model again
    with refused_model(f"the model `{name}`"):
        return AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(name, trust_remote_code=training.trust_remote_code),
            dtype=getattr(torch, dtype) if isinstance(dtype, str) else dtype,
            attn_implementation=loading["attn_implementation"],
            trust_remote_code=training.trust_remote_code,
        )


def base_of_adapter(name: str) -> str | None:
    """Return the base model of a directory or Hub repository with a LoRA adapter, else None."""
    from transformers.utils import find_adapter_config_file

    check_folder(name)
    if os.path.isdir(name) and not (Path(name) / "adapter_config.json").is_file():
        return None
    with refused(f"the model `{name}`"):
        file = find_adapter_config_file(name)
    if file is None:
        return None
    from peft import PeftConfig

    check_adapter(file)
    with refused(f"the adapter `{name}`"):
        base = PeftConfig.from_pretrained(name).base_model_name_or_path
    if not isinstance(base, str):
        raise InputError(
            f"adapter `{name}` does not name its base model (`base_model_name_or_path` "
            f"is {brief(base)})"
        )
    check_folder(base)
    return base


def _load_adapter(
    name: str, base: str, training: "SFTConfig | DPOConfig", quantization: Any
) -> Any:
    """Load the base model and the adapter, which training continues.

    DPOTrainer keeps a frozen copy of the adapter as its reference.
    """
    from peft import PeftModel
    from trl.trainer.utils import create_model_from_path

    log(
        f"`{name}` is an adapter of `{base}`; training continues with its own rank "
        "and targets (`lora_*` keys are ignored)"
    )
    loading = dict(training.model_init_kwargs or {})
    if quantization is not None:
        loading["quantization_config"] = quantization
    if training.distributed_state.distributed_type in ("MULTI_GPU", "DEEPSPEED"):
        loading["device_map"] = None
    training.model_init_kwargs = None  # TRL must not load the model again
    with refused_model(f"the model `{base}`"):
        model = create_model_from_path(base, **loading)
    with refused_model(f"the adapter `{name}`"):
        return PeftModel.from_pretrained(model, name, is_trainable=True)
