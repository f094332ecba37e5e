"""Damaged and hostile containers end in one clear line, and take no more memory than others."""

import bz2
import gzip
import io
import json
import lzma
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

import zephyr_fast
from bad_rows import quarantine
from containers import ARRAY, LINES, ROWS, built, zstd
from shell import command
from zephyr_fast import InputError, NoRowsWrittenError


def damaged(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "array.json": (damaged(ARRAY), "in the middle of the row that starts in line 1"),
    "object.json": (json.dumps({"data": ROWS}).encode()[:-2], "in the middle of the JSON"),
    "two.json": (ARRAY[:-1] + b"\n]\n[]\n" + ARRAY, "more after the end of the JSON array"),
    "comma.json": (ARRAY.replace(b"]}, {", b"]} {", 1), "expected `,` or `]`"),
    "splits.json": (json.dumps({"train": ROWS, "test": ROWS}).encode(), "more than one list"),
    "utf16.jsonl": (LINES.decode().encode("utf-16"), "UTF-16"),
    "cut.jsonl.gz": (damaged(gzip.compress(LINES)), "decompressed stream"),
    "cut.jsonl.zst": (damaged(zstd(LINES)), "decompressed stream"),
    "cut.jsonl.xz": (damaged(lzma.compress(LINES)), "decompressed stream"),
    "cut.jsonl.bz2": (damaged(bz2.compress(LINES)), "decompressed stream"),
    "behind.jsonl.gz": (gzip.compress(LINES) + b"\0\0junk", "decompressed stream"),
    "wrong.jsonl.xz": (gzip.compress(LINES), "decompressed stream"),
    "bomb.jsonl.xz": (lzma.compress(b" " * (80 << 20)), "as bombs do"),
    "bomb.jsonl.bz2": (bz2.compress(b" " * (80 << 20)), "as bombs do"),
    "bomb.json.gz": (gzip.compress(b"[" + b" " * (80 << 20)), "as bombs do"),
    "window.jsonl.xz": (
        lzma.compress(
            LINES, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 29}]
        ),
        "memory",
    ),
    "quote.csv": (b'a,b\n"' + b"x" * (40 << 20), "closing quote"),
    "twice.csv": (b"a,b,a\n1,2,3\n", "column `a` twice"),
    "empty.csv": (b"", ""),
    "empty.json": (b"[]", ""),
    "empty.jsonl": (b"", ""),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_or_hostile_file_ends_in_one_line(name: str, tmp_path: Path) -> None:
    content, why = HOSTILE[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError if why else NoRowsWrittenError) as refused:
        built(path, tmp_path / "out")
    assert why in str(refused.value) and "\n" not in str(refused.value), refused.value
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_row_with_other_cells_than_the_header_is_quarantined_as_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion\nOne?,Yes.\nTwo?,No.,Why\nThree?\nFour?,Maybe.\n")
    rows = zephyr_fast.prep("chat", input=path, out=tmp_path / "out", tokenizer="sample").rows
    assert (rows.read, rows.written, rows.quarantined) == (4, 2, {"invalid_row": 2})
    bad = quarantine(tmp_path / "out")
    assert [row["line"] for row in bad] == [3, 4]
    assert all("more or fewer cells than the header" in row["detail"] for row in bad)


def test_a_buffer_of_arrow_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    """The size of each compressed buffer is 8 bytes before it."""
    for compression in ("lz4", "zstd"):
        path = tmp_path / f"{compression}.arrow"
        sink = io.BytesIO()
        rows = pa.table({"data": [["a" * 5_000, "b" * 5_000]] * 30})
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_file(sink, rows.schema, options=options) as writer:
            writer.write_table(rows)
        honest = sink.getvalue()
        magic = {"lz4": b"\x04\x22\x4d\x18", "zstd": b"\x28\xb5\x2f\xfd"}[compression]
        text = (300_000).to_bytes(8, "little") + magic
        assert honest.count(text) == 1
        for size, why in [
            (299_999, "does not unpack to the size"),
            (300_001, "does not unpack to the size"),
            (1 << 40, "as bombs do"),
            ((1 << 63) - 1, "as bombs do"),
            (1 << 63, "malformed"),
        ]:
            path.write_bytes(honest.replace(text, size.to_bytes(8, "little") + magic))
            with pytest.raises(InputError) as refused:
                built(path, tmp_path / "out")
            assert why in str(refused.value) and "\n" not in str(refused.value), refused.value


def test_memory_does_not_grow_with_an_array(tmp_path: Path) -> None:
    """A run with a limit of memory that the array would exceed."""
    path = tmp_path / "rows.json"
    row = json.dumps({"data": ["q" * 500, "a " * 2_000]}).encode()
    with open(path, "wb") as file:
        file.write(b"[")
        for number in range(60_000):
            file.write(b"," * (number > 0) + row)
        file.write(b"]")
    line, environment = command(
        "prep", "--input", path, "--out", tmp_path / "out", "--set", "shards.tokens=false",
        "--max-memory", "230MB", "--threads", "1", "--set", "dedup.exact=true",
    )  # fmt: skip
    done = subprocess.run(line, env=environment, capture_output=True, check=False)
    assert path.stat().st_size > 250 << 20
    assert done.returncode == 0, done.stderr
