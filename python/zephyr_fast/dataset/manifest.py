"""Reads the manifest of an out folder: what it holds, what it was made from, and where every row
went.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zephyr_fast._core import InputError, IntegrityError
from zephyr_fast.dataset.address import refuse_cut_url
from zephyr_fast.dataset.names import SPLITS, is_other, is_shard, is_text, repeated
from zephyr_fast.dataset.product import Product
from zephyr_fast.dataset.typed import typed
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import parse_json, read_bytes

SCHEMA = 2
"""The version of the format that this code reads."""

BYTES_MAX = 64 << 20
"""Size of a manifest. It takes some 130 bytes for a batch of 2 MiB, so this describes 1 TB of
shards.
"""

_SEAL = ',\n  "sha256": "'


@dataclass(frozen=True)
class BatchEntry:
    """One record batch: where its message lies in the shard (bytes), and XXH3-64 of these bytes
    as 16 hex digits.
    """

    offset: int
    bytes: int
    examples: int
    xxh3: str


@dataclass(frozen=True)
class ShardEntry:
    """One shard, a file at the top of the folder."""

    file: str
    examples: int
    tokens: int
    bytes: int
    sha256: str
    batches: tuple[BatchEntry, ...]


@dataclass(frozen=True)
class TextEntry:
    """One Parquet file of cleaned text."""

    file: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """One split: `rows` are dialogues, `examples` packed sequences (sft) or pairs (preference);
    dialogues or pairs in a set of text alone.
    """

    rows: int
    examples: int
    tokens: int
    label_tokens: int
    tokens_truncated: int
    label_tokens_truncated: int
    rows_truncated: int
    seq_len: int
    shards: tuple[ShardEntry, ...]
    text: tuple[TextEntry, ...]
    fill: float | None = None


@dataclass(frozen=True)
class RecipeCopy:
    """The recipe as it ran, every key printed as TOML."""

    name: str
    sha256: str
    text: str


@dataclass(frozen=True)
class TokenizerInfo:
    """The tokenizer that made the ids."""

    sha256: str
    vocab_size: int
    bos: str | None
    eos: str | None
    pad: str | None


@dataclass(frozen=True)
class TemplateInfo:
    """The chat template that made the text."""

    name: str
    sha256: str


@dataclass(frozen=True)
class InputEntry:
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
class TruecaseStats:
    """What truecasing changed: rows touched, letters fixed."""

    rows: int
    letters_changed: int


@dataclass(frozen=True)
class DedupStats:
    """`near_search_truncated`: rows that share a band with more rows than they were compared with,
    so that a near-duplicate may have been missed.
    """

    near_search_truncated: int


@dataclass(frozen=True)
class EvaluationEntry:
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
    sets: tuple[EvaluationEntry, ...]
    action: Literal["drop", "flag"] | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class FileEntry:
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
    tokenizer: TokenizerInfo | None
    template: TemplateInfo | None
    inputs: tuple[InputEntry, ...]
    rows: Rows
    phrases: dict[str, int]
    truecase: TruecaseStats
    dedup: DedupStats
    decontamination: Decontamination
    splits: dict[str, Split]
    files: tuple[FileEntry, ...]

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
                "update zephyr-fast"
            )
        if not _is_whole(text):
            raise IntegrityError(
                f"`{where}` is damaged or was changed: its own digest is not at its end, or another"
            )
        manifest = typed(cls, fields, (None, where))
        assert isinstance(manifest, cls)  # `typed` gives what it was asked for
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

    def require_tokens(self) -> tuple[TokenizerInfo, TemplateInfo]:
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
            "changed or is damaged"
        )
    shards = (shard.file for card in manifest.splits.values() for shard in card.shards)
    texts = (text.file for card in manifest.splits.values() for text in card.text)
    twice = repeated([*shards, *texts, *(file.file for file in manifest.files)])
    if twice is not None:
        raise IntegrityError(
            f"`{where}` names the file `{shown(twice, 200)}` twice; the manifest was changed or is "
            "damaged"
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
