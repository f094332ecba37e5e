"""Resolves inputs and tokenizers (files, globs, `sample`, stdin, URLs, Hub ids) to local files."""

import glob
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from zephyr_fast._core import ConfigError, InputError, names
from zephyr_fast.dataset.address import Address, refuse_cut_url
from zephyr_fast.dataset.product import Product
from zephyr_fast.prepare.directories import (
    files_of,
    is_supported,
    refuse_several_splits,
    without_written,
)
from zephyr_fast.prepare.recipe import Recipe
from zephyr_fast.prepare.spool import Spool
from zephyr_fast.printed import brief, without_secrets
from zephyr_fast.untrusted.matching import matches

BUNDLED = Path(__file__).parents[1] / "sample"
BUNDLED_TOKENIZER = BUNDLED / "tokenizer"

_ENDINGS = [ending for ending in names("endings") if ending.count(".") == 1]
FORMATS = f"{', '.join(_ENDINGS)}; text files may also be compressed (as in `.jsonl.gz`)"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_HUB_URL = re.compile(
    r"hf://datasets/([\w.-]+/[\w.-]+?)(?:@([\w.-]+))?(?:/(.*))?", re.ASCII | re.IGNORECASE
)
_OPEN_FILE = re.compile(r"-|/dev/stdin|/dev/fd/\d+|/proc/self/fd/\d+")
TOKENIZER_FILES = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
]


class NotDownloadedError(InputError):
    """Raised if files are not on this disk and must not be downloaded. The message names them."""


def find_inputs(
    command: str,
    recipe: Recipe,
    given: Sequence[str | Path],
    *,
    spool: Spool | None = None,
) -> list[Path]:
    """Return the input files: those given, or the recipe's dataset, downloaded from the Hub. What
    comes through stdin or from a URL is stored in `spool`.

    Raises NotDownloadedError instead of reading or downloading anything without a spool.
    """
    if [str(name) for name in given] == ["sample"]:
        return [BUNDLED / f"{Product.of_command(command).facts.recipe}.jsonl"]
    if given:
        return list(dict.fromkeys(path for name in given for path in _found(str(name), spool)))
    download = spool is not None
    hub, files = recipe.get("source", "hub"), recipe.get("source", "files")
    if hub is None:
        raise InputError(
            f"recipe {recipe.name} names no source; pass the rows with `--input FILE`, or try the "
            "bundled rows with `--input sample`"
        )
    hint = (
        "pass local files with `--input 'raw/*.jsonl.zst'`, or try the bundled rows with `--input "
        "sample`"
    )
    revision = recipe.get("source", "revision")
    directory = _fetch(hub, "dataset", [files or "*"], revision, hint, download)
    if files and (files.startswith("/") or ".." in files.split("/")):
        raise ConfigError(
            f"{recipe.name}: `source.files` must be a pattern of files in the dataset on the Hub, "
            f"not {brief(files)}"
        )
    found = [Path(path) for path in matches(files or "**/*", str(directory)) if is_supported(path)]
    if not found and not download:
        raise NotDownloadedError(f"{hub}, to be downloaded from the Hub")
    if not found:
        raise InputError(
            f"`{hub}` has no file matching `{files or '*'}`; set `source.files` in the recipe, or "
            f"{hint}"
        )
    return found


def find_tokenizer(
    recipe: Recipe, given: str | Path | None, inputs: Sequence[Path], *, download: bool = True
) -> Path | None:
    """Return the directory or file of the tokenizer: the given one, the bundled one for the
    bundled rows, or the recipe's. Returns None if only text is written.

    Raises NotDownloadedError instead of downloading if `download` is false.
    """
    if not recipe.wants_tokens():
        if given is not None:
            raise ConfigError(
                "`--tokenizer` cannot be used with `shards.tokens = false`, which writes only text"
            )
        return None
    if str(given) == "sample" or (
        given is None and inputs and all(path.parent == BUNDLED for path in inputs)
    ):
        return BUNDLED_TOKENIZER
    name = given if given is not None else recipe.get("tokenize", "tokenizer")
    if name is None:
        raise InputError(
            f"recipe {recipe.name} names no tokenizer; pass one with `--tokenizer DIR_OR_HUB_ID`, "
            "or use `--tokenizer sample`"
        )
    if os.path.lexists(name):
        return _tokenizer_at(Path(name))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name), re.ASCII):
        raise InputError(
            f"no tokenizer at `{without_secrets(name)}`; expected a directory with a "
            "tokenizer.json, a tokenizer.json file, or a Hub id"
        )
    hint = (
        "pass a local one with `--tokenizer DIR` (with a tokenizer.json), or use the bundled one "
        "with `--tokenizer sample`"
    )
    directory = _fetch(str(name), "model", TOKENIZER_FILES, None, hint, download)
    if not (directory / "tokenizer.json").is_file():
        if not download:
            raise NotDownloadedError(f"{name}, to be downloaded from the Hub")
        raise InputError(f"`{name}` has no tokenizer.json; {hint}")
    return directory


