"""Hostile input files end in typed errors or in rows set aside: no crash, no hang, and memory
that the file's size bounds.
"""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import zephyr_fast
from hostile_inputs import MIB, bombs, fifo, footers, lying_blocks, polars_file, with_batches
from measured import measured
from zephyr_fast import ConfigError, InputError, prep

PACKAGE = str(Path(zephyr_fast.__file__).parents[1])


def run(out: Path, source: Path | str, *arguments: str) -> tuple[int, str, int]:
    """Run `prep` in a process of its own; return its exit code, what it said, and the megabytes
    that it held at most.
    """
    command = [
        sys.executable,
        "-m",
        "zephyr_fast",
        "prep",
        "ultrachat",
        "--tokenizer",
        "sample",
        "--input",
        str(source),
        "--out",
        str(out),
    ]
    done = measured([*command, *arguments], environment=os.environ | {"PYTHONPATH": PACKAGE})
    return done.exit_code, done.said, done.resident_bytes >> 20


@pytest.mark.parametrize("name", footers())
def test_a_footer_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    source = tmp_path / f"{name}.parquet"
    source.write_bytes(footers()[name])
    code, said, megabytes = run(tmp_path / "out", source)
    assert code == 4 and "cannot read" in said and megabytes < 400, (code, said[-300:], megabytes)


@pytest.mark.parametrize("name", lying_blocks())
def test_an_arrow_footer_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    source = tmp_path / f"{name}.arrow"
    source.write_bytes(lying_blocks()[name])
    code, said, megabytes = run(tmp_path / "out", source, "--max-bad-rows", "9999999")
    assert code == 4 and "cannot read" in said and megabytes < 400, (code, said[-300:], megabytes)


def test_what_polars_writes_is_read_as_pyarrow_reads_it(tmp_path: Path) -> None:
    """Its files have the schema at their start in a form of their own: only the footer tells
    where the batches are.
    """
    rows = [
        {"data": [f"Hello {number}", "you " * (number % 7)], "id": str(number), "number": number}
        for number in range(700)
    ]
    frame = pl.DataFrame(rows).with_columns(kind=pl.Series(["a", "b"] * 350, dtype=pl.Categorical))
    frame = pl.concat([frame[:300], frame[300:]], rechunk=False)
    options: dict[str, dict[str, Any]] = {
        "default": {},
        "uncompressed": {"compression": "uncompressed"},
        "oldest": {"compression": "uncompressed", "compat_level": pl.CompatLevel.oldest()},
        "newest": {"compression": "uncompressed", "compat_level": pl.CompatLevel.newest()},
        "zstd": {"compression": "zstd", "compat_level": pl.CompatLevel.newest()},
        "lz4": {"compression": "lz4", "compat_level": pl.CompatLevel.oldest()},
    }
    for name, option in options.items():
        source = tmp_path / f"{name}.arrow"
        frame.write_ipc(source, **option)
        expected = write_lines(
            tmp_path / "rows.jsonl", pa.ipc.open_file(source).read_all().to_pylist()
        )
        settings = {"truecase.enabled": False, "dedup.exact": False, "dedup.near": False}
        # The two names are in the manifests; what was made of the rows is not.
        ours, theirs = (
            prep(
                input=path,
                tokenizer="sample",
                out=tmp_path / path.stem,
                overrides=settings,
                overwrite=True,
            )
            for path in (source, expected)
        )
        assert ours.rows.read == theirs.rows.read == 700, name
        kept = [[card.sha256 for card in of.splits["train"].shards] for of in (ours, theirs)]
        assert kept[0] == kept[1], name


def test_a_footer_in_its_own_words_is_read(tmp_path: Path) -> None:
    """What the lying ones are made by makes one that is read where it tells the truth."""
    source = tmp_path / "true.arrow"
    source.write_bytes(with_batches(polars_file(), lambda place: [place]))
    assert [list(row.values()) for row in pa.ipc.open_file(source).read_all().to_pylist()] == [
        ["one"],
        ["two"],
        ["three"],
        ["four"],
    ]
    code, said, _ = run(tmp_path / "out", source, "--max-bad-rows", "9")
    assert "cannot read" not in said and code in (0, 3), (code, said)


@pytest.mark.parametrize("max_bad_rows", [None, "9999999"])
def test_rows_of_a_byte_take_no_more_memory_than_others(
    tmp_path: Path, max_bad_rows: str | None
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(b"0\n" * 5_000_000)
    code, said, megabytes = run(
        tmp_path / "out", source, *(["--max-bad-rows", max_bad_rows] if max_bad_rows else [])
    )
    assert code in (0, 3) and megabytes < 400, (code, said[-300:], megabytes)


@pytest.mark.parametrize("name", bombs())
def test_a_small_columnar_file_takes_no_gigabytes(tmp_path: Path, name: str) -> None:
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("hostile_inputs.py")), str(tmp_path / name)],
        check=True,
    )
    assert (tmp_path / name).stat().st_size < 8 * MIB
    code, said, megabytes = run(tmp_path / "out", tmp_path / name, "--max-bad-rows", "9999999")
    assert code in (0, 3, 4) and "bug" not in said and megabytes < 400, (
        code,
        said[-300:],
        megabytes,
    )
    # Nothing is lost in silence: rows are set aside, or the run ends in an error.
    assert code != 0 or list((tmp_path / "out" / "_quarantine").iterdir())


