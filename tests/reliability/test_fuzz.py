"""Mutated inputs of every kind, for as long as `ZEPHYR_FAST_FUZZ_SECONDS` says (2 without it):
typed errors, no crash, no second meaning.

Rows against Python's json, templates against Python's Jinja, manifests and shards whose hashes
are right although their content is hostile, columnar files. `rust/core/tests/twins/fuzz.rs`
holds rows against serde_json. What is found becomes a line of a fixture.
"""

import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

import zephyr_fast
from children import PYTHONPATH
from out_folder import files, ledger, manifest, text_rows
from sample_tokenizer import with_config
from scrambled import place
from zephyr_fast import Shards, ZephyrError
from zephyr_fast.dataset.manifest import seal

SECONDS = float(os.environ.get("ZEPHYR_FAST_FUZZ_SECONDS", "2"))
SEED = int(os.environ.get("ZEPHYR_FAST_SEED", random.randrange(10**6)))
TESTS = Path(__file__).parents[1]
ROWS = [
    *(TESTS.parent / "rust" / "core" / "tests" / "twins" / "hostile_rows.jsonl")
    .read_bytes()
    .splitlines(),
    *(TESTS / "fixtures" / "fuzzed_rows.jsonl").read_bytes().splitlines(),
]
COLUMNAR = ("rows.parquet", "rows.arrow", "polars.arrow", "nested.parquet", "nested.arrow")
PIECES = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"0",
    b"-",
    b"1e999",
    b"\\ud800",
    b"\xed\xa0\x80",
    b"\xff",
    b"\x00",
    b"null",
    b" ",
]


def until_time_is_up() -> Iterator[random.Random]:
    """One generator of chance per case, each from its own seed, so that a case can be replayed
    alone.
    """
    end, number = time.monotonic() + SECONDS, 0
    print(f"seed {SEED}")
    while time.monotonic() < end:
        yield random.Random(f"{SEED} {number}")
        number += 1
    print(f"{number} cases")


def mutated(content: bytes, chance: random.Random, pieces: list[bytes], changes: int = 6) -> bytes:
    damaged = bytearray(content)
    for _ in range(chance.randint(1, changes)):
        start = chance.randrange(len(damaged) + 1)
        end = min(len(damaged), start + chance.choice([0, 0, 1, 1, 2, 8, 40]))
        kind = chance.randrange(4)
        if kind == 0 and start < len(damaged):
            damaged[start] ^= 1 << chance.randrange(8)
        elif kind == 1:
            damaged[start:end] = chance.choice(pieces)
        elif kind == 2:
            damaged[start:start] = damaged[start:end] * chance.randint(1, 3)
        else:
            del damaged[start:end]
    return bytes(damaged)


def test_what_is_no_json_to_us_is_none_to_python_and_what_is_a_row_says_the_same(
    tmp_path: Path,
) -> None:
    settings = {
        "dedup.near": False,
        "dedup.exact": False,
        "source.shape": "alternating",
        "truecase.enabled": False,
        "shards.test_fraction": 0.0,
    }
    for number, chance in enumerate(until_time_is_up()):
        lines = [
            mutated(chance.choice(ROWS), chance, PIECES).replace(b"\n", b" ").replace(b"\r", b" ")
            for _ in range(400)
        ]
        lines = [line for line in lines if line.strip(b" \t\r\n\x0b\x0c")]
        path, out = tmp_path / f"{number}.jsonl", tmp_path / f"out-{number}"
        path.write_bytes(b'{"data": ["first", "row"]}\n' + b"\n".join(lines) + b"\n")
        kept = []
        zephyr_fast.prep(
            input=path, tokenizer="sample", out=out, overrides=settings, max_bad_rows=1_000
        )
        for line, told in zip(lines, ledger(out)[1:], strict=True):
            means = python_reads(line)
            reason = told["reason"] if told["outcome"] == "quarantined" else None
            where = (
                f"ZEPHYR_FAST_SEED={SEED}, {line!r}: "
                f"{told['outcome']} {told['reason']} {told['detail']}"
            )
            if reason == "invalid_utf8":
                with pytest.raises(UnicodeDecodeError):
                    line.decode()
                    pytest.fail(where)
            elif reason == "invalid_json":
                assert means is None or lenient(line), where
            elif reason is None:
                assert isinstance(means, dict) and isinstance(means["data"], list), where
                kept += [means["data"]] if told["outcome"] == "written" else []
        assert [
            [turn["content"] for turn in row["messages"]] for row in text_rows(out, "train")[1:]
        ] == kept
        shutil.rmtree(out)
        path.unlink()


