"""The same rows in every container give the same tokens, labels and ledger as JSON lines."""

import bz2
import gzip
import json
import lzma
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from containers import ARRAY, LINES, ROWS, built, table, zstd
from out_folder import documents
from shell import command
from zephyr_fast import InputError

datasets = pytest.importorskip("datasets")


def arrow(path: Path, compression: str | None, *, is_stream: bool = False) -> None:
    new = pa.ipc.new_stream if is_stream else pa.ipc.new_file
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as sink, new(sink, table().schema, options=options) as writer:
        writer.write_table(table(), max_chunksize=7)


def several_gzip_members() -> bytes:
    parts = LINES[:777], LINES[777:2_000], LINES[2_000:]
    first, second, third = map(gzip.compress, parts)
    return first + second + b"\0" * 1_000 + third + b"\0" * 70_000


def saved(path: Path) -> None:
    """A dataset of `datasets` with what it leaves beside its rows."""
    datasets.Dataset.from_list(ROWS).save_to_disk(path, num_shards=3)
    shutil.copy(path / "data-00000-of-00003.arrow", path / "cache-1234567890abcdef.arrow")


def snapshot(path: Path) -> None:
    """A download of the Hub, with rows in two directories."""
    (path / "data" / "more").mkdir(parents=True)
    (path / ".cache" / "huggingface").mkdir(parents=True)
    (path / "README.md").write_text("---\n---\n")
    (path / ".gitattributes").write_text("*.parquet filter=lfs\n")
    (path / "dataset_infos.json").write_text('{"default": {"splits": {}}}')
    (path / ".cache" / "huggingface" / "a.jsonl").write_text("{}\n")
    (path / "_ledger").mkdir()
    (path / "_ledger" / "part-0.jsonl").write_text("{}\n")
    (path / "data" / "part-0.jsonl").write_bytes(b"".join(LINES.splitlines(True)[:10]))
    pq.write_table(table().slice(10), path / "data" / "more" / "part-1.parquet")


def transposed(batch: dict[str, list[str]]) -> dict[str, list[object]]:
    """A transform of `datasets`: the columns of rows that are stored as JSON."""
    rows = [json.loads(text) for text in batch["text"]]
    return {name: [row[name] for row in rows] for name in ROWS[0]}


CONTAINERS: dict[str, Callable[[Path], object]] = {
    "array.json": lambda path: path.write_bytes(ARRAY),
    "array.jsonl": lambda path: path.write_bytes(ARRAY),
    "pretty.json": lambda path: path.write_text(json.dumps(ROWS, indent=2, ensure_ascii=False)),
    "compact_lines.json": lambda path: path.write_bytes(
        b"[" + LINES.replace(b"\n", b",\n")[:-2] + b"]"
    ),
    "object.json": lambda path: path.write_text(json.dumps({"version": "1", "data": ROWS})),
    "pretty_object.json": lambda path: path.write_text(
        json.dumps({"data": ROWS, "n": 1}, indent=1)
    ),
    "pretty_rows.json": lambda path: path.write_text(
        "\n".join(json.dumps(row, indent=4) for row in ROWS)
    ),
    "bom_crlf_blank.jsonl": lambda path: path.write_bytes(
        b"\xef\xbb\xbf\r\n" + LINES.replace(b"\n", b"\r\n\r\n")
    ),
    "bom.json": lambda path: path.write_bytes(b"\xef\xbb\xbf" + ARRAY),
    "array.json.gz": lambda path: path.write_bytes(gzip.compress(ARRAY)),
    "members.jsonl.gz": lambda path: path.write_bytes(several_gzip_members()),
    "frames.jsonl.zst": lambda path: path.write_bytes(zstd(LINES[:900]) + zstd(LINES[900:])),
    "rows.jsonl.xz": lambda path: path.write_bytes(
        lzma.compress(LINES[:99]) + lzma.compress(LINES[99:])
    ),
    "rows.jsonl.bz2": lambda path: path.write_bytes(
        bz2.compress(LINES[:99]) + bz2.compress(LINES[99:])
    ),
    "rows.parquet": lambda path: pq.write_table(table(), path, row_group_size=9),
    "pandas.parquet": lambda path: pd.DataFrame(ROWS).to_parquet(path),
    "polars.parquet": lambda path: pl.DataFrame(ROWS).write_parquet(path),
    "file.arrow": partial(arrow, compression=None),
    "lz4.arrow": partial(arrow, compression="lz4"),
    "zstd.arrow": partial(arrow, compression="zstd"),
    "stream_lz4.arrow": partial(arrow, compression="lz4", is_stream=True),
    "default.feather": lambda path: feather.write_feather(table(), path),
    "pandas.feather": lambda path: pd.DataFrame(ROWS).to_feather(path),
    "polars_zstd.ipc": lambda path: pl.DataFrame(ROWS).write_ipc(path, compression="zstd"),
    "polars_lz4.ipc": lambda path: pl.DataFrame(ROWS).write_ipc(path, compression="lz4"),
    "pandas_records.json": lambda path: pd.DataFrame(ROWS).to_json(path, orient="records"),
    "saved": saved,
    "one_split": lambda path: datasets.DatasetDict(
        train=datasets.Dataset.from_list(ROWS)
    ).save_to_disk(path),
    "snapshot": snapshot,
}
"""What writes the rows to a path of that name."""

