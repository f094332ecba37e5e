"""Turns what a user names (files, globs, `sample`, ids on the Hugging Face Hub) into files on
this machine.
"""

import glob
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from zephyr_fast._core import ConfigError, InputError, names
from zephyr_fast.prepare.recipe import Recipe
from zephyr_fast.printed import brief, without_secrets
from zephyr_fast.untrusted.matching import matches

PACKAGED = Path(__file__).parents[1] / "sample"
PACKAGED_ROWS = {"prep": PACKAGED / "ultrachat.jsonl", "binarize": PACKAGED / "ultrafeedback.jsonl"}
PACKAGED_TOKENIZER = PACKAGED / "tokenizer"

ENDINGS = tuple(names("endings"))
TOKENIZER_FILES = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
]


def find_inputs(command: str, recipe: Recipe, given: Sequence[str | Path]) -> list[Path]:
    """The files to read: those given, or those that the recipe fetches from the Hub."""
    if [str(name) for name in given] == ["sample"]:
        return [PACKAGED_ROWS[command]]
    if given:
        return list(dict.fromkeys(path for name in given for path in _expand(str(name))))
    hub, files = recipe.get("source", "hub"), recipe.get("source", "files")
    if hub is None:
        raise InputError(
            f"{recipe.name} names no source; say which rows to read: `--input FILE…`, or `--input "
            "sample`"
        )
    ways_out = (
        "name files that you have: `--input 'raw/*.jsonl.zst'`; or try the packaged rows: "
        "`--input sample`"
    )
    folder = _fetch(hub, "dataset", [files or "*"], recipe.get("source", "revision"), ways_out)
    if files and (files.startswith("/") or ".." in files.split("/")):
        raise ConfigError(
            f"{recipe.name}: `source.files` is a pattern of files within the data set on the Hub, "
            f"not {brief(files)}"
        )
    found = [Path(path) for path in matches(files or "**/*", str(folder)) if _can_be_read(path)]
    if not found:
        raise InputError(
            f"`{hub}` has no file like `{files or '*'}`; set `source.files` in the recipe, or "
            f"{ways_out}"
        )
    return found


def find_tokenizer(recipe: Recipe, given: str | Path | None, inputs: Sequence[Path]) -> Path | None:
    """The folder or file of the tokenizer: the one given, the packaged one for packaged rows, or
    the recipe's; None for text alone.
    """
    if not recipe.wants_tokens():
        if given is not None:
            raise ConfigError(
                "`shards.tokens` is false: text alone is written, without a tokenizer; leave "
                "`--tokenizer` out"
            )
        return None
    if str(given) == "sample" or (
        given is None and all(path.parent == PACKAGED for path in inputs)
    ):
        return PACKAGED_TOKENIZER
    name = given if given is not None else recipe.get("tokenize", "tokenizer")
    if name is None:
        raise InputError(
            f"{recipe.name} names no tokenizer; say which: `--tokenizer FOLDER_OR_HUB_ID`, or "
            "`--tokenizer sample`"
        )
    if os.path.lexists(name):
        return _tokenizer_at(Path(name))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name), re.ASCII):
        raise InputError(
            f"no tokenizer at `{without_secrets(name)}`; name a folder with a tokenizer.json, such "
            "a file, or an id on the Hub"
        )
    ways_out = (
        "name one that you have: `--tokenizer FOLDER`, with its tokenizer.json; or try the "
        "packaged one: `--tokenizer sample`"
    )
    folder = _fetch(str(name), "model", TOKENIZER_FILES, None, ways_out)
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"`{name}` has no tokenizer.json; {ways_out}")
    return folder


def _tokenizer_at(path: Path) -> Path:
    if path.suffix == ".model":
        raise InputError(
            f"`{path}` is a sentencepiece model; name the folder with its tokenizer.json "
            "(`AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER)` of transformers writes "
            "one)"
        )
    if not os.path.isdir(path):
        _check_regular(path)
        return path
    for name in TOKENIZER_FILES:
        if os.path.lexists(path / name):
            _check_regular(path / name)
    return path


def _expand(name: str) -> list[Path]:
    """A file as itself, a folder as the files in it that can be read, a pattern as what it
    matches; regular files, links followed.
    """
    try:
        if os.path.isdir(name):
            found = [Path(entry) for entry in _listed(name)]
        elif os.path.lexists(name):
            _check_regular(Path(name))
            found = [Path(name)]
        else:
            found = [Path(match) for match in matches(name)]
    except OSError as error:
        raise InputError(
            f"cannot read the input `{without_secrets(name)}`: {error.strerror}"
        ) from error
    except ValueError as error:  # a NUL byte, or a pattern that is none
        raise InputError(f"no file can have the name {brief(name)}") from error
    if not found:
        what = (
            "in the folder" if os.path.isdir(name) else "matches" if glob.has_magic(name) else "at"
        )
        raise InputError(
            f"no file {what} `{without_secrets(name)}`; read are: {', '.join(ENDINGS)}"
        )
    return found


def _listed(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        found = sorted(
            os.path.join(folder, entry.name) for entry in entries if _can_be_read(entry.name)
        )
    for path in found:
        if not os.path.isdir(path):
            _check_regular(Path(path))
    return found


def _can_be_read(name: str) -> bool:
    """Whether a file's name ends as the engine wants it, which takes capitals for small letters."""
    return name.lower().endswith(ENDINGS)


def _check_regular(path: Path) -> None:
    """InputError for what is no file with bytes of its own: a FIFO would wait for ever, a device
    has no end, /dev/null nothing.
    """
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
    if not stat.S_ISREG(kind):
        raise InputError(
            f"cannot read `{path}`: it is not a regular file; copy what it gives into one first"
        )


def _fetch(name: str, kind: str, files: list[str], revision: str | None, ways_out: str) -> Path:
    """Files of a Hub repository, from the cache of huggingface_hub where they are there already."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    try:
        return Path(
            snapshot_download(name, repo_type=kind, allow_patterns=files, revision=revision)
        )
    except HFValidationError as error:
        raise InputError(
            f"`{without_secrets(name)}` cannot be the id of a {kind} on the Hub; {ways_out}"
        ) from error
    except GatedRepoError as error:
        raise InputError(
            f"`{name}` on the Hub asks you to accept its terms and to sign in (`hf auth login`); "
            f"or {ways_out}"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(f"the Hub has no {kind} `{name}`; check the id; or {ways_out}") from error
    except (
        HfHubHTTPError,
        OSError,
    ) as error:  # no network and HF_HUB_OFFLINE are kinds of OSError there
        why = "the Hub cannot be reached (no network, or HF_HUB_OFFLINE is set)"
        raise InputError(
            f"cannot fetch `{name}`: {why}, and it is not in the cache; {ways_out}"
        ) from error