@pytest.mark.parametrize("ending", [".jsonl", ".json.gz", ".jsonl.zst", ".parquet", ".arrow"])
def test_only_regular_files_are_opened(tmp_path: Path, ending: str) -> None:
    sources = [fifo(tmp_path / f"fifo{ending}")]
    for device in ("null", "zero", "tty"):
        sources.append(tmp_path / f"{device}{ending}")
        sources[-1].symlink_to(f"/dev/{device}")
    for source in sources:
        with pytest.raises(InputError, match=r"not a regular file|No such device"):
            prep(input=source, tokenizer="sample", out=tmp_path / "out")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"data": ["Hello", "you"]}\n')
    for source in sources[:3]:
        with pytest.raises(InputError, match="not a regular file"):
            prep(
                input=rows,
                tokenizer="sample",
                out=tmp_path / "out",
                decontaminate={"s": f"{source}:q"},
            )


@pytest.mark.parametrize("what", ["members", "lines"])
def test_an_input_that_says_nothing_for_long_is_interrupted(tmp_path: Path, what: str) -> None:
    """Packed members or lines without a row: nothing is handed on, and the reader must look up
    by itself.
    """
    source = tmp_path / "rows.jsonl.gz"
    piece = gzip.compress(b"" if what == "members" else b"\n" * (60 * MIB), 1)
    with source.open("wb") as file:
        for _ in range(400 * MIB // len(piece) if what == "members" else 2_000):
            file.write(piece)
    command = [
        sys.executable,
        "-m",
        "zephyr_fast",
        "prep",
        "ultrachat",
        "--tokenizer",
        "sample",
        "--input",
        str(source),
    ]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": PACKAGE},
    ) as process:
        while not (tmp_path / "out" / "_work").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        # Members may all have been read by then; lines are 120 GB.
        assert process.wait(60) in ((130, 0) if what == "members" else (130,))


def test_a_key_that_no_recipe_has_is_refused(tmp_path: Path) -> None:
    for key in (".".join("a" * 30_000), "." * 30_000, "k" * 100_000):
        with pytest.raises(ConfigError, match="a key has at most 16 parts and 256 bytes"):
            prep(input="sample", tokenizer="sample", out=tmp_path / "out", overrides={key: 1})


def test_evaluation_sets_have_caps(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"data": ["Hello", "you"]}\n')

    def refused(name: str, content: bytes, why: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=why):
            prep(
                input=rows,
                tokenizer="sample",
                out=tmp_path / "out",
                decontaminate={"s": f"{tmp_path / name}:q"},
            )

    refused("open.csv", b'q,other\n"' + b"never closed, " * (2 * MIB), "is a closing quote missing")
    refused("deep.json", b'[{"q": ' + b"[" * 100_000, "in the middle of the row")
    refused("deep.jsonl", b'{"q": ' + b"[" * 100_000 + b"\n", "recursion limit")
    refused("many.jsonl", b'{"q":"a"}\n' * 1_000_001, "exceed 1000000 texts")
    refused("long.jsonl", b'{"q":"' + b"a" * (17 * MIB) + b'"}\n', "16777216")
    refused("array.json", b"[" + b'{"q":"a"},' * 1_000_001 + b"]", "exceed 1000000 texts")


def write_lines(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_instances_with_one_header_cost_their_rows_and_are_all_counted(tmp_path: Path) -> None:
    """Every instance matches every row by its header: the ledger lists the first, the manifest
    counts them all.
    """
    header = " ".join(f"word{number}" for number in range(40))
    sets = write_lines(
        tmp_path / "set.jsonl", [{"q": f"{header} question {number}"} for number in range(4_000)]
    )
    rows = write_lines(
        tmp_path / "rows.jsonl",
        [{"data": [f"{header} " * 20, "yes"]}, {"data": ["Nothing of the kind", "no"]}] * 100,
    )
    settings = {
        "decontaminate.action": "flag",
        "dedup.exact": False,
        "dedup.near": False,
        "truecase.enabled": False,
    }
    manifest = prep(
        input=rows,
        tokenizer="sample",
        out=tmp_path / "out",
        overrides=settings,
        decontaminate={"s": f"{sets}:q"},
    )
    (card,) = manifest.decontamination.sets
    assert (card.instances_matched, card.rows_matched, card.rows_exact) == (4_000, 100, 0)
    found = [
        line
        for line in zephyr_fast.scan_ledger(tmp_path / "out").collect()["contamination"].to_list()
        if line
    ]
    assert len(found) == 100 and all(0 < len(lines) <= 64 for lines in found)
    assert {line["overlap"] for lines in found for line in lines} == {40 / 42}


def test_equal_instances_are_all_counted(tmp_path: Path) -> None:
    sets = write_lines(
        tmp_path / "set.jsonl",
        [{"q": "Who are you?"}] * 3_000
        + [{"q": "one two three four five six seven eight nine"}] * 3_000,
    )
    rows = write_lines(
        tmp_path / "rows.jsonl",
        [
            {"data": [text, "me"]}
            for text in ("who are YOU?", "One two three four five six seven eight nine")
        ],
    )
    settings = {"decontaminate.action": "flag", "truecase.enabled": False}
    manifest = prep(
        input=rows,
        tokenizer="sample",
        out=tmp_path / "out",
        overrides=settings,
        decontaminate={"s": f"{sets}:q"},
    )
    (card,) = manifest.decontamination.sets
    assert (card.instances_matched, card.rows_matched, card.rows_exact) == (6_000, 2, 2)
