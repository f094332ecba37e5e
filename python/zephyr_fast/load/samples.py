"""Many rows of a split at a time: where their lists lie in the mapped files, one sample after
the other, or a whole batch in one copy.
"""

import mmap
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

Sample = dict[str, Any]
"""One row: a numpy view (read-only, into the mapped file) per list column, a number or None per
other column.
"""

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

_ROWS_RESERVED = 1 << 16  # a table of fewer rows is small

_NO_RESERVE: int = getattr(mmap, "MAP_NORESERVE", 0)


class Spans:
    """Where the lists of each row begin and how long they are, in numbers of 4 bytes of their
    file; learnt batch by batch.
    """

    def __init__(self, names: Sequence[str], ends: Sequence[int]) -> None:
        """`names`: the columns. `ends`: for each file, the number of rows up to its end."""
        self.names, self.files = tuple(names), [np.empty(0, np.int32)] * len(ends)
        self._ends = np.array(ends)
        # A row's starts, its lengths, and whether it is known, beside each other: one row is one
        # range of memory. The last row, of number -1, never is.
        self.table = _zeros((ends[-1] if ends else 0) + 1, 2 * len(names) + 1)

    def learn(self, rows: slice, starts: Sequence[Int64s], lengths: Sequence[Int64s]) -> None:
        """Notes the spans of some rows, for each column; their file is in `files`."""
        self.table[rows] = np.stack([*starts, *lengths, np.ones_like(lengths[0])], axis=1)

    def files_of(self, rows: Int64s) -> list[Int32s]:
        """The file that each row is in."""
        if len(self.files) == 1:
            return self.files * len(rows)
        return [
            self.files[number]
            for number in np.searchsorted(self._ends, rows, side="right").tolist()
        ]


def _zeros(rows: int, columns: int) -> Int64s:
    """A table of zeros that takes memory as it is written to: none is kept ready for rows that
    are never read.
    """
    if rows < _ROWS_RESERVED:
        return np.zeros((rows, columns), np.int64)
    pages = mmap.mmap(
        -1, 8 * rows * columns, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
    )
    return np.frombuffer(pages, np.int64).reshape(rows, columns)


class Samples(Sequence[Sample]):
    """The samples of these rows; read from the files as they are asked for. `is_known` says
    whether all of them can be.
    """

    def __init__(self, spans: Spans, rows: Int64s) -> None:
        self._spans, self._rows = spans, rows
        self._taken = spans.table.take(rows, 0)

    @property
    def is_known(self) -> bool:
        return bool(self._taken[:, -1].all())

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
        names, spans = self._spans.names, self._taken[index].tolist()
        return {
            name: file[start : start + length]
            for name, start, length in zip(names, spans, spans[len(names) :], strict=False)
        }

    def gather(self, padding: Sequence[tuple[str, int]]) -> Int32s:
        """The named columns as one table [columns, samples, longest], padded on the right with
        each column's value.
        """
        taken, names = self._taken, self._spans.names
        columns = [names.index(name) for name, _ in padding]
        lengths = [taken[:, len(names) + column].tolist() for column in columns]
        longest = max(map(max, lengths))
        starts = np.concatenate([taken[:, column] for column in columns])
        table = self._windows(starts, longest).reshape(len(columns), len(self), longest)
        if min(map(min, lengths)) < longest:
            for column, (_, value) in enumerate(padding):
                for index, length in enumerate(lengths[column]):
                    table[column, index, length:] = value
        return table

    def _windows(self, starts: Int64s, width: int) -> Int32s:
        """From each start so many numbers of its file, [starts, width]: those of the row, and
        behind them whatever follows there.

        The starts are those of all rows in one column, then in the next.
        """
        if len(self._spans.files) > 1:
            return self._one_by_one(starts, width)
        file = self._spans.files[0]
        # Overlapping rows, one from every number on: picking some of them is one call, which copies
        # each number once.
        every = np.ndarray((max(0, len(file) - width + 1), width), np.int32, file, 0, (4, 4))
        try:
            return every[starts]
        except IndexError:  # a row so near the end of the file that less than `width` follows
            return self._one_by_one(starts, width)

    def _one_by_one(self, starts: Int64s, width: int) -> Int32s:
        table, files = np.empty((len(starts), width), np.int32), self._spans.files_of(self._rows)
        for index, start in enumerate(starts.tolist()):
            part = files[index % len(files)][start : start + width]  # shorter at the end of a file
            table[index, : len(part)] = part
        return table
