"""Read token shards in place: rows by number from memory-mapped files.

Each batch is verified before its first row is used.
"""

import bisect
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from zephyr_fast._core import ConfigError, InputError, IntegrityError
from zephyr_fast.dataset.address import Address
from zephyr_fast.dataset.manifest import BYTES_MAX, BatchEntry, Manifest, ShardEntry
from zephyr_fast.dataset.product import Product
from zephyr_fast.dataset.remote import local, origin_of, remember
from zephyr_fast.dataset.sizes import (
    ROWS_UNPROVEN,
    check_batches,
    check_room,
    check_size,
    check_still_there,
)
from zephyr_fast.load import columns
from zephyr_fast.load.columns import Batch
from zephyr_fast.load.order import Shuffled
from zephyr_fast.load.permutation import Indices
from zephyr_fast.load.samples import Sample, Samples, Spans
from zephyr_fast.load.stream import PADDING
from zephyr_fast.untrusted.bounded import read_bytes
from zephyr_fast.untrusted.message import Ints, Lists, record_batch

ROWS_MAX = 1 << 28
"""Maximum rows of a split. An index takes 8 bytes per row, training some 60 per row read."""

REMOTE_ROWS_MAX = 1 << 25
"""Maximum rows of a remote split: only its manifest claims that the rows exist."""

TOKENIZER_BYTES_MAX = 256 << 20
"""Maximum size of a `tokenizer.json`; the largest have some 35 MB."""


