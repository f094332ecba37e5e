"""Reads the manifest of an out folder: what it holds, what it was made from, and where every row
went.
"""

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zephyr_fast._core import InputError, IntegrityError
from zephyr_fast.dataset.address import refuse_cut_url
from zephyr_fast.dataset.names import SPLITS, is_other, is_shard, is_text, repeated
from zephyr_fast.dataset.product import Product
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import parse_json, read_bytes

SCHEMA = 1
"""The version of the format that this code reads."""

BYTES_MAX = 64 << 20
"""Size of a manifest. It takes some 130 bytes for a batch of 2 MiB, so this describes 1 TB of
shards.
"""

_NUMBER_MAX = 2**63 - 1

_SEAL = ',\n  "sha256": "'

_Place = tuple["_Place | None", str | int]
"""Where in the manifest a value is: what it is in, and its name or number there."""


@dataclass(frozen=True)
class BatchCard:
    """One record batch: where its message lies in the shard (bytes), and XXH3-64 of these bytes
    as 16 hex digits.
    """

    offset: int
    bytes: int
    rows: int
    xxh3: str


@dataclass(frozen=True)
class ShardCard:
    """One shard, a file at the top of the folder."""

    file: str
    rows: int
    tokens: int
    bytes: int
    sha256: str
    batches: tuple[BatchCard, ...]


