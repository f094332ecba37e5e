"""Prompts in Parquet files of strangers take no more memory than their reader may have."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collecting import endpoints_file
from hostile_inputs import fifo, footers, of_footer, parquet_bombs, part, schema, zigzag
from measured import measured
from shell import command
from zephyr_fast import InputError
from zephyr_fast.collection import parquet, prompts

READER_BYTES_MAX = parquet.MEMORY_BYTES + (200 << 20)
"""With the interpreter and pyarrow itself."""


def refused(path: Path) -> str:
    """What `load` says of a file that it refuses, which is one short line."""
    with pytest.raises(InputError) as error:
        prompts.load([path])
    said = str(error.value)
    assert said.isprintable() and len(said) < 1_500
    return said


@pytest.mark.parametrize("name", ["long_names", "a_row_of_60_million_numbers"])
def test_a_small_file_takes_no_gigabytes(name: str, tmp_path: Path) -> None:
    made = {**footers(), **{key: make for key, make in parquet_bombs().items() if key == name}}[
        name
    ]
    path = tmp_path / "prompts.parquet"
    path.write_bytes(made if isinstance(made, bytes) else made())
    words = ["feedback", "collect", "--prompts", path, "--out", tmp_path / "out", "--dry-run"]
    words += ["--endpoints", endpoints_file(tmp_path, "http://127.0.0.1:9/v1")]
    words += ["--pool", "alpha,beta", "--judge", "judge"]
    line, around = command(*words)
    ended = measured(line, environment=around)
    assert ended.exit_code == InputError.exit_code and ended.said.count("\n") == 1, ended.said
    assert ended.resident_bytes < READER_BYTES_MAX, ended.said


@pytest.mark.parametrize("name", sorted(footers()))
def test_a_footer_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.parquet").write_bytes(footers()[name])
    refused(tmp_path / "prompts.parquet")


@pytest.mark.parametrize("name", sorted(parquet_bombs()))
def test_a_bomb_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.parquet").write_bytes(parquet_bombs()[name]())
    refused(tmp_path / "prompts.parquet")


def test_rows_of_nothing_end_at_the_first(tmp_path: Path) -> None:
    footer = schema([part(b"s", 1), part(b"x")]).replace(b"\x16" + zigzag(0), b"\x16" + zigzag(9))
    (tmp_path / "many.parquet").write_bytes(of_footer(footer))
    refused(tmp_path / "many.parquet")
    pq.write_table(pa.table({"prompt": pa.nulls(10_000_000, pa.string())}), tmp_path / "n.parquet")
    assert "row 1 has no `instruction` or `prompt`" in refused(tmp_path / "n.parquet")


def test_equal_rows_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROOM_BYTES", 1 << 20)
    # Five million rows in some kilobytes: each counts as 32 bytes.
    column = pa.array(["Why?"]).dictionary_encode()
    batch = pa.DictionaryArray.from_arrays(pa.array([0] * 5_000_000, pa.int8()), column.dictionary)
    pq.write_table(pa.table({"prompt": batch}), tmp_path / "many.parquet")
    assert (tmp_path / "many.parquet").stat().st_size < 100_000
    assert "unpacks to more than 200 times its size" in refused(tmp_path / "many.parquet")


def test_what_is_no_text_is_named_and_not_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "prompts.parquet"
    raw = pa.array([b"\xff\xfe"], pa.binary())
    pq.write_table(pa.table({"prompt": raw}), path)
    assert "row 1: `prompt` is not a text" in refused(path)
    pq.write_table(pa.table({"prompt": raw.view(pa.string())}), path)
    assert "can't decode byte 0xff" in refused(path)
    pq.write_table(pa.table({"prompt": ["Why?"], "correct_answers": raw}), path)
    assert "`correct_answers` is not a list of texts" in refused(path)
    pq.write_table(pa.table({"prompt": ["Why?"], "correct_answers": pa.array([[b"x"]])}), path)
    assert "`correct_answers` is not a list of texts" in refused(path)


def test_a_row_is_bounded(tmp_path: Path) -> None:
    text = "".join(map(chr, range(32, 127))) * (parquet.ROW_BYTES_MAX // 94)
    pq.write_table(pa.table({"prompt": [text]}), tmp_path / "prompts.parquet", compression="none")
    assert "a row exceeds 16,777,216 bytes" in refused(tmp_path / "prompts.parquet")


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    assert "not a regular file" in refused(fifo(tmp_path / "prompts.parquet"))
    assert "cannot read" in refused(tmp_path / "none.parquet")


def test_a_reader_that_ends_early_is_no_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"prompt": ["Why?"]}), tmp_path / "prompts.parquet")
    code = 'print(\'{"prompt": "Half"}\', flush=True); import os; os.abort()'
    monkeypatch.setattr(parquet, "COMMAND", [*parquet.COMMAND[:3], code])
    assert "its reader failed" in refused(tmp_path / "prompts.parquet")


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_prompts_are_those_of_the_file(compression: str, tmp_path: Path) -> None:
    texts = [f"Question {n}?\n\u2028 日本 \0 'quoted' \\n" for n in range(100)]
    table = pa.table(
        {
            "other": pa.array([{"a": [1]}] * 100),
            "instruction": pa.array(texts, pa.large_string()),
            "id": pa.array(range(2**62, 2**62 + 100), pa.int64()),
            "source": pa.array(["x", None] * 50).dictionary_encode(),
            "incorrect_answers": [["no", "'None'"], None] * 50,
        }
    )
    pq.write_table(table, tmp_path / "p.parquet", compression=compression, row_group_size=30)
    found = prompts.load([tmp_path / "p.parquet"])
    assert [one.text for one in found.rows] == texts
    assert [one.id for one in found.rows] == [str(2**62 + n) for n in range(100)]
    assert [one.source for one in found.rows] == ["x", ""] * 50
    assert [one.incorrect for one in found.rows] == [("no", "'None'"), ()] * 50
    buffer = io.StringIO(newline="")
    table.drop(["other"]).to_pandas().to_json(buffer, orient="records", lines=True)
    (tmp_path / "p.jsonl").write_text(buffer.getvalue())
    assert prompts.load([tmp_path / "p.jsonl"]).digest == found.digest
