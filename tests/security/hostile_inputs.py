"""Input files that a few bytes make large, deep or endless; each is named by what it tries."""

import io
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

MIB = 1 << 20


def varint(number: int) -> bytes:
    """Return a number as Thrift writes lengths."""
    written = b""
    while number > 127:
        written += bytes([number & 127 | 128])
        number >>= 7
    return written + bytes([number])


def zigzag(number: int) -> bytes:
    """Return a signed number as Thrift writes it."""
    return varint((number << 1) ^ (number >> 63))


def part(name: bytes, children: int | None = None) -> bytes:
    """Return a group of a schema, or a column of 32-bit numbers where it has no children."""
    kind = b"" if children is not None else b"\x15" + zigzag(1)
    head = (
        kind
        + (b"\x35" if children is not None else b"\x25")
        + zigzag(0)
        + b"\x18"
        + varint(len(name))
        + name
    )
    return head + (b"\x15" + zigzag(children) if children is not None else b"") + b"\0"


def of_footer(footer: bytes) -> bytes:
    """Return a Parquet file with this footer and nothing else."""
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def schema(parts: list[bytes], claimed: int | None = None) -> bytes:
    """Return a footer with these parts of a schema, no rows and no row groups."""
    count = len(parts) if claimed is None else claimed
    return (
        b"\x15"
        + zigzag(1)
        + b"\x19\xfc"
        + varint(count)
        + b"".join(parts)
        + b"\x16"
        + zigzag(0)
        + b"\x19\x0c\0"
    )


def deep_schema(levels: int) -> bytes:
    """Return a Parquet file whose one column lies in so many groups."""
    return of_footer(schema([part(b"s", 1), *[part(b"a", 1)] * levels, part(b"x")]))


def footers() -> dict[str, bytes]:
    """Return Parquet files whose footers lie or are too large."""
    long_names = [part(b"s", 1), part(b"n" * 1_000_000, 900), *[part(b"x")] * 900]
    return {
        "deep_100": deep_schema(100),
        "deep_1_000": deep_schema(1_000),
        "deep_30_000": deep_schema(30_000),
        "deep_1_000_000": deep_schema(1_000_000),
        "wide": of_footer(schema([part(b"s", 200_000), *[part(b"x")] * 200_000])),
        "long_names": of_footer(schema(long_names)),
        "more_children_than_parts": of_footer(schema([part(b"s", 2**31 - 1), part(b"x")])),
        "fewer_than_no_children": of_footer(schema([part(b"s", -1), part(b"x")])),
        "list_longer_than_the_file": of_footer(schema([part(b"s", 1)], claimed=2**31 - 1)),
        "footer_longer_than_the_file": b"PAR1" + struct.pack("<I", 2**32 - 1) + b"PAR1",
        "structs_in_structs": of_footer(b"\x9c" + b"\x1c" * 100_000),
        "lists_in_lists": of_footer(b"\x99" + b"\x19" * 100_000),
    }


def table_of(column: pa.Array) -> pa.Table:
    """Return a table of prompts."""
    return pa.table({"prompt": column})


def parquet(table: pa.Table, **options: object) -> bytes:
    """Return a table as a Parquet file."""
    written = io.BytesIO()
    pq.write_table(table, written, **{"compression": "zstd", **options})
    return written.getvalue()


def arrow_stream(table: pa.Table, compression: str | None = None) -> bytes:
    """Return a table as an Arrow stream."""
    written = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(written, table.schema, options=options) as writer:
        writer.write_table(table)
    return written.getvalue()


