"""Rows of JSON and JSONL files that others wrote, read with limits on size, depth and number."""

import gzip
import hashlib
import json
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.printed import brief, shown
from zephyr_fast.untrusted.bounded import is_unicode, parse_json, read_bytes

FILE_BYTES_MAX = 256 << 20
"""Maximum bytes of a file of questions, answers or annotations, after decompression."""


def read_json(path: Path, bytes_max: int = FILE_BYTES_MAX) -> Any:
    """Parse a JSON file, which may be compressed with gzip. Raises InputError."""
    try:
        return parse_json(_content(path, bytes_max).removeprefix(BOM_UTF8).decode())
    except ValueError as error:
        raise InputError(f"cannot read `{shown(path)}`: invalid JSON: {shown(error)}") from None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON list or of a JSONL file, which may be compressed with gzip.

    Raises InputError, which names the line or index of a row that is not an object.
    """
    text = _content(path, FILE_BYTES_MAX).removeprefix(BOM_UTF8).strip()
    if text.startswith(b"["):
        return _objects(path, "item", read_json(path))
    parsed = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            parsed.append(parse_json(line.decode()))
        except ValueError as error:
            raise InputError(f"`{shown(path)}`:{number}: invalid JSON: {shown(error)}") from None
    return _objects(path, "row", parsed)


def text_field(where: str, row: Mapping[str, Any], name: str) -> str:
    """Return a field that must be text. `where` names the row in the InputError."""
    value = row.get(name)
    if isinstance(value, str) and not is_unicode(value):
        raise InputError(f"{where}: `{name}` has a lone surrogate")
    if not isinstance(value, str):
        problem = f"is {brief(value)}, not text" if name in row else "is missing"
        raise InputError(f"{where}: `{name}` {problem}")
    return value


def digest(*values: object) -> str:
    """Return the SHA-256 of values as canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def jsonl(rows: Iterable[Mapping[str, Any]]) -> Iterable[bytes]:
    """Yield rows as lines of JSON. Characters outside of ASCII are escaped, so that readers that
    split lines at U+2028 see the same lines.
    """
    for row in rows:
        yield json.dumps(row).encode() + b"\n"


def _objects(path: Path, what: str, rows: object) -> list[dict[str, Any]]:
    assert isinstance(rows, list)
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"`{shown(path)}`: {what} {number} is {brief(row)}, not an object")
    if not rows:
        raise InputError(f"`{shown(path)}` has no rows")
    return rows


def _content(path: Path, bytes_max: int) -> bytes:
    try:
        content = read_bytes(path, bytes_max)
        if content.startswith(b"\x1f\x8b"):
            with gzip.open(BytesIO(content)) as file:
                content = file.read(bytes_max + 1)
        if len(content) > bytes_max:
            raise OSError(0, f"it has more than {bytes_max:,} bytes")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read `{shown(path)}`: {shown(reason)}") from error
    return content