@dataclass(frozen=True)
class TextCard:
    """One Parquet file of cleaned text."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """One split: `rows` are dialogues, `samples` packed windows (sft) or pairs (preference);
    dialogues or pairs in a set of text alone.
    """

    rows: int
    samples: int
    tokens: int
    trained_tokens: int
    tokens_lost: int
    trained_tokens_lost: int
    rows_cut: int
    seq_len: int
    shards: tuple[ShardCard, ...]
    text: tuple[TextCard, ...]
    fill: float | None = None


@dataclass(frozen=True)
class RecipeCopy:
    """The recipe as it ran, every key printed as TOML."""

    name: str
    sha256: str
    text: str


@dataclass(frozen=True)
class TokenizerCard:
    """The tokenizer that made the ids."""

    sha256: str
    vocab_size: int
    bos: str | None
    eos: str | None
    pad: str | None


@dataclass(frozen=True)
class TemplateCard:
    """The chat template that made the text."""

    name: str
    sha256: str


@dataclass(frozen=True)
class InputCard:
    """One input file, with its BLAKE3; its place in the list is the `input` of the ledger."""

    name: str
    blake3: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class Rows:
    """Where every row went: `read = written + dropped + duplicates + quarantined`."""

    read: int
    written: int
    dropped: dict[str, int]
    duplicates: dict[str, int]
    quarantined: dict[str, int]


@dataclass(frozen=True)
class TruecaseSums:
    """What truecasing changed: rows touched, letters fixed."""

    rows: int
    fixes: int


@dataclass(frozen=True)
class DedupSums:
    """`cut_short`: rows that share a band with more rows than they were compared with, so that a
    near one may have been missed.
    """

    cut_short: int


@dataclass(frozen=True)
class EvaluationCard:
    """One evaluation set that was searched for.

    `share` is `instances_matched / instances`; above 2 % the set counts as `contaminated` (Tulu
    3). `rows_exact`: rows with a user turn that says just what an instance says, case and white
    space folded. `blake3` is that of its file.
    """

    name: str
    field: str
    blake3: str
    instances: int
    rows_without_text: int
    instances_matched: int
    share: float
    contaminated: bool
    rows_matched: int
    rows_exact: int


@dataclass(frozen=True)
class Decontamination:
    """Which evaluation sets were searched for, and what was found in all rows that the filters
    let through.
    """

    status: Literal["checked", "not checked"]
    rows_matched: int
    sets: tuple[EvaluationCard, ...]
    action: Literal["drop", "flag"] | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class FileCard:
    """Any other file of the folder."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A finished data set, as its `manifest.json` describes it. One of text alone has neither
    tokenizer nor template.
    """

    schema: int
    kind: Product
    engine: str
    semantics: dict[str, int]
    fingerprint: str
    recipe: RecipeCopy
    tokenizer: TokenizerCard | None
    template: TemplateCard | None
    inputs: tuple[InputCard, ...]
    rows: Rows
    phrases: dict[str, int]
    truecase: TruecaseSums
    dedup: DedupSums
    decontamination: Decontamination
    splits: dict[str, Split]
    files: tuple[FileCard, ...]

    @classmethod
    def read(cls, folder: str | Path) -> "Manifest":
        """The manifest of `folder`.

        Raises InputError where there is none (no data set, or a run that did not finish),
        IntegrityError where it is damaged.
        """
        refuse_cut_url(folder)
        path = Path(folder) / "manifest.json"
        try:
            text = read_bytes(path, BYTES_MAX).decode()
        except FileNotFoundError as error:
            state = "no such folder" if not Path(folder).is_dir() else "no `manifest.json` in it"
            hint = (
                "an unfinished run has none; type its command again"
                if Path(folder).is_dir()
                else "check the path"
            )
            raise InputError(f"`{folder}` is not a data set: {state}; {hint}") from error
        except OSError as error:
            raise InputError(f"cannot read `{path}`: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise IntegrityError(f"`{path}` is damaged: {error}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, where: str = "manifest") -> "Manifest":
        """Reads a manifest from its text (JSON, sealed); `where` names it in errors.

        Numbers are at most 2^63 - 1, and files have the names that the engine gives them, so
        nobody who uses one has to check that again.
        """
        try:
            fields = parse_json(text)
        except ValueError as error:
            raise IntegrityError(f"`{where}` is damaged: {shown(error, 200)}") from error
        if isinstance(fields, dict) and fields.get("schema", SCHEMA) != SCHEMA:
            raise InputError(
                f"`{where}` has schema {shown(fields['schema'], 40)}, this version reads {SCHEMA}; "
                f"update zephyr-fast"
            )
        if not _is_whole(text):
            raise IntegrityError(
                f"`{where}` is damaged or was changed: its own digest is not at its end, or another"
            )
        manifest = _typed(cls, fields, (None, where))
        assert isinstance(manifest, cls)  # _typed gives what it was asked for
        _check_names(manifest, where)
        return manifest

    def split(self, name: str) -> Split:
        """The split called `name`; InputError, naming those there are, where it is absent."""
        if name not in self.splits:
            raise InputError(
                f"no split `{shown(name, 200)}` in this data set; there is: "
                f"{', '.join(self.splits) or 'none'}"
            )
        return self.splits[name]

    def encoding(self) -> tuple[TokenizerCard, TemplateCard]:
        """What made the ids; InputError, with the way out, for a set of text alone."""
        if self.tokenizer is None or self.template is None:
            raise InputError(
                "this data set is text alone, made with `shards.tokens = false`; "
                "`datasets.load_dataset` reads it, "
                "and made again without that key, with a tokenizer, it can be trained on"
            )
        return self.tokenizer, self.template


def seal(fields: Mapping[str, object]) -> str:
    """The text of a manifest with these fields: the last one, `sha256`, is the digest of all the
    text before it.
    """
    unsealed = {name: value for name, value in fields.items() if name != "sha256"}
    text = json.dumps(unsealed, indent=2, ensure_ascii=False).removesuffix("\n}")
    return f'{text}{_SEAL}{hashlib.sha256(text.encode()).hexdigest()}"\n}}\n'


def _is_whole(text: str) -> bool:
    before, _, seal = text.rpartition(_SEAL)
    return seal == hashlib.sha256(before.encode()).hexdigest() + '"\n}\n'


def _check_names(manifest: Manifest, where: str) -> None:
    """Every name has a form of ours and occurs once: what reads, fetches or compares these files
    can rely on it.
    """
    wrong = next(_wrong_names(manifest), None)
    if wrong is not None:
        raise IntegrityError(
            f"`{where}` names {wrong}, a name that zephyr-fast does not write; the manifest was "
            f"changed or is damaged"
        )
    shards = (shard.file for card in manifest.splits.values() for shard in card.shards)
    texts = (text.file for card in manifest.splits.values() for text in card.text)
    twice = repeated([*shards, *texts, *(file.file for file in manifest.files)])
    if twice is not None:
        raise IntegrityError(
            f"`{where}` names the file `{shown(twice, 200)}` twice; the manifest was changed or is "
            f"damaged"
        )


def _wrong_names(manifest: Manifest) -> Iterator[str]:
    """What has a name that is not ours: the splits first, since the names of their files begin
    with theirs.
    """
    yield from (f"the split `{shown(name, 200)}`" for name in manifest.splits if name not in SPLITS)
    for split, card in manifest.splits.items():
        yield from (
            f"the shard `{shown(shard.file, 200)}`"
            for shard in card.shards
            if not is_shard(shard.file, split)
        )
        yield from (
            f"the text `{shown(text.file, 200)}`"
            for text in card.text
            if not is_text(text.file, split)
        )
    yield from (
        f"the file `{shown(file.file, 200)}`" for file in manifest.files if not is_other(file.file)
    )


def _spelt(place: "_Place") -> str:
    """A place as text, outermost part first; made for an error alone, as a name in it may have
    megabytes.
    """
    outer, part = place
    name = shown(part, 200)
    if outer is None:
        return name
    return _spelt(outer) + (f"[{name}]" if isinstance(part, int) else f": {name}")


def _typed(kind: Any, value: object, where: "_Place") -> Any:
    """`value` (from JSON) as `kind`, a type of this module; fields it does not know are left
    out.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _typed_fields(kind, value, where)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _typed(inner[0], value, where)
    if origin is Literal and value in inner:
        return value
    if kind is Product and value in [product.value for product in Product]:
        return Product(value)
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(inner[0], part, (where, place)) for place, part in enumerate(value))
    if origin is dict and isinstance(value, dict) and all(map(_can_be_written, value)):
        return {name: _typed(inner[1], part, (where, name)) for name, part in value.items()}
    if (
        kind is float
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and _is_finite(value)
    ):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind and _is_plain(value):
        return value
    raise IntegrityError(
        f"`{shown(_spelt(where), 400)}`: {shown(value, 200)} is not {_described(kind)}; the "
        f"manifest was changed or is damaged"
    )


