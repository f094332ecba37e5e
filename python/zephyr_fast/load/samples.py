"""Access many rows of a split at once, as samples or as one copied batch."""

import mmap
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Sample = dict[str, Any]
"""One row: a read-only numpy view of the mapped file per list column, else a number or None."""

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

_ROWS_RESERVED = 1 << 16  # a table of fewer rows is small

_NO_RESERVE: int = getattr(mmap, "MAP_NORESERVE", 0)


class Spans:
    """Start and length of each row's lists, in 4-byte units of its file. Filled by batch."""

    def __init__(self, names: Sequence[str], ends: Sequence[int]) -> None:
        """Create an empty table.

        Args:
            names: The columns.
            ends: For each file, the number of rows up to its end.
        """
        self.names, self.files = tuple(names), [np.empty(0, np.int32)] * len(ends)
        self._ends = np.array(ends)
        # Each row holds its starts, its lengths and a flag that it is loaded, in one range of
        # memory. The last row (number -1) is never loaded.
        self.table = _zeros((ends[-1] if ends else 0) + 1, 2 * len(names) + 1)

    def add(self, rows: slice, starts: Sequence[Int64s], lengths: Sequence[Int64s]) -> None:
        """Record the spans of some rows, one array per column. `files` must have their file."""
        self.table[rows] = np.stack([*starts, *lengths, np.ones_like(lengths[0])], axis=1)

    def files_of(self, rows: Int64s) -> list[Int32s]:
        """Return the file of each row."""
        if len(self.files) == 1:
            return self.files * len(rows)
        return [
            self.files[number]
            for number in np.searchsorted(self._ends, rows, side="right").tolist()
        ]


def _zeros(rows: int, columns: int) -> Int64s:
    """Return a table of zeros that uses memory only for the pages that are written."""
    if rows < _ROWS_RESERVED:
        return np.zeros((rows, columns), np.int64)
    pages = mmap.mmap(
        -1, 8 * rows * columns, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    )
    return np.frombuffer(pages, np.int64).reshape(rows, columns)


class Samples(Sequence[Sample]):
    """The samples of some rows, read from the files on access.

    `is_loaded` is True if the spans of all rows are known.
    """

    def __init__(self, spans: Spans, rows: Int64s) -> None:
        self._spans, self._rows = spans, rows
        self._spans_of_rows = spans.table.take(rows, 0)

    @property
    def is_loaded(self) -> bool:
        return bool(self._spans_of_rows[:, -1].all())

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[one] for one in range(len(self))[index]]
        (file,) = self._spans.files_of(self._rows[[index]])
        names, spans = self._spans.names, self._spans_of_rows[index].tolist()
        return {
            name: file[start : start + length]
            for name, start, length in zip(names, spans, spans[len(names) :], strict=False)
        }

    def gather(self, padding: Sequence[tuple[str, int]]) -> Int32s:
        """Copy the named columns to one table [columns, samples, longest] int32.

        Each column is padded on the right with its value.
        """
        spans, names = self._spans_of_rows, self._spans.names
        columns = [names.index(name) for name, _ in padding]
        lengths = [spans[:, len(names) + column].tolist() for column in columns]
        longest = max(map(max, lengths))
        starts = np.concatenate([spans[:, column] for column in columns])
        table = self._windows(starts, longest).reshape(len(columns), len(self), longest)
        if min(map(min, lengths)) < longest:
            for column, (_, value) in enumerate(padding):
                for index, length in enumerate(lengths[column]):
                    table[column, index, length:] = value
        return table

    def _windows(self, starts: Int64s, width: int) -> Int32s:
        """Return `width` numbers of the file from each start, [starts, width].

        Numbers after the end of a row are arbitrary. `starts` lists all rows of one column, then of
        the next.
        """
        if len(self._spans.files) > 1:
            return self._one_by_one(starts, width)
        file = self._spans.files[0]
        # Overlapping rows, one per start: indexing copies each number once, in a single call.
        every = np.ndarray((max(0, len(file) - width + 1), width), np.int32, file, 0, (4, 4))
        try:
            return every[starts]
        except IndexError:  # fewer than `width` numbers are left in the file
            return self._one_by_one(starts, width)

    def _one_by_one(self, starts: Int64s, width: int) -> Int32s:
        table, files = np.empty((len(starts), width), np.int32), self._spans.files_of(self._rows)
        for index, start in enumerate(starts.tolist()):
            part = files[index % len(files)][start : start + width]  # shorter at the end of a file
            table[index, : len(part)] = part
        return table
