"""Reads the manifest of a dataset: contents, inputs and row counts."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from zephyr_fast._core import InputError, IntegrityError
from zephyr_fast.dataset.address import refuse_cut_url
from zephyr_fast.dataset.names import SPLITS, is_other, is_shard, is_text, repeated
from zephyr_fast.dataset.product import Product
from zephyr_fast.dataset.typed import typed
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import parse_json, read_bytes

SCHEMA = 3
"""The manifest schema that this code reads."""

BYTES_MAX = 64 << 20
"""Maximum size of a manifest. It uses some 130 bytes for a batch of 2 MiB, so this limit allows
1 TB of shards.
"""

_CHECKSUM_FIELD = ',\n  "sha256": "'


@dataclass(frozen=True)
class BatchEntry:
    """One record batch: the byte range of its message in the shard, and the XXH3-64 of these bytes
    as 16 hex digits.
    """

    offset: int
    bytes: int
    examples: int
    xxh3: str


@dataclass(frozen=True)
class ShardEntry:
    """One shard, a file at the top level of the dataset."""

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
    """One split.

    `rows` counts input rows. `examples` counts packed sequences (sft) or pairs (preference). In a
    dataset of text only, it counts dialogues or pairs.
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
    """The resolved recipe: every key, as TOML."""

    name: str
    sha256: str
    text: str


@dataclass(frozen=True)
class TokenizerInfo:
    """The tokenizer of the token ids."""

    sha256: str
    vocab_size: int
    bos: str | None
    eos: str | None
    pad: str | None


@dataclass(frozen=True)
class TemplateInfo:
    """The chat template of the text.

    `end_tokens` are the ids of the tokens that end a trained assistant message, where generation
    must stop, and `ends` are their texts. `foreign_markers` are markers that the tokenizer splits
    into several tokens, because the template was written for another one.
    """

    name: str
    sha256: str
    end_tokens: tuple[int, ...]
    ends: tuple[str, ...]
    foreign_markers: tuple[str, ...]


@dataclass(frozen=True)
class InputEntry:
    """One input file and its BLAKE3. Its index in the list is the `input` column of the ledger.

    `unused_columns` are columns with content that no row used. If `has_more_unused_columns` is
    true, there are others that are not listed.
    """

    name: str
    blake3: str
    bytes: int
    rows: int
    unused_columns: tuple[str, ...] = ()
    has_more_unused_columns: bool = False


@dataclass(frozen=True)
class RoleWordsEntry:
    """The words in rows of one shape that stand for a role of another name.

    `roles` has the role of each word, such as `{"human": "user"}`. If `has_more` is true, there
    are others that are not listed.
    """

    roles: dict[str, str]
    has_more: bool


@dataclass(frozen=True)
class Rows:
    """The outcome of the rows: `read = written + dropped + duplicates + quarantined`."""

    read: int
    written: int
    dropped: dict[str, int]
    duplicates: dict[str, int]
    quarantined: dict[str, int]


@dataclass(frozen=True)
class TruecaseStats:
    """Number of rows and letters that truecasing changed."""

    rows: int
    letters_changed: int


@dataclass(frozen=True)
class StructureStats:
    """Rows that the filter `structure` changed, or accepted because of `order = "any"`."""

    rows_cut: int
    messages_cut: int
    rows_starting_with_assistant: int
    rows_with_repeated_role: int


@dataclass(frozen=True)
class DedupStats:
    """`near_search_truncated` counts rows with more candidates than were compared, so a
    near-duplicate may remain.
    """

    near_search_truncated: int