def parquet_bombs() -> dict[str, Callable[[], bytes]]:
    """Return makers of small Parquet files that come to gigabytes."""
    text = "x" * (4 * MIB)
    items = pa.array(["x" * MIB])
    many = pa.ListArray.from_arrays(
        pa.array([0, 3_000]),
        pa.DictionaryArray.from_arrays(pa.array([0] * 3_000, pa.int32()), items),
    )
    numbers = pa.ListArray.from_arrays(pa.array([0, 60_000_000], pa.int32()), zeros(60_000_000))
    one = pa.array([["x" * 100] * 10] * 4)
    return {
        "one_cell_in_400_rows": lambda: parquet(table_of(pa.array([text] * 400))),
        "one_cell_in_400_rows_as_a_category": lambda: parquet(
            table_of(pa.array([text] * 400).dictionary_encode())
        ),
        "one_item_3000_times_in_a_row": lambda: parquet(table_of(many)),
        "a_row_of_60_million_numbers": lambda: parquet(table_of(numbers)),
        "gzip_page_of_zeros": lambda: parquet(
            table_of(pa.array(["\0" * (200 * MIB)])), compression="gzip", use_dictionary=False
        ),
        "brotli_page_of_zeros": lambda: parquet(
            table_of(pa.array(["\0" * (200 * MIB)])), compression="brotli", use_dictionary=False
        ),
        "values_that_repeat_their_starts": lambda: parquet(
            table_of(pa.array([["x" * MIB] * 300])),
            use_dictionary=False,
            column_encoding={"prompt.list.element": "DELTA_BYTE_ARRAY"},
        ),
        "lists_without_bounds": lambda: lying_page(
            parquet(table_of(one), use_dictionary=False, compression="none")
        ),
    }


def zeros(count: int) -> pa.Array:
    """Return so many zeros without a list of them."""
    return pa.Array.from_buffers(pa.int8(), count, [None, pa.py_buffer(bytes(count))])


def lying_page(content: bytes) -> bytes:
    """Return the file with 2 GiB for the size of its first page."""
    at = content.index(b"\x15\x00\x15", 4) + 2
    size_end = at + 1
    while content[size_end] & 128:
        size_end += 1
    lie = b"\x15" + zigzag(2**31 - 1)
    return content[:at] + lie + content[size_end + 1 :]


def bombs() -> dict[str, Callable[[], bytes]]:
    """Return all makers, by the name of their file."""
    parquets = {f"{name}.parquet": make for name, make in parquet_bombs().items()}
    return parquets | {f"{name}.arrow": make for name, make in arrow_bombs().items()}


def arrow_bombs() -> dict[str, Callable[[], bytes]]:
    """Return makers of small Arrow streams that come to gigabytes."""
    text = pa.array(["x" * (4 * MIB)])
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000, pa.int32()), text)
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2**31 - 1], pa.int32()), text)
    nulls = pa.FixedSizeListArray.from_arrays(
        pa.Array.from_buffers(pa.null(), 2**30, [None]), 2**30
    )
    views = pa.ListViewArray.from_arrays(
        pa.array([0] * 500, pa.int32()), pa.array([1] * 500, pa.int32()), text
    )
    return {
        "one_value_in_2000_rows": lambda: arrow_stream(table_of(shared)),
        "one_value_in_2_billion_rows": lambda: arrow_stream(table_of(runs)),
        "a_billion_nulls_in_a_row": lambda: arrow_stream(table_of(nulls)),
        "lists_that_share_their_value": lambda: arrow_stream(table_of(views)),
        "few_rows_of_nothing": lambda: arrow_stream(
            table_of(pa.Array.from_buffers(pa.null(), 4_000_000, [None]))
        ),
        "rows_of_nothing": lambda: arrow_stream(
            table_of(pa.Array.from_buffers(pa.null(), 2**31 - 1, [None]))
        ),
        "packed_zeros_zstd": lambda: arrow_stream(table_of(pa.array(["\0" * (300 * MIB)])), "zstd"),
        "packed_zeros_lz4": lambda: arrow_stream(table_of(pa.array(["\0" * (300 * MIB)])), "lz4"),
    }