OBJECTS: dict[str, Callable[[], object]] = {
    "list": lambda: ROWS,
    "generator": lambda: (row for row in ROWS),
    "polars": lambda: pl.DataFrame(ROWS),
    "pandas": lambda: pd.DataFrame(ROWS),
    "pyarrow": table,
    "pyarrow reader": lambda: table().to_reader(max_chunksize=3),
    "datasets": lambda: datasets.Dataset.from_list(ROWS),
    "selected datasets": lambda: datasets.Dataset.from_list(ROWS[::-1]).select(range(39, -1, -1)),
    "iterable datasets": lambda: datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
    "transformed datasets": lambda: datasets.Dataset.from_list(
        [{"text": json.dumps(row)} for row in ROWS]
    ).with_transform(transposed),
    "formatted columns": lambda: datasets.Dataset.from_list(
        [{**row, "weight": 0.5} for row in ROWS]
    ).with_format("numpy", columns=list(ROWS[0])),
    "datasets of arrow": lambda: datasets.Dataset.from_list(ROWS).with_format("arrow"),
    "iterable datasets of arrow": lambda: (
        datasets.Dataset.from_list(ROWS).to_iterable_dataset().with_format("arrow")
    ),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, object]:
    folder = tmp_path_factory.mktemp("expected")
    (folder / "rows.jsonl").write_bytes(LINES)
    made = built(folder / "rows.jsonl", folder / "out")
    assert len(made[0]) == len(ROWS)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_rows_of_json_lines(
    name: str, expected: tuple[object, object], tmp_path: Path
) -> None:
    path = tmp_path / name
    CONTAINERS[name](path)
    assert built(path, tmp_path / "out") == expected


