"""Compute a digest of a model's weight files without loading them."""

import hashlib
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zephyr_fast._core import InputError
from zephyr_fast.printed import brief
from zephyr_fast.train.model import base_of_adapter
from zephyr_fast.train.trust import check_folder, read_json

NOT_THE_FUNCTION = {
    "transformers_version",
    "use_cache",
    "_name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
    "pad_token_id",
}
"""Keys of a `config.json` that do not affect the model's output on packed tokens."""


_BLOCK = 1 << 20  # bytes hashed between two checks for a stop


def weights_digest(name: str, revision: str | None = None) -> tuple[str, str]:
    """Return two SHA-256 digests, in hex: of the safetensors files and of the configuration.

    Those of an adapter include its base model.

    Args:
        name: Directory or Hub id, which is downloaded into the Hub's cache.
        revision: Revision on the Hub.

    Raises:
        InputError: If there are no such files, or they cannot be read.
    """
    base = base_of_adapter(name)
    folders = [_folder(part, revision if part == name else None) for part in (base, name) if part]
    files = [file for folder in folders for file in _weights(folder)]
    digests = _digests(files)
    # JSON is unambiguous: with a separator, one file name could look like two.
    pairs = json.dumps([(file.name, digest) for file, digest in zip(files, digests, strict=True)])
    configs = json.dumps([_config(folder) for folder in folders], sort_keys=True)
    return hashlib.sha256(pairs.encode()).hexdigest(), hashlib.sha256(configs.encode()).hexdigest()


def _folder(name: str, revision: str | None) -> Path:
    if os.path.isdir(name):
        check_folder(name)
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=["*.safetensors", "*.json"])
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load the model `{name}`: {' '.join(str(error).split())}"
        ) from error


def _weights(folder: Path) -> list[Path]:
    """Return the files that transformers or peft loads.

    A repository may also have the same weights in other formats.
    """
    for single in ("adapter_model.safetensors", "model.safetensors"):
        if (folder / single).is_file():
            return [folder / single]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise InputError(
            f"`{folder}` has no `model.safetensors`; save the model with `save_pretrained` first"
        )
    listed = read_json(index)
    names = listed.get("weight_map") if isinstance(listed, dict) else None
    if not isinstance(names, dict) or not names:
        raise InputError(f"`{index}` has no `weight_map`, so the weight files are unknown")
    for name in names.values():
        if (
            not isinstance(name, str)
            or Path(name).name != name
            or not name.endswith(".safetensors")
        ):
            raise InputError(
                f"`{index}` lists the file {brief(name)}, which is not a safetensors file "
                "in the same directory"
            )
    return [folder / name for name in sorted(set(names.values()))]


def _config(folder: Path) -> dict[str, object]:
    name = "adapter_config.json" if (folder / "adapter_config.json").is_file() else "config.json"
    fields = read_json(folder / name)
    if not isinstance(fields, dict):
        raise InputError(f"`{folder / name}` is not a JSON object")
    # The base model is hashed separately.
    absent = NOT_THE_FUNCTION | {"base_model_name_or_path", "inference_mode"}
    return {key: value for key, value in sorted(fields.items()) if key not in absent}


def _digests(files: list[Path]) -> list[str]:
    """Return the SHA-256 of each file.

    Hashing releases the GIL and takes seconds for 7 B parameters. Ctrl-C stops it within a block.
    """
    stop, pool = threading.Event(), ThreadPoolExecutor()
    try:
        return list(pool.map(lambda file: _sha256(file, stop), files))
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _sha256(file: Path, stop: threading.Event) -> str:
    digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK))
    try:
        with file.open("rb", buffering=0) as content:
            while not stop.is_set() and (size := content.readinto(block)):
                digest.update(block[:size])
    except OSError as error:
        raise InputError(f"cannot read `{file}`: {error.strerror}") from error
    return digest.hexdigest()