@dataclass(frozen=True)
class EvaluationEntry:
    """One evaluation set, and its overlap with the rows.

    `share` is `instances_matched / instances`. Above 2 %, the set counts as `contaminated` (as in
    Tulu 3). `rows_exact` counts rows with a user message equal to an instance, after folding case
    and white space. `blake3` is the digest of the set's file.
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
    """The evaluation sets, and their overlap with the rows that passed the filters."""

    status: Literal["checked", "not checked"]
    rows_matched: int
    sets: tuple[EvaluationEntry, ...]
    action: Literal["drop", "flag"] | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class FileEntry:
    """Any other file of the dataset."""

    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A finished dataset, as described by its `manifest.json`. A dataset of text only has no
    tokenizer and no template.
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
    shapes: dict[str, int]
    phrases: dict[str, int]
    truecase: TruecaseStats
    structure: StructureStats
    dedup: DedupStats
    decontamination: Decontamination
    splits: dict[str, Split]
    files: tuple[FileEntry, ...]
    doubtful_pairs: dict[str, int] = field(default_factory=dict)
    role_words: dict[str, RoleWordsEntry] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: str | Path) -> "Manifest":
        """Read the manifest of a dataset.

        Args:
            folder: Dataset directory.

        Raises:
            InputError: There is no manifest, so this is not a dataset or the run did not finish.
            IntegrityError: The manifest is damaged.

        Example:
            >>> Manifest.read(out).rows.read
            320
        """
        refuse_cut_url(folder)
        path = Path(folder) / "manifest.json"
        try:
            text = read_bytes(path, BYTES_MAX).decode()
        except FileNotFoundError as error:
            state = (
                "it has no `manifest.json`; if the run did not finish, run the same command again"
                if Path(folder).is_dir()
                else "no such directory; check the path"
            )
            raise InputError(f"`{folder}` is not a dataset: {state}") from error
        except OSError as error:
            raise InputError(f"cannot read `{path}`: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise IntegrityError(f"`{path}` is damaged: {error}") from error
        return cls.parse(text, str(path))

    @classmethod
    def parse(cls, text: str, where: str = "manifest") -> "Manifest":
        """Parse the JSON of a manifest, and check its checksum. `where` is its name in errors.

        Numbers are at most 2^63 - 1, and file names have the forms that the core writes. Callers
        need not check that again.
        """
        try:
            fields = parse_json(text)
        except ValueError as error:
            raise IntegrityError(f"`{where}` is not valid JSON: {shown(error, 200)}") from error
        if isinstance(fields, dict) and fields.get("schema", SCHEMA) != SCHEMA:
            schema = fields["schema"]
            is_older = isinstance(schema, int) and schema < SCHEMA
            advice = "rebuild the dataset" if is_older else "update zephyr-fast"
            raise InputError(
                f"`{where}` has schema {shown(schema, 40)}, but this version reads {SCHEMA}; "
                f"{advice}"
            )
        if not _checksum_matches(text):
            raise IntegrityError(f"`{where}` is damaged or was edited: its checksum does not match")
        manifest = typed(cls, fields, (None, where))
        assert isinstance(manifest, cls)  # `typed` returns the requested type
        _check_names(manifest, where)
        return manifest

    def split(self, name: str) -> Split:
        """Return the split called `name`. InputError lists the available ones."""
        if name not in self.splits:
            raise InputError(
                f"this dataset has no split `{shown(name, 200)}`; available: "
                f"{', '.join(sorted(self.splits, reverse=True)) or '(empty)'}"
            )
        return self.splits[name]

    def require_tokens(self) -> tuple[TokenizerInfo, TemplateInfo]:
        """Return the tokenizer and the template. InputError for a dataset of text only."""
        if self.tokenizer is None or self.template is None:
            raise InputError(
                "this dataset holds text only (built with `shards.tokens = false`); rebuild it "
                "with a tokenizer to train on it, or read it with `datasets.load_dataset`"
            )
        return self.tokenizer, self.template


def seal(fields: Mapping[str, object]) -> str:
    """Return the text of a manifest with these fields. Its last field, `sha256`, is the digest of
    all the text before it.
    """
    unsealed = {name: value for name, value in fields.items() if name != "sha256"}
    text = json.dumps(unsealed, indent=2, ensure_ascii=False).removesuffix("\n}")
    return f'{text}{_CHECKSUM_FIELD}{hashlib.sha256(text.encode()).hexdigest()}"\n}}\n'


def _checksum_matches(text: str) -> bool:
    before, _, seal = text.rpartition(_CHECKSUM_FIELD)
    return seal == hashlib.sha256(before.encode()).hexdigest() + '"\n}\n'


def _check_names(manifest: Manifest, where: str) -> None:
    """Check that every file name has a form that the core writes, and occurs once. All readers
    rely on this.
    """
    wrong = next(_wrong_names(manifest), None)
    if wrong is not None:
        raise IntegrityError(
            f"`{where}` lists {wrong}, a name that zephyr-fast does not write; the manifest is "
            "damaged or was edited"
        )
    shards = (shard.file for card in manifest.splits.values() for shard in card.shards)
    texts = (text.file for card in manifest.splits.values() for text in card.text)
    twice = repeated([*shards, *texts, *(file.file for file in manifest.files)])
    if twice is not None:
        raise IntegrityError(
            f"`{where}` lists the file `{shown(twice, 200)}` twice; the manifest is damaged or was "
            "edited"
        )


def _wrong_names(manifest: Manifest) -> Iterator[str]:
    """Yield invalid names: the splits first, because file names start with a split."""
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
