"""Reads token shards in place: rows by number, straight from the mapped files, each batch
checked before its first row is used.
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
"""Rows of a split. Its index takes 8 bytes for each before any shard is read, and a training run
some 60 for each that it has read.
"""

REMOTE_ROWS_MAX = 1 << 25
"""Rows of a split that is read from a URL: of these, nothing but the manifest is there to tell
whether they exist.
"""

TOKENIZER_BYTES_MAX = 256 << 20
"""A `tokenizer.json`, of which the ids are looked at; the largest take some 35 MB."""


class Shards:
    """The rows of one split, by number. Cheap to pickle (paths only); a process opens the files
    at its first read.

    `folder` may be a URL: see `zephyr_fast.dataset.remote`.

    Raises InputError where the folder holds no data set, text alone or no such split,
    IntegrityError where a shard is not the one that the manifest describes: at once for a wrong
    size, at the first row of a batch for wrong bytes.
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
        self.__init__(folder, split)  # type: ignore[misc]  # a pickle holds the constructor's arguments, nothing more
        if self.manifest.fingerprint != fingerprint:
            raise IntegrityError(f"`{folder}` was replaced by another dataset while it was in use")

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Sample]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> Sample:
        """The sample of row `row` of the split, 0 to len - 1."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number = bisect.bisect_right(self._ends, row)
        index = row - self._ends[number] + self._card(number).examples
        return {name: column[index] for name, column in self._batch(number).items()}

    @property
    def kind(self) -> Product:
        """What the rows are."""
        return self.manifest.kind

    @property
    def identity(self) -> str:
        """SHA-256 of the manifest, in hex: which data these are."""
        return hashlib.sha256(read_bytes(self.folder / "manifest.json", BYTES_MAX)).hexdigest()

    def order(self, seed: int) -> Shuffled:
        """The order in which training reads the rows."""
        return Shuffled(len(self), seed)

    def samples(self, rows: Sequence[int] | Indices) -> Sequence[Sample]:
        """The samples at these rows with their trained columns; for row `PADDING`, one in which
        nothing is trained.
        """
        self._check_process()
        wanted = np.asarray(rows, np.int64)
        samples = Samples(self._spans, wanted)
        if samples.is_known:
            return samples
        for number in {
            bisect.bisect_right(self._ends, row) for row in wanted.tolist() if row != PADDING
        }:
            self._learn(number)
        if PADDING in wanted:
            return [
                self._padding() if row == PADDING else self.samples([row])[0]
                for row in wanted.tolist()
            ]
        return Samples(self._spans, wanted)

    def _padding(self) -> Sample:
        """A sample in which nothing is trained."""
        if not self.kind.can_pad:
            raise ConfigError(
                "`remainder: pad` is not supported for preference pairs; use `carry` or `drop`"
            )
        (sample,) = self.samples([0])
        return sample | {"labels": np.full_like(sample["labels"], -100)}

    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens per sample; for a pair, its prompt and the longer answer. Reads (and checks)
        every batch.
        """
        return np.concatenate([self._batch_lengths(number) for number in range(len(self._batches))])

    def _batch_lengths(self, number: int) -> npt.NDArray[np.int64]:
        return columns.lengths(self.kind, self._batch(number))

    def _card(self, number: int) -> BatchEntry:
        shard, index = self._batches[number]
        return self._cards[shard].batches[index]

    def _batch(self, number: int) -> Batch:
        self._check_process()
        return self._open.get(number) or self._opened(number)

    def _begin(self) -> None:
        """Nothing is open, and nothing is known of the rows."""
        self._process = os.getpid()
        self._files: dict[int, pa.Buffer] = {}
        self._open: dict[int, Batch] = {}
        self._spans = Spans(
            self.kind.trained_columns, list(accumulate(card.examples for card in self._cards))
        )

    def _check_process(self) -> None:
        if self._process != os.getpid():  # a forked worker checks for itself what it reads
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
        """IntegrityError for an id that the tokenizer does not have: a model would look it up
        outside of its table.
        """
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
        """One more than the largest id, as the tokenizer's file says: where ids are left out, it
        is more than there are tokens.
        """
        self._ids_end = max(self._ids_end, ids_end(self.folder / "tokenizer" / "tokenizer.json"))
        return self._ids_end

    def _learn(self, number: int) -> None:
        """Checks a batch, and notes the offsets of its trained lists."""
        batch, (shard, _), spans = self._batch(number), self._batches[number], self._spans
        path, file = self.folder / self._cards[shard].file, self._files[shard]
        spans.files[shard] = np.frombuffer(file, np.int32, count=file.size // 4)
        lists = [column for name in spans.names if isinstance(column := batch[name], Lists)]
        starts = [
            _offset_in(file, column.values, path) + column.offsets[:-1].astype(np.int64)
            for column in lists
        ]
        lengths = [np.diff(column.offsets).astype(np.int64) for column in lists]
        spans.learn(
            slice(self._ends[number] - self._card(number).examples, self._ends[number]),
            starts,
            lengths,
        )


def ids_end(file: Path) -> int:
    """One more than the largest id in a `tokenizer.json`; 0 where there is none, or none that
    can be read.
    """
    try:
        told = json.loads(read_bytes(file, TOKENIZER_BYTES_MAX))
        vocabulary, added = (
            told["model"]["vocab"],
            [token["id"] for token in told.get("added_tokens") or ()],
        )
        ids = [len(vocabulary) - 1] if isinstance(vocabulary, list) else list(vocabulary.values())
        return max((one for one in [*ids, *added] if type(one) is int), default=-1) + 1
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return 0


def _map(path: Path) -> pa.Buffer:
    try:
        # Opened once before, without waiting: mapping it at once would wait for the writer of a
        # FIFO.
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
    """Checks the bytes of one batch of a mapped file and reads it by `untrusted/message.py`,
    whose columns are fixed.

    The file's footer and schema message are not used. A hash is no proof that its writer meant
    well, so lists are checked, too.
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
    """The offset in the file, in numbers of 4 bytes, at which the values of a column begin."""
    if not len(values):
        return 0
    offset = values.__array_interface__["data"][0] - file.address
    if not 0 <= offset <= file.size - values.nbytes or offset % 4:
        raise IntegrityError(
            f"shard `{path}` has unaligned columns, which zephyr-fast does not write; "
            "rebuild the dataset"
        )
    return int(offset) // 4
