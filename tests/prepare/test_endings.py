"""Files by the endings of their names: what the engine reads, a folder of such files finds too,
whatever the capitals.
"""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

import zephyr_fast
from out_folder import ledger
from zephyr_fast import _core
from zephyr_fast.prepare.inputs import find_inputs
from zephyr_fast.prepare.recipe import read

ROWS = [{"data": [f"Question {number}?", f"Answer {number}."]} for number in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def zstd(path: Path, content: bytes) -> None:
    with pa.output_stream(str(path), compression="zstd") as stream:
        stream.write(content)


def arrow(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def writer_of(ending: str) -> Callable[[Path], object]:
    """What writes the rows as a file of that ending."""
    table = "".join(f"{row['data'][0]},{row['data'][1]}\n" for row in ROWS)
    texts = {
        ".csv": f"question,answer\n{table}".encode(),
        ".tsv": f"question,answer\n{table}".replace(",", "\t").encode(),
    }
    content = next((text for start, text in texts.items() if ending.startswith(start)), LINES)
    writers: dict[str, Callable[[Path], object]] = {
        "gz": lambda path: path.write_bytes(gzip.compress(content)),
        "zst": lambda path: zstd(path, content),
        "xz": lambda path: path.write_bytes(lzma.compress(content)),
        "bz2": lambda path: path.write_bytes(bz2.compress(content)),
        "parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path),
        "feather": lambda path: feather.write_feather(pa.Table.from_pylist(ROWS), path),
        **dict.fromkeys(("arrow", "ipc"), arrow),
        **dict.fromkeys(
            ("jsonl", "json", "ndjson", "csv", "tsv"), lambda path: path.write_bytes(content)
        ),
    }
    return writers[ending.rpartition(".")[2]]


@pytest.mark.parametrize("capitals", [str, str.upper, str.title], ids=["small", "large", "mixed"])
@pytest.mark.parametrize("ending", _core.names("endings"))
def test_a_file_and_its_folder_are_read_alike(
    ending: str, capitals: Callable[[str], str], tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    path = folder / f"part-1{capitals(ending)}"
    writer_of(ending)(path)
    (folder / "README.md").write_text("not a row")
    (folder / f"part-2{ending}.txt").write_text("not a row")
    assert find_inputs("prep", read("ultrachat"), [str(folder)]) == [path]
    for named in (path, folder):
        out = tmp_path / f"out-{named.name}"
        zephyr_fast.prep(input=named, out=out, overrides={"shards.tokens": False})
        assert [line["reason"] for line in ledger(out)] == [None] * len(ROWS)


def test_a_folder_of_other_files_is_refused_with_the_endings_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("a,b\n")
    with pytest.raises(zephyr_fast.InputError, match="no supported files in") as refused:
        find_inputs("prep", read("ultrachat"), [str(tmp_path)])
    with pytest.raises(zephyr_fast.InputError, match=r"cannot read .*rows\.txt") as unread:
        zephyr_fast.prep(
            input=tmp_path / "rows.txt", out=tmp_path / "out", overrides={"shards.tokens": False}
        )
    for error in (refused, unread):
        plain = [ending for ending in _core.names("endings") if ending.count(".") == 1]
        assert ", ".join(plain) in str(error.value)