def _is_finite(value: float) -> bool:
    return -_NUMBER_MAX <= value <= _NUMBER_MAX and math.isfinite(value)


def _is_plain(value: object) -> bool:
    """Whether a number is a count that fits in 64 bits, and a text one that can be written: JSON
    can spell half a character.
    """
    if type(value) is int:
        return 0 <= value <= _NUMBER_MAX
    return (
        not isinstance(value, str)
        or value.isascii()
        or value.isprintable()
        or _can_be_written(value)
    )


def _can_be_written(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _described(kind: Any) -> str:
    products = f"one of {', '.join(Product)}"
    known = {
        Product: products,
        int: f"a whole number from 0 to {_NUMBER_MAX}",
        float: "a number",
        str: "a text",
        bool: "true or false",
    }
    return known.get(kind, f"of type {kind}")


@functools.cache
def _types_of(kind: type) -> dict[str, Any]:
    """Of each field, the type; worked out once, and not for each of the thousands of batches of
    a large set.
    """
    return typing.get_type_hints(kind)


def _typed_fields(kind: type, value: object, where: "_Place") -> Any:
    if not isinstance(value, dict):
        raise IntegrityError(
            f"`{shown(_spelt(where), 400)}` is not a JSON object; the manifest was changed or is "
            f"damaged"
        )
    types_by_name = _types_of(kind)
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            given[field.name] = _typed(
                types_by_name[field.name], value[field.name], (where, field.name)
            )
        elif field.default is dataclasses.MISSING:
            raise IntegrityError(
                f"`{shown(_spelt(where), 400)}` has no `{field.name}`; the manifest was changed or "
                f"is damaged"
            )
    return kind(**given)
