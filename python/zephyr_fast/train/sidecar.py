"""The stored reference log-probs of a preference data set: what they depend on, how they lie on disk, how they are checked.

    prefs/_ref/<key, 16 hex digits>/train-00000.arrow …   two float32 columns, in the order of the pairs
    prefs/_ref/<key, 16 hex digits>/manifest.json         last; without it the folder is an unfinished run

They are worth nothing with other weights, so the folder's name is the hash of everything they depend on.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zephyr_fast._core import InputError, IntegrityError, RecipeError
from zephyr_fast.commit import commit
from zephyr_fast.manifest import Manifest

SCHEMA = 1
"""The version of this format."""

PAIRS_PER_PART = 2048
"""What is committed at once, so what a killed process loses at most; a part also belongs to one process as a whole."""

COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")
"""TRL's own names: the sums over the answers' tokens of their log-probability."""

LogProbs = npt.NDArray[np.float32]
"""[pairs, 2]: chosen, rejected."""


@dataclass(frozen=True)
class Key:
    """Everything that the log-probs depend on. `dtype` is that of the matrix products, `max_length` where answers were cut."""

    weights: str
    config: str
    dtype: str
    shards: str
    tokenizer: str
    template: str
    max_length: int

    @classmethod
    def of(cls, weights: str, config: str, dtype: str, manifest: Manifest) -> "Key":
        """The key of a model (see `weights.py`) on a data set."""
        longest = max(split.seq_len for split in manifest.splits.values())
        tokenizer, template = manifest.encoding()
        return cls(weights, config, dtype, manifest.fingerprint, tokenizer.sha256, template.sha256, longest)

    @property
    def digest(self) -> str:
        """SHA-256 of the fields, hex."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def folder(self, prefs: str | Path) -> Path:
        """Where the log-probs of this key lie."""
        return Path(prefs) / "_ref" / self.digest[:16]


def part_name(split: str, number: int) -> str:
    """The file of pairs `number · PAIRS_PER_PART` and following of a split."""
    return f"{split}-{number:05}.arrow"


def write_part(path: Path, values: LogProbs) -> None:
    """Commits one part; its checksum is in the Arrow schema, so that a resumed run can tell it from a damaged one."""
    columns = [np.ascontiguousarray(values[:, side], dtype=np.float32) for side in range(2)]
    schema = pa.schema([(name, pa.float32()) for name in COLUMNS], metadata={"sha256": _sum_of(columns)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array(column) for column in columns], schema=schema))
    commit(path, sink.getvalue().to_pybytes())


def read_part(content: bytes, where: Path, pairs: int) -> LogProbs:
    """The values of one part; IntegrityError where they are not those that were written, or not so many."""
    try:
        with pa.ipc.open_file(pa.BufferReader(content)) as reader:
            table, wanted = reader.read_all(), (reader.schema.metadata or {}).get(b"sha256", b"").decode()
        columns = [table.column(name).to_numpy() for name in COLUMNS]
    except (pa.ArrowException, KeyError, OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"`{where}` is damaged: {error}") from error
    if len(table) != pairs or _sum_of(columns) != wanted:
        raise IntegrityError(f"`{where}` is damaged, or of another number of pairs")
    return np.stack(columns, axis=1)


def _sum_of(columns: list[npt.NDArray[np.float32]]) -> str:
    return hashlib.sha256(b"".join(column.astype("<f4").tobytes() for column in columns)).hexdigest()