def python_reads(line: bytes) -> Any:
    """What the line means; None where it means nothing. A list stands for null, so that it is
    told from that.
    """
    try:
        means = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return [] if means is None else means


def lenient(line: bytes) -> bool:
    """Whether the line has what Python takes for JSON and the standard does not: NaN, halves of
    surrogates, numbers without end.
    """
    text = line.decode()
    if re.search(r"NaN|Infinity|\\u[dD][89a-fA-F]|\d[eE]|\d{300}", text):
        return True
    return text != text.lstrip("\ufeff")


def test_templates_write_what_python_writes_or_are_refused(tmp_path: Path) -> None:
    jinja = pytest.importorskip("test_jinja_expressions")
    folder = with_config(tmp_path / "tokenizer", jinja.SPECIAL)
    words = sorted(
        {word for line in jinja.EXPRESSIONS for word in re.findall(r"\w+|[^\w\s]|\s+", line)}
    )
    for chance in until_time_is_up():
        parts = re.findall(r"\w+|[^\w\s]|\s+", chance.choice(jinja.EXPRESSIONS))
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(parts) + 1)
            other = re.findall(r"\w+|[^\w\s]|\s+", chance.choice(jinja.EXPRESSIONS))
            start = chance.randrange(len(other))
            new = chance.choice(
                [[], [chance.choice(words)], other[start : start + chance.randint(1, 6)]]
            )
            parts[place : place + chance.randint(0, 2)] = new
        expression = "".join(parts)
        # What ends the expression, takes Python's time and memory, or is another text each time.
        if re.search(r"%}|}}|{{|{%|\d{5}|\*\*|random|lipsum|strftime", expression):
            continue
        try:
            jinja.test_the_engine_writes_what_python_writes_or_refuses(expression, folder, tmp_path)
        except AssertionError as error:
            raise AssertionError(f"ZEPHYR_FAST_SEED={SEED}: {expression}") from error


