"""Reads Arrow messages of a fixed layout. Untrusted messages never reach Arrow's own reader.

Arrow's reader trusts the header of a message: it decompresses buffers, and creates arrays longer
than the data. The columns of our files are known, so this reader only needs the offsets of each
column's buffers. It rejects every layout that our own writers do not produce. The formats are
Arrow's `Message.fbs` and `Schema.fbs`, as FlatBuffers.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]

METADATA_BYTES_MAX = 64 << 10
"""Maximum size of a message's header. With seven columns it has less than 1 KiB."""

_KEY_VALUES_MAX = 16

_SCHEMA, _RECORD_BATCH = 1, 3  # header types of Message.fbs
_VERSION_5 = 4  # metadata version of Arrow 1.0 and later


@dataclass(frozen=True)
class Layout:
    """A column: numbers of one type, or lists of them. Lists cannot be null."""

    name: str
    dtype: "np.dtype[Any]"
    is_list: bool
    may_be_null: bool = False


@dataclass(frozen=True)
class Lists:
    """A column of lists: list i is `values[offsets[i]:offsets[i + 1]]`. The offsets never
    decrease, and are within the values.
    """

    offsets: Ints
    values: Ints

    def __getitem__(self, row: int) -> Ints:
        return self.values[self.offsets[row] : self.offsets[row + 1]]


Column = Lists | list[Any]


def record_batch(message: memoryview, layouts: Sequence[Layout], rows: int) -> dict[str, Column]:
    """Return the columns of a message as views of its bytes, by name.

    Args:
        message: The bytes of a record batch message.
        layouts: The columns that it must have, in order.
        rows: The number of rows that it must have.

    Raises:
        ValueError: The message differs from what our writers produce.
    """
    header, body = _parse(message, _RECORD_BATCH)
    batch = header.table(2)
    if batch.has(3):
        raise ValueError("its columns are compressed, which zephyr-fast does not write")
    if (found := batch.number(0, "<q")) != rows:
        raise ValueError(f"expected {rows} rows, found {found}")
    nodes, buffers = batch.pairs(1), batch.pairs(2)
    if (len(nodes), len(buffers)) != (
        sum(1 + one.is_list for one in layouts),
        sum(2 + 2 * one.is_list for one in layouts),
    ):
        raise ValueError("it does not have the columns of this kind of file")
    parts = _Parts(body, nodes, buffers)
    return {
        one.name: parts.lists(one, rows) if one.is_list else parts.numbers(one, rows)
        for one in layouts
    }


def metadata(message: memoryview) -> tuple[dict[bytes, bytes], int]:
    """Return the key-value metadata of a schema message, and the message's size in bytes. Raises
    ValueError.
    """
    header, body = _parse(message, _SCHEMA)
    return dict(header.table(2).key_values(2)), len(message) - len(body)


