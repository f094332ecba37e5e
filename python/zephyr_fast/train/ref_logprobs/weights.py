"""Says which weights a model name stands for: a digest of the files that would be loaded,
without loading them.
"""

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
"""Keys of a `config.json` that do not change what the model computes on packed tokens; all
others count.
"""


_BLOCK = 1 << 20  # bytes that are hashed before anyone can stop it


def weights_digest(name: str, revision: str | None = None) -> tuple[str, str]:
    """SHA-256 over a model's safetensors files, and over what its configuration says, both hex;
    an adapter's are with its base's.

    `name` is a folder or a Hub id, which is fetched into the Hub's cache. InputError where there
    are no such files.
    """
    base = base_of_adapter(name)
    folders = [_folder(part, revision if part == name else None) for part in (base, name) if part]
    files = [file for folder in folders for file in _weights(folder)]
    sums = _sums(files)
    # As JSON: joined by a separator, one file's name could pass for two files.
    pairs = json.dumps([(file.name, digest) for file, digest in zip(files, sums, strict=True)])
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
    """The files that transformers or peft loads; a repository may hold the same weights in other
    forms beside them.
    """
    for whole in ("adapter_model.safetensors", "model.safetensors"):
        if (folder / whole).is_file():
            return [folder / whole]
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
    # The base is hashed itself.
    absent = NOT_THE_FUNCTION | {"base_model_name_or_path", "inference_mode"}
    return {key: value for key, value in sorted(fields.items()) if key not in absent}


def _sums(files: list[Path]) -> list[str]:
    """SHA-256 of each file. Hashing lets go of the interpreter's lock: 7 B parameters take
    seconds. Ctrl-C ends it within a block.
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