@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_gives_the_rows_of_json_lines(
    name: str, expected: tuple[object, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    out = tmp_path / "out"
    assert built(OBJECTS[name](), out) == expected
    assert list(spool.iterdir()) == [], "the temporary files are gone"
    before = (out / "manifest.json").stat().st_mtime_ns
    assert built(OBJECTS[name](), out) == expected
    assert (out / "manifest.json").stat().st_mtime_ns == before, "equal rows are the same run"


@pytest.mark.parametrize(
    "content",
    [LINES, ARRAY, gzip.compress(LINES), zstd(LINES), lzma.compress(LINES), bz2.compress(LINES)],
    ids=["lines", "array", "gzip", "zstd", "xz", "bzip2"],
)
@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_rows_come_through_stdin(
    name: str, content: bytes, expected: tuple[object, object], tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(
        "[truecase]\nenabled = false\n[dedup]\nnear = false\n[shards]\ntest_fraction = 0.0\n"
    )
    out = tmp_path / "out"
    line, environment = command(
        "prep", tmp_path / "recipe.toml", "--input", name, "--tokenizer", "sample", "--out", out
    )
    done = subprocess.run(line, env=environment, input=content, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert documents(out, "train") == expected[0]


def test_stdin_without_rows_is_refused_and_a_plan_does_not_read_it(tmp_path: Path) -> None:
    for content, why in [(b"", b"empty"), (b"a,b\n1,2\n", b"CSV"), (b" \n", b"empty")]:
        line, environment = command("prep", "--input", "-", *SAMPLE_RUN, "--out", tmp_path / "out")
        done = subprocess.run(
            line, env=environment, input=content, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr.count(b"\n")) == (4, 1), done.stderr
        assert why in done.stderr
    line, environment = command(
        "prep", "--input", "-", *SAMPLE_RUN, "--out", tmp_path / "out", "--dry-run"
    )
    done = subprocess.run(line, env=environment, input=b"", capture_output=True, check=False)
    assert done.returncode == 0 and b"to be read until its end" in done.stdout, done


SAMPLE_RUN = ("--tokenizer", "sample", "--quiet")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    serving = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{serving.server_port}"
    serving.shutdown()
    thread.join()


def test_rows_come_from_a_url(server: str, expected: tuple[object, object], tmp_path: Path) -> None:
    (tmp_path / "served" / "rows.jsonl.gz").write_bytes(gzip.compress(LINES))
    assert built(f"{server}/rows.jsonl.gz?key=secret", tmp_path / "out") == expected
    for name, why in [
        ("missing.jsonl", "404"),
        ("page.html", "does not say its format"),
    ]:
        with pytest.raises(InputError, match=why) as refused:
            built(f"{server}/{name}?key=secret", tmp_path / "other")
        assert "secret" not in str(refused.value)
    with pytest.raises(InputError, match="plain http"):
        built("http://192.0.2.1/rows.jsonl", tmp_path / "other")
    with pytest.raises(InputError, match="not a dataset on the Hub"):
        built("hf://gpt2/rows.jsonl", tmp_path / "other")


def test_a_hub_id_is_looked_up_and_a_dataset_of_several_splits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: tuple[object, object]
) -> None:
    """A dataset in the cache of huggingface_hub, as its own download leaves it."""
    revision = "0" * 40
    cache = tmp_path / "hub" / "datasets--some--rows"
    rows = cache / "snapshots" / revision / "data"
    rows.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(revision)
    (rows / "train-00000-of-00001.jsonl").write_bytes(LINES)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert built("some/rows", tmp_path / "a") == expected
    (rows / "test-00000-of-00001.jsonl").write_bytes(LINES)
    with pytest.raises(InputError, match=r"several splits \(test, train\)"):
        built("some/rows", tmp_path / "b")
    assert built("hf://datasets/some/rows/**/*train*", tmp_path / "c") == expected
    assert built("hf://datasets/some/rows@main/data/train-*", tmp_path / "d") == expected
    with pytest.raises(InputError, match="no such path"):
        built("some/other", tmp_path / "e")


def test_columns_that_no_row_needs_cost_no_file(
    expected: tuple[object, object], tmp_path: Path
) -> None:
    numbers = range(len(ROWS))
    strange = {
        "utc": pa.array(list(numbers), pa.timestamp("us", "UTC")),
        "zone": pa.array(list(numbers), pa.timestamp("ns", "Europe/Berlin")),
        "map": pa.array([[(number, "x")] for number in numbers], pa.map_(pa.int32(), pa.string())),
        "decimal": pa.array(list(numbers), pa.int64()).cast(pa.decimal128(30, 5)),
        "duration": pa.array(list(numbers), pa.duration("ms")),
        "time": pa.array(list(numbers), pa.time64("us")),
        "half": pa.array([1.5] * len(ROWS), pa.float32()).cast(pa.float16()),
        "bytes": pa.array([b"\xff\x00"] * len(ROWS)),
        "words": pa.array(["a", "b"] * (len(ROWS) // 2)).dictionary_encode(),
    }
    wide = table()
    for name, column in strange.items():
        wide = wide.append_column(name, column)
    feather.write_feather(wide, tmp_path / "wide.feather")
    assert built(tmp_path / "wide.feather", tmp_path / "feather") == expected
    pq.write_table(wide.drop_columns("half"), tmp_path / "wide.parquet")
    assert built(tmp_path / "wide.parquet", tmp_path / "parquet") == expected


def test_directories_of_metadata_or_several_splits_are_refused(tmp_path: Path) -> None:
    both = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict(train=both, test=both).save_to_disk(tmp_path / "both")
    with pytest.raises(InputError, match="holds the splits test, train; pass one"):
        built(tmp_path / "both", tmp_path / "out")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match="no supported files in"):
        built(tmp_path / "bare", tmp_path / "out")
    both.save_to_disk(tmp_path / "gone", num_shards=2)
    os.remove(tmp_path / "gone" / "data-00001-of-00002.arrow")
    with pytest.raises(InputError, match=r"data-00001-of-00002\.arrow` is missing"):
        built(tmp_path / "gone", tmp_path / "out")
    (tmp_path / "gone" / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}')
    with pytest.raises(InputError, match="does not list the files"):
        built(tmp_path / "gone", tmp_path / "out")


def test_an_open_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES)
    for mode in ("r", "rb"):
        with open(path, mode) as file, pytest.raises(InputError, match=r"open file.*pass its path"):
            built(file, tmp_path / "out")


def test_objects_without_rows_are_refused_by_name(tmp_path: Path) -> None:
    for given, why in [
        ([], "`input` is empty"),
        ((), "`input` is empty"),
        (iter([]), "`input` is empty"),
        ({"messages": []}, "cannot read rows from a dict"),
        (7, "cannot read rows from a int"),
        ([ROWS[0], 7], "row 1 of `input` is int"),
        ([ROWS[0], {"x": float("nan")}], "row 1 of `input` cannot be written as JSON"),
        ([{"x": object()}], "a value of type object"),
        (pl.DataFrame(ROWS).lazy(), "cannot read rows from a LazyFrame"),
        (datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS)), "one split"),
        (pd.DataFrame({"x": [1, "a"]}), "cannot read the input"),
    ]:
        with pytest.raises(InputError) as refused:
            built(given, tmp_path / "out")
        assert why in str(refused.value), refused.value