def _tokenizer_at(path: Path) -> Path:
    if path.suffix == ".model":
        raise InputError(
            f"`{path}` is a SentencePiece model; pass a directory with a tokenizer.json (create "
            "one with `AutoTokenizer.from_pretrained(…).save_pretrained(DIR)`)"
        )
    if not os.path.isdir(path):
        _check_regular(path)
        return path
    for name in TOKENIZER_FILES:
        if os.path.lexists(path / name):
            _check_regular(path / name)
    return path


def _found(name: str, spool: Spool | None) -> list[Path]:
    """Return the files of an input: stored from stdin or a URL, from the Hub, or local."""
    refuse_cut_url(name)
    if _OPEN_FILE.fullmatch(name):
        if spool is None:
            raise NotDownloadedError(f"{name}, to be read until its end")
        return [spool.stdin(name)]
    if on_hub := _HUB_URL.fullmatch(name):
        return _on_hub(on_hub[1], on_hub[2], on_hub[3], spool)
    if "://" in name:
        address = Address.parse(name)
        if address.scheme == "file":
            return _expand(address.path)
        if address.scheme == "hf":
            raise InputError(
                f"`{address}` is not a dataset on the Hub; use `hf://datasets/OWNER/NAME/FILE`"
            )
        if spool is None:
            raise NotDownloadedError(f"{address}, to be downloaded")
        return [spool.url(address)]
    if _HUB_ID.fullmatch(name) and not is_supported(name) and not os.path.lexists(name):
        return _on_hub(name, None, None, spool)
    return _expand(name)


def _on_hub(
    dataset: str, revision: str | None, pattern: str | None, spool: Spool | None
) -> list[Path]:
    """Return the files of a dataset on the Hub, downloaded into the cache of huggingface_hub."""
    if pattern and ".." in pattern.split("/"):
        raise InputError(f"{brief(pattern)} is not a file or pattern of `{dataset}`")
    hint = f"check the name (there is no such path here), or pass files in {FORMATS}"
    allowed = [pattern] if pattern else ["*"]
    directory = _fetch(dataset, "dataset", allowed, revision, hint, spool is not None)
    if pattern:
        found = [path for path in matches(pattern, str(directory)) if is_supported(path)]
    else:
        found = files_of(str(directory))
        refuse_several_splits(dataset, [os.path.relpath(path, directory) for path in found])
    if not found and spool is None:
        raise NotDownloadedError(f"{dataset}, to be downloaded from the Hub")
    if not found:
        raise InputError(
            f"`{dataset}` has no file of rows matching `{pattern or '*'}`; supported are {FORMATS}"
        )
    return [Path(path) for path in found]


def _expand(name: str) -> list[Path]:
    """Return the files of a local input: the file itself, the supported files of a directory, or
    the matches of a pattern. All are regular files, or links to them.
    """
    try:
        if os.path.isdir(name):
            found = [Path(path) for path in files_of(name)]
            for path in found:
                _check_regular(path)
        elif os.path.lexists(name):
            _check_regular(Path(name))
            found = [Path(name)]
        else:
            found = [Path(match) for match in without_written(name, matches(name))]
    except OSError as error:
        raise InputError(
            f"cannot read the input `{without_secrets(name)}`: {error.strerror}"
        ) from error
    except ValueError as error:  # a NUL byte, or an invalid pattern
        raise InputError(f"{brief(name)} is not a valid path or pattern") from error
    if not found:
        problem = (
            "no supported files in"
            if os.path.isdir(name)
            else "no files match"
            if glob.has_magic(name)
            else "no such file:"
        )
        raise InputError(f"{problem} `{without_secrets(name)}`; supported formats: {FORMATS}")
    return found


def _check_regular(path: Path) -> None:
    """InputError for anything but a regular file: a FIFO could block forever, a device may have
    no end, and /dev/null is empty.
    """
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
    if not stat.S_ISREG(kind):
        raise InputError(
            f"cannot read `{path}`: it is not a regular file; copy its content into one first, or "
            f"pass rows through stdin (`--input - < {path}`)"
        )


def _fetch(
    name: str, kind: str, files: list[str], revision: str | None, hint: str, download: bool
) -> Path:
    """Return the directory with files of a Hub repository, which huggingface_hub caches."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                name,
                repo_type=kind,
                allow_patterns=files,
                revision=revision,
                local_files_only=not download,
            )
        )
    except HFValidationError as error:
        raise InputError(
            f"`{without_secrets(name)}` is not a valid id of a {kind} on the Hub; {hint}"
        ) from error
    except GatedRepoError as error:
        raise InputError(
            f"`{name}` is gated; accept its terms on the Hub and log in with `hf auth login`, or "
            f"{hint}"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{kind} `{name}` does not exist on the Hub; check the id, or {hint}"
        ) from error
    except (
        HfHubHTTPError,
        OSError,
    ) as error:  # a missing network and HF_HUB_OFFLINE are subclasses of OSError there
        if not download:
            raise NotDownloadedError(f"{name}, to be downloaded from the Hub") from error
        reason = "the Hub is unreachable (no network, or HF_HUB_OFFLINE is set)"
        raise InputError(
            f"cannot download `{name}`: {reason} and it is not in the local cache; {hint}"
        ) from error