def polars_file(rows: int = 4) -> bytes:
    """Return an Arrow file with one batch that no stream precedes, so that its footer must be
    read.
    """
    written = io.BytesIO()
    pl.DataFrame({"prompt": ["one", "two", "three", "four"] * (rows // 4)}).write_ipc(
        written, compression="uncompressed"
    )
    return written.getvalue()


Place = tuple[int, int, int]
"""Where a footer has a message: its start, the bytes of its head, those of its body."""


def with_batches(content: bytes, change: Callable[[Place], list[Place]]) -> bytes:
    """Return an Arrow file of one batch whose footer has other ones."""
    footer_start = len(content) - 10 - struct.unpack("<I", content[-10:-6])[0]
    footer = bytearray(content[footer_start:-10])
    # The list of blocks is a count and what is told of each; something in front of it has the way
    # to it.
    found = (
        at
        for at in range(0, len(footer) - 28, 4)
        if footer[at : at + 4] == b"\1\0\0\0" and is_place(footer, at + 4, footer_start)
    )
    at = next(found)
    start, head, body = struct.unpack_from("<qi4xq", footer, at + 4)
    way = next(
        way for way in range(0, at, 4) if struct.unpack_from("<I", footer, way)[0] == at - way
    )
    places = change((start, head, body))
    footer += bytes(-(len(footer) + 4) % 8)
    struct.pack_into("<I", footer, way, len(footer) - way)
    footer += struct.pack("<I", len(places)) + b"".join(
        struct.pack("<qi4xq", *place) for place in places
    )
    return content[:footer_start] + footer + struct.pack("<I", len(footer)) + b"ARROW1"


def is_place(footer: bytes | bytearray, at: int, end: int) -> bool:
    """Return whether a footer may have the one message there, which ends before it."""
    start, head, body = struct.unpack_from("<qi4xq", footer, at)
    return 0 < start < end and head > 8 and body > 0 and start + head + body <= end


def lying_blocks() -> dict[str, bytes]:
    """Return Arrow files whose footers lie about their batches."""
    content = polars_file()
    lies: dict[str, Callable[[Place], list[Place]]] = {
        "outside": lambda _: [(1 << 40, 64, 64)],
        "beyond_all_numbers": lambda at: [(2**63 - 1, 2**31 - 1, 2**63 - 1)],
        "into_the_footer": lambda at: [(at[0], at[1], at[2] + 4096)],
        "before_the_file": lambda at: [(-8, at[1], at[2])],
        "head_of_less_than_nothing": lambda at: [(at[0], -at[1], at[2])],
        "body_of_less_than_nothing": lambda at: [(at[0], at[1], -1)],
        "no_head": lambda at: [(at[0], 0, 0)],
        "short_head": lambda at: [(at[0], 16, at[2])],
        "short_body": lambda at: [(at[0], at[1], 8)],
        "twice": lambda at: [at, at],
        "overlapping": lambda at: [at, (at[0] + 8, at[1], at[2] - 8)],
        "a_million": lambda at: [at] * 1_000_000,
        "two_million_of_nothing": lambda at: [(8, 8, 0)] * 2_000_000,
        "shifted": lambda at: [(at[0] + 8, at[1] - 8, at[2])],
    }
    forged = {name: with_batches(content, change) for name, change in lies.items()}
    forged["long_footer"] = content[:8] + bytes(65 * MIB) + struct.pack("<I", 65 * MIB) + b"ARROW1"
    forged["footer_longer_than_the_file"] = content[:-10] + struct.pack("<I", 2**32 - 1) + b"ARROW1"
    forged["no_footer"] = content[:-10] + struct.pack("<I", 0) + b"ARROW1"
    return forged


def fifo(path: Path) -> Path:
    """Make a FIFO that nobody writes to."""
    os.mkfifo(path)
    return path


if __name__ == "__main__":
    # In a process of its own: what a process held is what the system tells of those that it starts.
    Path(sys.argv[1]).write_bytes(bombs()[Path(sys.argv[1]).name]())
