"""Turns what a user names (files, globs, `sample`, ids on the Hugging Face Hub) into files on this machine."""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from zephyr_fast._core import InputError, RecipeError
from zephyr_fast.recipe import Recipe

SAMPLE = Path(__file__).parent / "sample"
SAMPLE_ROWS = {"prep": SAMPLE / "ultrachat.jsonl", "binarize": SAMPLE / "ultrafeedback.jsonl"}
SAMPLE_TOKENIZER = SAMPLE / "tokenizer"

ENDINGS = (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst", ".parquet", ".arrow")
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]


def find_inputs(command: str, recipe: Recipe, given: Sequence[str | Path]) -> list[Path]:
    """The files to read: those given, or those that the recipe fetches from the Hub."""
    if [str(name) for name in given] == ["sample"]:
        return [SAMPLE_ROWS[command]]
    if given:
        return list(dict.fromkeys(path for name in given for path in _expand(str(name))))
    hub, files = recipe.get("source", "hub"), recipe.get("source", "files")
    if hub is None:
        raise InputError(f"{recipe.name} names no source; say which rows to read: `--input FILE…`, or `--input sample`")
    ways_out = "name files that you have: `--input 'raw/*.jsonl.zst'`; or try the packaged rows: `--input sample`"
    folder = _fetch(hub, "dataset", [files or "*"], recipe.get("source", "revision"), ways_out)
    found = sorted(path for path in folder.glob(files or "**/*") if path.name.endswith(ENDINGS))
    if not found:
        raise InputError(f"`{hub}` has no file like `{files or '*'}`; set `source.files` in the recipe, or {ways_out}")
    return found


def find_tokenizer(recipe: Recipe, given: str | Path | None, inputs: Sequence[Path]) -> Path | None:
    """The folder or file of the tokenizer: the one given, the packaged one for packaged rows, or the recipe's; None for text alone."""
    if not recipe.wants_tokens():
        if given is not None:
            raise RecipeError("`shards.tokens` is false: text alone is written, without a tokenizer; leave `--tokenizer` out")
        return None
    if str(given) == "sample" or (given is None and all(path.parent == SAMPLE for path in inputs)):
        return SAMPLE_TOKENIZER
    name = given if given is not None else recipe.get("tokenize", "tokenizer")
    if name is None:
        raise InputError(f"{recipe.name} names no tokenizer; say which: `--tokenizer FOLDER_OR_HUB_ID`, or `--tokenizer sample`")
    if Path(name).exists():
        return _file(Path(name))
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)):
        raise InputError(f"no tokenizer at `{name}`; name a folder with a tokenizer.json, such a file, or an id on the Hub")
    ways_out = "name one that you have: `--tokenizer FOLDER`, with its tokenizer.json; or try the packaged one: `--tokenizer sample`"
    folder = _fetch(str(name), "model", TOKENIZER_FILES, None, ways_out)
    if not (folder / "tokenizer.json").is_file():
        raise InputError(f"`{name}` has no tokenizer.json; {ways_out}")
    return folder


def _file(path: Path) -> Path:
    if path.suffix == ".model":
        raise InputError(
            f"`{path}` is a sentencepiece model; name the folder with its tokenizer.json "
            "(`AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER)` of transformers writes one)"
        )
    return path


def _expand(name: str) -> list[Path]:
    """A file as itself, a folder as the files in it that can be read, a pattern as what it matches."""
    path = Path(name)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.name.endswith(ENDINGS))
    elif path.exists():
        found = [path]
    else:
        found = sorted(Path(match) for match in glob.glob(name, recursive=True) if Path(match).is_file())
    if not found:
        what = "in the folder" if path.is_dir() else "matches" if glob.has_magic(name) else "at"
        raise InputError(f"no file {what} `{name}`; read are: {', '.join(ENDINGS)}")
    return found


def _fetch(name: str, kind: str, files: list[str], revision: str | None, ways_out: str) -> Path:
    """Files of a Hub repository, from the cache of huggingface_hub where they are there already."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, repo_type=kind, allow_patterns=files, revision=revision))
    except GatedRepoError as error:
        raise InputError(f"`{name}` on the Hub asks you to accept its terms and to sign in (`hf auth login`); or {ways_out}") from error
    except RepositoryNotFoundError as error:
        raise InputError(f"the Hub has no {kind} `{name}`; check the id; or {ways_out}") from error
    except (HfHubHTTPError, OSError) as error:  # no network and HF_HUB_OFFLINE are kinds of OSError there
        why = "the Hub cannot be reached (no network, or HF_HUB_OFFLINE is set)"
        raise InputError(f"cannot fetch `{name}`: {why}, and it is not in the cache; {ways_out}") from error
