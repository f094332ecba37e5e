"""Values of Parquet and Arrow files that JSON has no form for: bytes are read as the text they
hold, and a column that no shape needs never costs a row.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zephyr_fast
from out_folder import ledger, text_rows

ROWS = [
    [
        {"role": "user", "content": f"Nom d'arbre numéro {number} ?"},
        {"role": "assistant", "content": f'Le chêne "{number}".'},
    ]
    for number in range(3)
]
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def messages(text: pa.DataType, rows: list[Any] = ROWS) -> pa.Array:
    kind = pa.list_(pa.struct([("role", text), ("content", text)]))
    encoded = [
        [{name: value.encode() for name, value in message.items()} for message in row]
        for row in rows
    ]
    return pa.array(rows if pa.types.is_string(text) else encoded, kind)


def saved(path: Path, columns: dict[str, pa.Array]) -> Path:
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pq.write_table(table, path, store_schema=False)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


def prepared(path: Path, out: Path) -> list[dict[str, Any]]:
    settings = {"dedup.near": False, "shards.test_fraction": 0}
    zephyr_fast.prep(input=path, tokenizer="sample", out=out, overrides=settings)
    return ledger(out)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("text", [pa.binary(), pa.large_binary()], ids=str)
def test_text_that_is_stored_as_bytes_is_read_as_text(
    text: pa.DataType, ending: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / f"rows.{ending}", {"messages": messages(text)})
    assert [line["outcome"] for line in prepared(path, tmp_path / "out")] == ["written"] * 3
    written = [row["messages"] for row in text_rows(tmp_path / "out", "train")]
    assert written == ROWS


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_bytes_that_are_no_text_are_never_read_as_text(ending: str, tmp_path: Path) -> None:
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.binary())]))
    bad = [{"role": "user", "content": b"\xff\xfe"}, {"role": "assistant", "content": b"Oak."}]
    good = [{"role": turn["role"], "content": b"Oak."} for turn in bad]
    path = saved(tmp_path / f"rows.{ending}", {"messages": pa.array([bad, good], kind)})
    lines = prepared(path, tmp_path / "out")
    assert [line["reason"] for line in lines] == ["invalid_row", None]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_images_are_told_from_missing_ones_whatever_their_bytes(
    ending: str, tmp_path: Path
) -> None:
    images = pa.array([b"\x89PNG\xff", None, b""], pa.binary())
    columns = {"messages": messages(pa.string()), "image": images}
    lines = prepared(saved(tmp_path / f"rows.{ending}", columns), tmp_path / "out")
    assert [line["reason"] for line in lines] == ["unsupported_field", None, None]


UNUSED = {
    "utc": pa.array([NOON, None, NOON], pa.timestamp("us", "UTC")),
    "named_zone": pa.array([NOON, None, NOON], pa.timestamp("ns", "Europe/Paris")),
    "seconds": pa.array([NOON, None, NOON], pa.timestamp("s", "UTC")),
    "numbered": pa.array([[(1, "a")], [], None], pa.map_(pa.int32(), pa.string())),
    "uuid": pa.array([b"\xff" * 16, None, b"\x00" * 16], pa.binary(16)),
    "embedding": pa.array([b"\xff" * 8, None, b"\x00" * 8], pa.binary(8)),
}


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("column", UNUSED)
def test_a_column_that_no_shape_needs_costs_no_row(
    column: str, ending: str, tmp_path: Path
) -> None:
    columns = {"messages": messages(pa.string()), column: UNUSED[column]}
    lines = prepared(saved(tmp_path / f"rows.{ending}", columns), tmp_path / "out")
    assert [line["outcome"] for line in lines] == ["written"] * 3


def test_a_union_that_no_shape_needs_costs_no_row(tmp_path: Path) -> None:
    kinds, numbers, texts = (
        pa.array([0, 1, 0], pa.int8()),
        pa.array([1, 2, 3]),
        pa.array(list("abc")),
    )
    union = pa.UnionArray.from_sparse(kinds, [numbers, texts])
    path = saved(tmp_path / "rows.arrow", {"messages": messages(pa.string()), "either": union})
    assert [line["outcome"] for line in prepared(path, tmp_path / "out")] == ["written"] * 3


DIGESTS = [bytes([0xF0 + number]) * 20 for number in range(3)]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(20)], ids=str)
@pytest.mark.parametrize("column", ["id", "prompt_id"])
def test_an_id_of_bytes_is_written_as_hex(
    column: str, kind: pa.DataType, ending: str, tmp_path: Path
) -> None:
    columns = {"messages": messages(pa.string()), column: pa.array(DIGESTS, kind)}
    lines = prepared(saved(tmp_path / f"rows.{ending}", columns), tmp_path / "out")
    assert [line["source_id"] for line in lines] == [digest.hex() for digest in DIGESTS]
    assert [line["outcome"] for line in lines] == ["written"] * 3


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_ids_that_are_text_stored_as_bytes_stay_text(ending: str, tmp_path: Path) -> None:
    ids = pa.array([b"row-1", "œ".encode(), b"\x01\x02"], pa.binary())
    columns = {"messages": messages(pa.string()), "id": ids}
    lines = prepared(saved(tmp_path / f"rows.{ending}", columns), tmp_path / "out")
    assert [line["source_id"] for line in lines] == ["row-1", "œ", "0102"]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("kind", [pa.binary(), pa.binary(2)], ids=str)
def test_a_source_of_bytes_that_are_no_text_counts_as_missing(
    kind: pa.DataType, ending: str, tmp_path: Path
) -> None:
    sources = pa.array([b"\xff\xfe", b"ab", None], kind)
    columns = {"messages": messages(pa.string()), "source": sources}
    lines = prepared(saved(tmp_path / f"rows.{ending}", columns), tmp_path / "out")
    assert [line["outcome"] for line in lines] == ["written"] * 3


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_content_of_16_bytes_is_text_and_never_hex(ending: str, tmp_path: Path) -> None:
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.binary(16))]))
    good = [
        {"role": "user", "content": b"Name a tree now?"},
        {"role": "assistant", "content": b"An oak it is, ok"},
    ]
    bad = [{**message, "content": b"\xff" * 16} for message in good]
    path = saved(tmp_path / f"rows.{ending}", {"messages": pa.array([good, bad], kind)})
    assert [line["reason"] for line in prepared(path, tmp_path / "out")] == [None, "invalid_row"]
    (written,) = [row["messages"] for row in text_rows(tmp_path / "out", "train")]
    assert [message["content"] for message in written] == ["Name a tree now?", "An oak it is, ok"]
