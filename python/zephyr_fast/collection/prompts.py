"""Reads prompts: text files with one per line, JSONL, or Parquet as `prep` writes it.
In a text file, empty lines and lines that start with `#` are skipped.

A row of JSONL or Parquet needs `instruction` or `prompt`. `id` or `prompt_id`, `source`,
`correct_answers` and `incorrect_answers` are used if present. Other fields are ignored.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.collection import parquet
from zephyr_fast.collection.prompt_file import lines
from zephyr_fast.printed import brief, shown
from zephyr_fast.untrusted.bounded import is_unicode, open_regular, parse_json

LINE_BYTES_MAX = 16 << 20

_ANSWERS = ("correct_answers", "incorrect_answers")
_COLUMNS = ("instruction", "prompt", "id", "prompt_id", "source", *_ANSWERS)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt. `id` is unique within a run. It defaults to the SHA-256 of the text."""

    id: str
    text: str
    source: str = ""
    correct: tuple[str, ...] = ()
    incorrect: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts in the order of the file. `digest` covers everything that is used of them."""

    rows: tuple[Prompt, ...]
    repeated: int
    digest: str


def load(paths: Iterable[Path], limit: int | None = None) -> Prompts:
    """Read the prompts of files. Of equal prompts, the first stays. `limit` is the number to keep.

    Raises:
        InputError: A file or a row cannot be used. Names file and line or row.
    """
    found: dict[str, Prompt] = {}
    texts: dict[str, str] = {}
    digest, repeated = hashlib.sha256(), 0
    for where, row in (entry for path in paths for entry in _rows(path)):
        if limit is not None and len(found) >= limit:
            break
        prompt = _prompt(where, row)
        if prompt.text in texts:
            repeated += 1
            continue
        if prompt.id in found:
            raise InputError(f"{where}: the id {brief(prompt.id)} has another prompt before")
        found[prompt.id], texts[prompt.text] = prompt, prompt.id
        digest.update(repr(prompt).encode("utf-8", "surrogatepass"))
    if not found:
        raise InputError("the input has no prompts")
    return Prompts(tuple(found.values()), repeated, digest.hexdigest())


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.is_dir():
        files = sorted(path.glob("*.jsonl")) + sorted(path.glob("*.parquet"))
        if not files:
            raise InputError(f"`{shown(path)}` has no .jsonl or .parquet files")
        for file in files:
            yield from _rows(file)
    elif path.suffix == ".parquet":
        yield from _of_parquet(path)
    elif path.suffix == ".jsonl":
        yield from _of_jsonl(path)
    elif path.suffix == ".txt":
        for line in lines(path):
            yield f"`{shown(path)}`", {"prompt": line}
    else:
        raise InputError(f"`{shown(path)}`: prompts are read from .jsonl, .parquet and .txt files")


def _of_jsonl(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        with open_regular(path) as file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                where = f"`{shown(path)}`:{number}"
                if len(line) > LINE_BYTES_MAX:
                    raise InputError(f"{where}: the line exceeds {LINE_BYTES_MAX:,} bytes")
                if not line.strip():
                    continue
                try:
                    row = parse_json(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except ValueError as error:
                    raise InputError(f"{where} is not JSON: {shown(error)}") from None
                if not isinstance(row, dict):
                    raise InputError(f"{where} is not a JSON object")
                yield where, row
    except OSError as error:
        raise InputError(f"cannot read `{shown(path)}`: {error.strerror}") from error


def _of_parquet(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, row in enumerate(parquet.read(path, _COLUMNS), start=1):
        yield f"`{shown(path)}`, row {number}", row


def _prompt(where: str, row: Mapping[str, Any]) -> Prompt:
    text = _one_of(where, row, "instruction", "prompt")
    if text is None or not text.strip():
        raise InputError(f"{where} has no `instruction` or `prompt`")
    name = _one_of(where, row, "id", "prompt_id") or hashlib.sha256(text.encode()).hexdigest()
    correct, incorrect = (_answers(where, row, key) for key in _ANSWERS)
    return Prompt(name, text, _text(where, row, "source") or "", correct, incorrect)


def _one_of(where: str, row: Mapping[str, Any], first: str, second: str) -> str | None:
    found = [_text(where, row, key) for key in (first, second)]
    if None not in found and found[0] != found[1]:
        raise InputError(f"{where}: `{first}` and `{second}` differ")
    return found[0] if found[0] is not None else found[1]


def _text(where: str, row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    if key in ("id", "prompt_id") and type(value) is int:
        return str(value)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}: `{key}` is not a text but {brief(value)}")
    if value is not None and not is_unicode(value):
        raise InputError(f"{where}: `{key}` has a lone surrogate")
    return value


def _answers(where: str, row: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = row.get(key)
    if value is None or value == ["None"]:  # UltraFeedback's form for an empty list
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise InputError(f"{where}: `{key}` is not a list of texts but {brief(value)}")
    if not all(map(is_unicode, value)):
        raise InputError(f"{where}: `{key}` has a lone surrogate")
    return tuple(value)
