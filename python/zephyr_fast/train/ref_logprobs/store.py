"""On-disk format of stored reference log-probs: key, files and checks.

    prefs/_ref/<key, 16 hex digits>/
        train-00000.arrow …   two float32 columns, in the order of the pairs
        manifest.json         written last; a directory without it is an unfinished run

Log-probs are useless with other weights, so the name of the directory is a hash of everything they
depend on.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zephyr_fast._core import ConfigError, InputError, IntegrityError
from zephyr_fast.dataset.folder import Folder
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.dataset.names import SPLITS
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import parse_json
from zephyr_fast.untrusted.message import Layout, metadata, record_batch

SCHEMA = 1
"""Version of this format."""

PAIRS_PER_PART = 2048
"""Pairs per part. A part is computed by one process; a killed process loses at most one."""

COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")
"""TRL's column names: log-probs summed over the tokens of a completion."""

PART_BYTES_MAX = 1 << 18
"""Maximum size of a part; 2,048 pairs take some 18 KB."""

MANIFEST_BYTES_MAX = 16 << 20
"""Maximum size of the manifest; at some 120 bytes per part, enough for 250 million pairs."""

_LAYOUTS = [Layout(name, np.dtype("<f4"), is_list=False) for name in COLUMNS]
_MAGIC = b"ARROW1\0\0"
_OTHERS_MAX = 100  # other keys to compare with in an error

LogProbs = npt.NDArray[np.float32]
"""[pairs, 2] float32: chosen, rejected."""