@pytest.fixture(scope="module")
def shards_and_columns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set, and rows as Parquet and Arrow."""
    folder = tmp_path_factory.mktemp("fuzz")
    zephyr_fast.prep(
        input="sample",
        out=folder / "out",
        overrides={"shards.shard_bytes_max": 1 << 20, "shards.text": False},
    )
    table = pa.table(
        {"id": ["a", "b", None] * 20, "data": [["Hi", "Ho"], ["x" * 300, ""], None] * 20}
    )
    pq.write_table(table, folder / "rows.parquet", compression="zstd", row_group_size=17)
    with pa.ipc.new_file(str(folder / "rows.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=17)
    pl.DataFrame(table).write_ipc(folder / "polars.arrow", compression="uncompressed")
    # What repeats itself: values that stand for many, lists in lists, pages that share their
    # starts.
    shared = table.append_column("kind", pa.array(["user", "assistant"] * 30).dictionary_encode())
    nested = shared.append_column("nested", pa.array([[{"a": [[{"b": "x" * 9}]]}] * 3, []] * 30))
    options = {
        "use_dictionary": False,
        "column_encoding": {"id": "DELTA_BYTE_ARRAY"},
        "data_page_version": "2.0",
        "compression": "gzip",
    }
    pq.write_table(nested.drop_columns("kind"), folder / "nested.parquet", **options)
    with pa.ipc.new_stream(str(folder / "nested.arrow"), nested.schema) as writer:
        writer.write_table(nested, max_chunksize=17)
    return folder


def test_hostile_manifests_and_shards_with_the_right_hashes_end_in_typed_errors(
    shards_and_columns: Path, tmp_path: Path
) -> None:
    """In a process of its own, which must live: Arrow's readers have been seen to die of such
    bytes.
    """
    folder = Path(shutil.copytree(shards_and_columns / "out", tmp_path / "out"))
    done = program("shards", folder)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)


def test_hostile_columnar_files_end_in_typed_errors(
    shards_and_columns: Path, tmp_path: Path
) -> None:
    for name in COLUMNAR:
        shutil.copy(shards_and_columns / name, tmp_path / name)
    done = program("columns", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)


def program(what: str, folder: Path) -> subprocess.CompletedProcess[str]:
    around = os.environ | {
        "PYTHONPATH": PYTHONPATH,
        "ZEPHYR_FAST_SEED": str(SEED),
        "PYTHONFAULTHANDLER": "1",
    }
    return subprocess.run(
        [sys.executable, __file__, what, str(folder)],
        capture_output=True,
        text=True,
        env=around,
        check=False,
    )


def fuzz_shards(folder: Path) -> None:
    whole, told = files(folder), manifest(folder)
    for chance in until_time_is_up():
        forged = json.loads(json.dumps(told))
        split = chance.choice(list(forged["splits"]))
        card = chance.choice(forged["splits"][split]["shards"])
        batch = chance.choice(card["batches"])
        name = card["file"]
        content = bytearray(whole[name])
        span = slice(
            batch["offset"],
            batch["offset"] + min(batch["bytes"], chance.choice([600, batch["bytes"]])),
        )
        for _ in range(chance.randint(1, 8)):  # mostly of the metadata, which lies in front
            content[chance.randrange(span.start, span.stop)] = chance.choice(
                [0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)]
            )
        batch["xxh3"] = xxhash.xxh3_64(
            bytes(content[batch["offset"] : batch["offset"] + batch["bytes"]])
        ).hexdigest()
        if chance.random() < 0.3:
            scramble(forged, chance)
        (folder / name).write_bytes(content)
        (folder / "manifest.json").write_text(seal(forged))
        for read in (
            lambda: [list(Shards(folder, split)) for split in told["splits"]],
            lambda: zephyr_fast.verify(folder),
        ):
            try:
                read()
            except ZephyrError as error:
                assert not isinstance(error, zephyr_fast.InternalError), error
        (folder / name).write_bytes(whole[name])


def scramble(value: Any, chance: random.Random) -> None:
    """Somewhere in the manifest, something of another kind or size."""
    value, key = place(value, chance)
    value[key] = chance.choice(
        [
            0,
            -1,
            2**31,
            2**63 - 1,
            2**64,
            1e308,
            "",
            "x" * 5_000,
            None,
            [],
            {},
            [[]],
            True,
            "../../etc/passwd",
            "\ud800"[:0],
        ]
    )


def fuzz_columns(folder: Path) -> None:
    # Memory is bounded too: an allocation beyond this ends the process.
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    whole = {name: (folder / name).read_bytes() for name in COLUMNAR}
    for number, chance in enumerate(until_time_is_up()):
        name = COLUMNAR[number % len(COLUMNAR)]
        (folder / name).write_bytes(
            mutated(
                whole[name], chance, [b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"PAR1", b"ARROW1"]
            )
        )
        try:
            zephyr_fast.prep(
                input=folder / name,
                tokenizer="sample",
                out=folder / "out",
                max_bad_rows=1_000,
                overwrite=True,
            )
        except ZephyrError as error:
            assert not isinstance(error, zephyr_fast.InternalError), (
                f"ZEPHYR_FAST_SEED={SEED}, case {number}: {error}"
            )


if __name__ == "__main__":
    {"shards": fuzz_shards, "columns": fuzz_columns}[sys.argv[1]](Path(sys.argv[2]))