def write_manifest(prefs: str | Path, key: Key, splits: dict[str, int]) -> None:
    """Lists every part of these splits (pairs by name) with its checksum, which makes a finished folder of it."""
    folder, cards = key.folder(prefs), {}
    for split, pairs in sorted(splits.items()):
        files = [folder / part_name(split, number) for number in range(-(-pairs // PAIRS_PER_PART))]
        cards[split] = {"pairs": pairs, "parts": [{"file": file.name, "sha256": _sha256(file.read_bytes())} for file in files]}
    text = json.dumps({"schema": SCHEMA, "key": asdict(key), "splits": cards}, indent=1, sort_keys=True)
    commit(folder / "manifest.json", (text + "\n").encode())


def finished_splits(prefs: str | Path, key: Key) -> dict[str, int]:
    """The splits, with their numbers of pairs, that a finished folder of this key has; none where there is no such folder."""
    manifest = _read_manifest(key.folder(prefs))
    return {name: card["pairs"] for name, card in manifest["splits"].items()} if manifest else {}


def read(prefs: str | Path, key: Key, split: str) -> LogProbs:
    """The log-probs of a split's pairs, checked.

    RecipeError where there are none of this key, saying by what those that there are differ; IntegrityError for damage.
    """
    folder = key.folder(prefs)
    manifest = _read_manifest(folder)
    if manifest is None:
        raise RecipeError(_missing(Path(prefs), key))
    if manifest["key"] != asdict(key):
        raise IntegrityError(f"`{folder}/manifest.json` is of another key than its folder's name; it was changed or is damaged")
    if split not in manifest["splits"]:
        raise RecipeError(f"`{folder}` has no log-probs of the split `{split}`; run `zephyr-fast ref-logprobs` for it")
    card = manifest["splits"][split]
    values = [_checked(folder, part, card["pairs"], number) for number, part in enumerate(card["parts"])]
    if sum(map(len, values)) != card["pairs"]:
        raise IntegrityError(f"`{folder}`: the parts of `{split}` do not add up to its pairs")
    return np.concatenate(values) if values else np.zeros((0, 2), np.float32)


def _checked(folder: Path, part: dict[str, str], pairs: int, number: int) -> LogProbs:
    path = folder / Path(part["file"]).name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IntegrityError(f"`{path}` cannot be read: {error.strerror}; run `zephyr-fast ref-logprobs` again") from error
    if _sha256(content) != part["sha256"]:
        raise IntegrityError(f"`{path}` is damaged: it is not what was written; remove it and run `zephyr-fast ref-logprobs` again")
    return read_part(content, path, min(PAIRS_PER_PART, pairs - number * PAIRS_PER_PART))


def _missing(prefs: Path, key: Key) -> str:
    others = [manifest["key"] for path in sorted((prefs / "_ref").glob("*")) if (manifest := _read_manifest(path))]
    run = "run `zephyr-fast ref-logprobs` with this model, or set `precompute_ref_log_probs: false` to keep it in memory"
    if not others:
        return f"`{prefs}` has no stored reference log-probs; {run}"
    mine = asdict(key)
    nearest = min(others, key=lambda other: sum(other[name] != mine[name] for name in mine))
    differences = [f"{name} {_short(nearest[name])} there, {_short(mine[name])} here" for name in mine if nearest[name] != mine[name]]
    return f"the stored reference log-probs of `{prefs}` are not of this run: {'; '.join(differences)}; {run}"


def _short(value: object) -> str:
    """A digest by its start; anything else whole."""
    return f"{value[:16]}…" if isinstance(value, str) and len(value) == 64 else str(value)


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / "manifest.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read `{path}`: {error.strerror}") from error
    except ValueError as error:
        raise IntegrityError(f"`{path}` is damaged: {error}") from error
    if isinstance(found, dict) and found.get("schema", SCHEMA) != SCHEMA:
        raise InputError(f"`{path}` has schema {found['schema']}, this version reads {SCHEMA}; update zephyr-fast")
    if not _is_manifest(found):
        raise IntegrityError(f"`{path}` was changed or is damaged")
    return dict(found)


def _is_manifest(found: Any) -> bool:
    try:
        named = set(found["key"]) == set(Key.__dataclass_fields__)
        cards = all(isinstance(card["pairs"], int) and card["pairs"] >= 0 for card in found["splits"].values())
        return named and cards and all(part["file"] and part["sha256"] for card in found["splits"].values() for part in card["parts"])
    except (KeyError, TypeError, AttributeError):
        return False


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