class Shards:
    """The rows of one split, by number.

    Cheap to pickle (paths only). A process opens the files at its first read.

    Args:
        folder: Directory or URL of a dataset; see `zephyr_fast.dataset.remote`.
        split: Name of the split.

    Raises:
        InputError: If there is no dataset, no such split, or only text.
        IntegrityError: If a shard does not match the manifest: immediately for a wrong size, at the
            first row of a batch for wrong bytes.
    """

    def __init__(self, folder: str | Path, split: str) -> None:
        self.folder = local(folder)
        self.split = split
        self.manifest = Manifest.read(self.folder)
        self._ids_end = self.manifest.require_tokens()[0].vocab_size
        self._cards = self.manifest.split(split).shards
        self._origin = origin_of(self.folder)
        for card in self._cards:
            check_batches(self.folder, card, self.kind)
            if self._origin is None:
                check_size(self.folder, card)
        rows_max = ROWS_MAX if self._origin is None else REMOTE_ROWS_MAX
        if (rows := sum(card.examples for card in self._cards)) > rows_max:
            way_out = "" if rows > ROWS_MAX else "; copy the dataset to this machine first"
            raise IntegrityError(
                f"`{self.folder}/manifest.json` lists more than {rows_max:,} rows in "
                f"`{split}`{way_out}"
            )
        if rows > ROWS_UNPROVEN and self._origin is None:
            check_room(self.folder, self._cards, self.kind)
        if self._origin is not None:
            self._origin.prefetch(self._cards)
        self._batches = [
            (shard, index)
            for shard, card in enumerate(self._cards)
            for index in range(len(card.batches))
        ]
        self._ends = list(
            accumulate(self._card(number).examples for number in range(len(self._batches)))
        )
        if len(self) != self.manifest.split(split).examples:
            raise IntegrityError(
                f"`{self.folder}`: the row counts of the batches of `{split}` do not add up "
                "to the count of the split"
            )
        self._begin()

    def __getstate__(self) -> tuple[str, str, str, Address | None]:
        address = None if self._origin is None else self._origin.for_worker()
        return str(self.folder), self.split, self.manifest.fingerprint, address

    def __setstate__(self, state: tuple[str, str, str, Address | None]) -> None:
        folder, split, fingerprint, address = state
        if address is not None:
            remember(Path(folder), address)
        self.__init__(folder, split)  # type: ignore[misc]  # a pickle has only the constructor's arguments
        if self.manifest.fingerprint != fingerprint:
            raise IntegrityError(f"`{folder}` was replaced by another dataset while it was in use")

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Sample]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> Sample:
        """Return the sample of row `row` of the split, 0 to len - 1."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number = bisect.bisect_right(self._ends, row)
        index = row - self._ends[number] + self._card(number).examples
        return {name: column[index] for name, column in self._batch(number).items()}

    @property
    def kind(self) -> Product:
        """The product that the rows belong to."""
        return self.manifest.kind

    @property
    def manifests(self) -> list[Manifest]:
        """The manifest, in a list as for several datasets."""
        return [self.manifest]

    @property
    def identity(self) -> str:
        """SHA-256 of the manifest, in hex."""
        return hashlib.sha256(read_bytes(self.folder / "manifest.json", BYTES_MAX)).hexdigest()

    def order(self, seed: int) -> Shuffled:
        """Return the order in which training reads the rows."""
        return Shuffled(len(self), seed)

    def samples(self, rows: Sequence[int] | Indices) -> Sequence[Sample]:
        """Return the samples of these rows, with their trained columns.

        Row `PADDING` gives a sample without label tokens.
        """
        self._check_process()
        numbers = np.asarray(rows, np.int64)
        samples = Samples(self._spans, numbers)
        if samples.is_loaded:
            return samples
        for number in {
            bisect.bisect_right(self._ends, row) for row in numbers.tolist() if row != PADDING
        }:
            self._load_batch(number)
        if PADDING in numbers:
            return [
                self._padding() if row == PADDING else self.samples([row])[0]
                for row in numbers.tolist()
            ]
        return Samples(self._spans, numbers)

    def _padding(self) -> Sample:
        """Return a sample without label tokens."""
        if not self.kind.facts.can_pad:
            raise ConfigError(
                "`remainder: pad` is not supported for preference pairs; use `carry` or `drop`"
            )
        (sample,) = self.samples([0])
        return sample | {"labels": np.full_like(sample["labels"], -100)}

    def lengths(self) -> npt.NDArray[np.int64]:
        """Return the tokens per sample, [rows] int64. For a pair: prompt and longer completion.

        Reads and verifies every batch.
        """
        return np.concatenate([self._batch_lengths(number) for number in range(len(self._batches))])

    def batches(self) -> Iterator[Batch]:
        """Yield all columns of each batch, verified, as views of the mapped file."""
        return (self._batch(number) for number in range(len(self._batches)))

    def _batch_lengths(self, number: int) -> npt.NDArray[np.int64]:
        return columns.lengths(self.kind, self._batch(number))

    def _card(self, number: int) -> BatchEntry:
        shard, index = self._batches[number]
        return self._cards[shard].batches[index]

    def _batch(self, number: int) -> Batch:
        self._check_process()
        return self._open.get(number) or self._opened(number)

    def _begin(self) -> None:
        """Reset the caches: no open files and no loaded rows."""
        self._process = os.getpid()
        self._files: dict[int, pa.Buffer] = {}
        self._open: dict[int, Batch] = {}
        self._spans = Spans(
            self.kind.trained_columns, list(accumulate(card.examples for card in self._cards))
        )

    def _check_process(self) -> None:
        if self._process != os.getpid():  # a forked worker verifies its batches itself
            self._begin()

    def _opened(self, number: int) -> Batch:
        shard, index = self._batches[number]
        file = self._files.get(shard)
        if file is None:
            if self._origin is not None:
                self._origin.fetch(self._cards[shard])
            self._files[shard] = file = _map(self.folder / self._cards[shard].file)
        path = self.folder / self._cards[shard].file
        check_still_there(path, self._cards[shard])
        batch = _open_batch(file, path, self._cards[shard], index, self.kind)
        self._check_ids(batch, path, index)
        self._open[number] = batch
        return batch

    def _check_ids(self, batch: Batch, path: Path, index: int) -> None:
        """Raise IntegrityError for ids outside the vocabulary, which would index out of bounds."""
        for name in columns.id_columns(self.kind):
            column = batch[name]
            if not isinstance(column, Lists) or not len(column.values):
                continue
            least, most = int(column.values.min()), int(column.values.max())
            if least < 0 or (most >= self._ids_end and most >= self._true_ids_end()):
                raise IntegrityError(
                    f"shard `{path}`, batch {index}: `{name}` contains the id "
                    f"{least if least < 0 else most}, but the tokenizer has only "
                    f"{self._ids_end:,} ids; rebuild the dataset"
                )

    def _true_ids_end(self) -> int:
        """Return the largest id of the tokenizer file plus 1.

        It exceeds the number of tokens if ids are skipped.
        """
        self._ids_end = max(self._ids_end, ids_end(self.folder / "tokenizer" / "tokenizer.json"))
        return self._ids_end

    def _load_batch(self, number: int) -> None:
        """Verify a batch and record the offsets of its trained lists."""
        batch, (shard, _), spans = self._batch(number), self._batches[number], self._spans
        path, file = self.folder / self._cards[shard].file, self._files[shard]
        spans.files[shard] = np.frombuffer(file, np.int32, count=file.size // 4)
        lists = [column for name in spans.names if isinstance(column := batch[name], Lists)]
        starts = [
            _offset_in(file, column.values, path) + column.offsets[:-1].astype(np.int64)
            for column in lists
        ]
        lengths = [np.diff(column.offsets).astype(np.int64) for column in lists]
        spans.add(
            slice(self._ends[number] - self._card(number).examples, self._ends[number]),
            starts,
            lengths,
        )


def ids_end(file: Path) -> int:
    """Return the largest id in a `tokenizer.json` plus 1; 0 if it cannot be read."""
    try:
        fields = json.loads(read_bytes(file, TOKENIZER_BYTES_MAX))
        vocabulary, added = (
            fields["model"]["vocab"],
            [token["id"] for token in fields.get("added_tokens") or ()],
        )
        ids = [len(vocabulary) - 1] if isinstance(vocabulary, list) else list(vocabulary.values())
        return max((one for one in [*ids, *added] if type(one) is int), default=-1) + 1
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return 0


def _map(path: Path) -> pa.Buffer:
    try:
        # Open it without blocking first: mapping a FIFO would wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise IntegrityError(
                    f"shard `{path}` is not a regular file; copy the dataset again"
                )
            with pa.memory_map(str(path)) as mapped:
                return mapped.read_buffer()
        finally:
            os.close(handle)
    except OSError as error:
        raise InputError(f"cannot map shard `{path}`: {error}") from error


def _open_batch(
    file: pa.Buffer, path: Path, shard: ShardEntry, index: int, product: Product
) -> Batch:
    """Verify one batch of a mapped file and parse it with `untrusted/message.py`.

    The columns are fixed: the footer and schema message of the file are not used. A matching hash
    does not prove good intent, so lists are checked too.
    """
    card = shard.batches[index]
    if card.offset + card.bytes > file.size:
        raise IntegrityError(
            f"shard `{path}` has {file.size} bytes instead of {shard.bytes}; copy or "
            "rebuild the dataset"
        )
    message = memoryview(file.slice(card.offset, card.bytes))
    if xxhash.xxh3_64(message).hexdigest() != card.xxh3:
        raise IntegrityError(
            f"shard `{path}` is damaged: batch {index} at offset {card.offset} "
            f"({card.bytes} bytes) has a wrong checksum; copy or rebuild the dataset"
        )
    try:
        batch = record_batch(message, columns.layouts(product), card.examples)
        columns.check(product, batch)
    except ValueError as error:
        raise IntegrityError(
            f"shard `{path}`, batch {index} at offset {card.offset}: {error}; rebuild the dataset"
        ) from None
    return batch


def _offset_in(file: pa.Buffer, values: Ints, path: Path) -> int:
    """Return the offset in the file, in 4-byte units, at which the values of a column begin."""
    if not len(values):
        return 0
    offset = values.__array_interface__["data"][0] - file.address
    if not 0 <= offset <= file.size - values.nbytes or offset % 4:
        raise IntegrityError(
            f"shard `{path}` has unaligned columns, which zephyr-fast does not write; "
            "rebuild the dataset"
        )
    return int(offset) // 4