@dataclass(frozen=True)
class Key:
    """Everything that the log-probs depend on.

    `dtype` is that of the matrix products. `max_length` is the length at which completions were
    truncated.
    """

    weights: str
    config: str
    dtype: str
    shards: str
    tokenizer: str
    template: str
    max_length: int

    @classmethod
    def of(cls, weights: str, config: str, dtype: str, manifest: Manifest) -> "Key":
        """Build the key of a dataset and a model (see `weights.py`)."""
        longest = max(split.seq_len for split in manifest.splits.values())
        tokenizer, template = manifest.require_tokens()
        return cls(
            weights, config, dtype, manifest.fingerprint, tokenizer.sha256, template.sha256, longest
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the fields, in hex."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def folder(self, prefs: str | Path) -> Path:
        """Return the directory of the log-probs with this key."""
        return Path(prefs) / "_ref" / self.digest[:16]


def part_name(split: str, number: int) -> str:
    """Return the file name of the part that starts at pair `number · PAIRS_PER_PART` of a split."""
    return f"{split}-{number:05}.arrow"


@contextmanager
def made(folder: Path) -> Iterator[Folder]:
    """Open the directory of a key, and create it if missing.

    Links inside the dataset are not followed, because they can point anywhere.
    """
    with ExitStack() as stack:
        prefs = stack.enter_context(_opened(folder.parent.parent))
        ref = stack.enter_context(prefs.made_child(folder.parent.name))
        yield stack.enter_context(ref.made_child(folder.name))


def read_file(path: Path, bytes_max: int) -> bytes:
    """Read a file in the directory of a key without following links inside the dataset.

    Raises OSError.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(Folder.open(path.parents[2]))
        for name in (path.parents[1].name, path.parent.name):
            folder = stack.enter_context(folder.child(name))
        return folder.read(path.name, bytes_max)


def _opened(prefs: Path) -> Folder:
    try:
        return Folder.open(prefs)
    except OSError as error:
        raise InputError(f"cannot open `{prefs}`: {error.strerror}") from error


def write_part(path: Path, values: LogProbs) -> None:
    """Commit one part."""
    with made(path.parent) as folder:
        folder.write(path.name, [part_bytes(values)])


def part_bytes(values: LogProbs) -> bytes:
    """Return the file content of a part.

    A checksum in the Arrow schema lets a resumed run detect damage.
    """
    columns = [np.ascontiguousarray(values[:, side], dtype=np.float32) for side in range(2)]
    schema = pa.schema(
        [(name, pa.float32()) for name in COLUMNS], metadata={"sha256": _digest_of(columns)}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array(column) for column in columns], schema=schema))
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_part(content: bytes, where: Path, pairs: int) -> LogProbs:
    """Parse one part; raise IntegrityError if it is damaged or has the wrong number of pairs.

    As for shards, the columns are fixed. Of the schema and footer, only the checksum is used.
    """
    try:
        if not content.startswith(_MAGIC):
            raise ValueError("not an Arrow file")
        header, size = metadata(memoryview(content)[len(_MAGIC) :])
        batch = record_batch(memoryview(content)[len(_MAGIC) + size :], _LAYOUTS, pairs)
    except ValueError as error:
        raise IntegrityError(
            f"`{where}` is damaged or has the wrong number of pairs: {error}"
        ) from None
    columns = [np.array(batch[name], np.float32) for name in COLUMNS]
    if _digest_of(columns).encode() != header.get(b"sha256"):
        raise IntegrityError(f"`{where}` is damaged: its checksum does not match")
    return np.stack(columns, axis=1)


def _digest_of(columns: list[npt.NDArray[np.float32]]) -> str:
    return hashlib.sha256(
        b"".join(column.astype("<f4").tobytes() for column in columns)
    ).hexdigest()


def write_manifest(prefs: str | Path, key: Key, splits: dict[str, int]) -> None:
    """Write the list of all parts and checksums of these splits, which completes the directory.

    `splits` maps names to numbers of pairs.
    """
    folder, cards = key.folder(prefs), {}
    for split, pairs in sorted(splits.items()):
        files = [folder / part_name(split, number) for number in range(-(-pairs // PAIRS_PER_PART))]
        cards[split] = {
            "pairs": pairs,
            "parts": [
                {"file": file.name, "sha256": _sha256(read_file(file, PART_BYTES_MAX))}
                for file in files
            ],
        }
    text = json.dumps(
        {"schema": SCHEMA, "key": asdict(key), "splits": cards}, indent=1, sort_keys=True
    )
    with made(folder) as opened:
        opened.write("manifest.json", [(text + "\n").encode()])


def finished_splits(prefs: str | Path, key: Key) -> dict[str, int]:
    """Return the number of pairs of each finished split of this key; empty if there is none."""
    manifest = _read_manifest(key.folder(prefs))
    return {name: card["pairs"] for name, card in manifest["splits"].items()} if manifest else {}


def read(prefs: str | Path, key: Key, split: str) -> LogProbs:
    """Read and verify the log-probs of a split's pairs, [pairs, 2] float32.

    Raises:
        ConfigError: If there are none for this key; the message names the differences to the stored
            ones.
        IntegrityError: If they are damaged.
    """
    folder = key.folder(prefs)
    manifest = _read_manifest(folder)
    if manifest is None:
        raise ConfigError(_missing(Path(prefs), key))
    if manifest["key"] != asdict(key):
        raise IntegrityError(
            f"`{folder}/manifest.json` does not match its directory name; it is damaged "
            "or was edited"
        )
    if split not in manifest["splits"]:
        raise ConfigError(
            f"`{folder}` has no log-probs for split `{split}`; run `zephyr-fast "
            f"ref-logprobs --split {split}`"
        )
    card = manifest["splits"][split]
    values = [
        _checked(folder, part, card["pairs"], number) for number, part in enumerate(card["parts"])
    ]
    if sum(map(len, values)) != card["pairs"]:
        raise IntegrityError(f"`{folder}`: the parts of split `{split}` do not add up to its pairs")
    return np.concatenate(values) if values else np.zeros((0, 2), np.float32)


def _checked(folder: Path, part: dict[str, str], pairs: int, number: int) -> LogProbs:
    path = folder / part["file"]
    try:
        content = read_file(path, PART_BYTES_MAX)
    except OSError as error:
        raise IntegrityError(
            f"cannot read `{path}`: {error.strerror}; run `zephyr-fast ref-logprobs` again"
        ) from error
    if _sha256(content) != part["sha256"]:
        raise IntegrityError(
            f"`{path}` is damaged: its checksum does not match; delete it and run "
            "`zephyr-fast ref-logprobs` again"
        )
    return read_part(content, path, min(PAIRS_PER_PART, pairs - number * PAIRS_PER_PART))


def _missing(prefs: Path, key: Key) -> str:
    found = islice(
        (path for path in (prefs / "_ref").glob("*") if re.fullmatch("[0-9a-f]{16}", path.name)),
        _OTHERS_MAX,
    )
    others = [manifest["key"] for path in sorted(found) if (manifest := _read_manifest(path))]
    run = "run `zephyr-fast ref-logprobs` with this model, or set `precompute_ref_log_probs: false`"
    if not others:
        return f"`{prefs}` has no stored reference log-probs; {run}"
    expected = asdict(key)
    nearest = min(others, key=lambda other: sum(other[name] != expected[name] for name in expected))
    differences = [
        (f"{name} is {_short(nearest[name])} there and {_short(expected[name])} in this run")
        for name in expected
        if nearest[name] != expected[name]
    ]
    return (
        f"the stored reference log-probs in `{prefs}` do not match this run: "
        f"{'; '.join(differences)}; {run}"
    )


def _short(value: object) -> str:
    """Return the start of a digest, or any other value in full."""
    return (
        f"{shown(value[:16], 200)}…"
        if isinstance(value, str) and len(value) == 64
        else shown(value, 80)
    )


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / "manifest.json"
    try:
        found = parse_json(read_file(path, MANIFEST_BYTES_MAX))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
    except ValueError as error:
        raise IntegrityError(f"`{path}` is damaged: {shown(error, 200)}") from error
    schema = found.get("schema", SCHEMA) if isinstance(found, dict) else SCHEMA
    if schema != SCHEMA:
        raise other_schema(path, schema)
    if not _is_manifest(found):
        raise IntegrityError(f"`{path}` is damaged or was edited")
    return dict(found)


def other_schema(path: Path, schema: object) -> InputError:
    """Build the error for log-probs in a schema that this version cannot read."""
    way_out = "delete the directory and run `zephyr-fast ref-logprobs` again"
    if isinstance(schema, int) and schema > SCHEMA:
        way_out = f"update zephyr-fast, or {way_out}"
    return InputError(
        f"`{path}` has schema {shown(schema, 40)}, but this zephyr-fast reads schema {SCHEMA}; "
        f"{way_out}"
    )


def _is_manifest(found: Any) -> bool:
    try:
        has_key = set(found["key"]) == set(Key.__dataclass_fields__)
        return has_key and all(
            name in SPLITS and _is_entry(name, card) for name, card in found["splits"].items()
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _is_entry(split: str, card: Any) -> bool:
    """Return whether an entry lists the expected parts of its pairs."""
    pairs, parts = card["pairs"], card["parts"]
    if type(pairs) is not int or pairs < 0 or type(parts) is not list:
        return False
    if len(parts) != -(-pairs // PAIRS_PER_PART):
        return False
    names = [part["file"] for part in parts]
    return names == [part_name(split, number) for number in range(len(parts))] and all(
        type(part["sha256"]) is str for part in parts
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