class _Parts:
    """Reads the nodes and buffers of a batch by column, and checks them against the body."""

    def __init__(
        self, body: memoryview, nodes: list[tuple[int, int]], buffers: list[tuple[int, int]]
    ) -> None:
        self._body, self._nodes, self._buffers = body, iter(nodes), iter(buffers)

    def lists(self, layout: Layout, rows: int) -> Lists:
        self._node(layout, rows)
        self._buffer()  # the validity buffer is not needed without nulls
        offsets = self._array(np.dtype("<i4"), rows + 1)
        count, _ = self._node(layout, None)
        self._buffer()
        values = self._array(layout.dtype, count)
        if offsets[0] < 0 or offsets[-1] > count or (offsets[1:] < offsets[:-1]).any():
            raise ValueError(
                f"the lists of `{layout.name}` are not in order within its {count} values"
            )
        return Lists(offsets, values)

    def numbers(self, layout: Layout, rows: int) -> list[Any]:
        _, nulls = self._node(layout, rows)
        validity = self._buffer()
        values: list[Any] = self._array(layout.dtype, rows).tolist()
        if not nulls:
            return values
        if len(validity) < -(-rows // 8):
            raise ValueError(f"the nulls of `{layout.name}` are not marked")
        bits = np.unpackbits(
            np.frombuffer(validity, np.uint8), count=rows, bitorder="little"
        ).tolist()
        if rows - sum(bits) != nulls:
            raise ValueError(f"the null count of `{layout.name}` is wrong")
        return [value if bit else None for value, bit in zip(values, bits, strict=True)]

    def _node(self, layout: Layout, rows: int | None) -> tuple[int, int]:
        """Return length and null count of an array. The length must be `rows`, unless None."""
        length, nulls = next(self._nodes)
        if length < 0 or (rows is not None and length != rows):
            raise ValueError(f"`{layout.name}` has {length} values, not {rows}")
        if nulls and not (layout.may_be_null and 0 < nulls <= length):
            raise ValueError(f"`{layout.name}` has nulls, which zephyr-fast does not write")
        return length, nulls

    def _buffer(self) -> memoryview:
        offset, length = next(self._buffers)
        if not 0 <= offset <= offset + length <= len(self._body) or length < 0:
            raise ValueError(
                f"a buffer of {length} bytes at {offset} is not within its body of "
                f"{len(self._body)} bytes"
            )
        return self._body[offset : offset + length]

    def _array(self, dtype: "np.dtype[Any]", count: int) -> npt.NDArray[Any]:
        buffer = self._buffer()
        if count * dtype.itemsize > len(buffer):
            raise ValueError(
                f"{count} values of {dtype.itemsize} bytes do not fit in a buffer of {len(buffer)} "
                "bytes"
            )
        return np.frombuffer(buffer, dtype, count) if count else np.empty(0, dtype)


class _Table:
    """A FlatBuffers table. `_at` checks every position before it is read, so no number in the file
    can refer to bytes outside of it.
    """

    def __init__(self, data: bytes, start: int) -> None:
        self._data, self._start = data, start
        self._vtable = start - _at(data, start, "<i")
        self._slots = _at(data, self._vtable, "<H") // 2 - 2

    def has(self, slot: int) -> bool:
        """Whether the field is present."""
        return self._field(slot) is not None

    def number(self, slot: int, kind: str) -> int:
        """Return the number of a field, or its default 0 if it is absent."""
        position = self._field(slot)
        return 0 if position is None else _at(self._data, position, kind)

    def table(self, slot: int) -> "_Table":
        """Return the table that a field refers to."""
        return _Table(self._data, self._referred(slot))

    def pairs(self, slot: int) -> list[tuple[int, int]]:
        """Return a vector of structs of two 64-bit numbers: length and null count of a node, or
        offset and length of a buffer.
        """
        start = self._referred(slot)
        count = _at(self._data, start, "<I")
        if start + 4 + 16 * count > len(self._data):
            raise ValueError("its header is damaged")
        numbers = struct.unpack_from(f"<{2 * count}q", self._data, start + 4)
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def key_values(self, slot: int) -> list[tuple[bytes, bytes]]:
        """Return a vector of tables of two texts each. It is empty if the field is absent."""
        if not self.has(slot):
            return []
        start = self._referred(slot)
        count = _at(self._data, start, "<I")
        if count > _KEY_VALUES_MAX:  # each may refer to the entire header
            raise ValueError("its header is damaged")
        offsets = [start + 4 + 4 * index for index in range(count)]
        tables = [_Table(self._data, offset + _at(self._data, offset, "<I")) for offset in offsets]
        return [(table._text(0), table._text(1)) for table in tables]

    def _text(self, slot: int) -> bytes:
        start = self._referred(slot)
        end = start + 4 + _at(self._data, start, "<I")
        if end > len(self._data):
            raise ValueError("its header is damaged")
        return self._data[start + 4 : end]

    def _referred(self, slot: int) -> int:
        position = self._field(slot)
        if position is None:
            raise ValueError("its header lacks a field")
        return position + _at(self._data, position, "<I")

    def _field(self, slot: int) -> int | None:
        if slot >= self._slots:
            return None
        offset = _at(self._data, self._vtable + 4 + 2 * slot, "<H")
        return self._start + offset if offset else None


def _parse(message: memoryview, kind: int) -> tuple[_Table, memoryview]:
    """Return the header of a message of this kind, and its body. Raises ValueError."""
    marker, size = struct.unpack_from("<Ii", message) if len(message) >= 8 else (0, 0)
    if marker != 0xFFFFFFFF or not 0 < size <= min(METADATA_BYTES_MAX, len(message) - 8):
        raise ValueError("it does not start like an Arrow message of zephyr-fast")
    data = bytes(message[8 : 8 + size])
    header, body = _Table(data, _at(data, 0, "<I")), message[8 + size :]
    if header.number(0, "<h") != _VERSION_5 or header.number(1, "<B") != kind:
        raise ValueError("it is an Arrow message of another version or kind")
    length = header.number(3, "<q")
    if not 0 <= length <= len(body):
        raise ValueError(
            f"its body of {length} bytes is longer than the {len(body)} bytes in the file"
        )
    return header, body[:length] if kind == _RECORD_BATCH else body


def _at(data: bytes, position: int, kind: str) -> int:
    """Return the number at a position."""
    if position < 0:  # struct would count from the end
        raise ValueError("its header is damaged")
    try:
        number: int = struct.unpack_from(kind, data, position)[0]
    except struct.error:  # outside of the data
        raise ValueError("its header is damaged") from None
    return number
