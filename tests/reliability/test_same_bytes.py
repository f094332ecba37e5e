"""Fifty runs whose threads sleep by chance, with one to sixteen of them: one set of bytes. And
no row is lost between the stages.
"""

import os
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from faulty import Faulty
from out_folder import files

RUNS = 200 if os.environ.get("ZEPHYR_FAST_LONG") else 10
THREADS = (1, 2, 3, 7, 16)


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Rows in 80 files, which the engine reads in three rounds; many repeat rows of other files,
    so that their order matters.
    """
    folder = tmp_path_factory.mktemp("rounds")
    lines = (
        (Path(zephyr_fast.__file__).parent / "sample" / "ultrachat.jsonl")
        .read_bytes()
        .splitlines(keepends=True)
    )
    for number in range(80):
        part = [lines[(number * 13 + place * 7) % len(lines)] for place in range(12)]
        (folder / f"part-{number:02}.jsonl").write_bytes(b"".join(part))
    settings = {"shards.test_fraction": 0.3, "pack.seq_len": 512}
    return {"input": str(folder / "part-*.jsonl"), "tokenizer": "sample", "overrides": settings}


def check(faulty: Faulty, rounds: dict[str, Any], folder: Path, runs: int) -> None:
    zephyr_fast.prep(**rounds, out=folder / "wanted")
    wanted = files(folder / "wanted")
    for threads in THREADS:
        for number in range(runs):
            out = folder / f"{threads}-{number}"
            done = faulty.run("prep", {**rounds, "out": str(out), "threads": threads}, DELAYS="1")
            assert done.code == 0, done.said
            assert files(out) == wanted, f"{threads} threads"


def test_no_delay_and_no_number_of_threads_changes_a_byte(
    faulty: Faulty, rounds: dict[str, Any], tmp_path: Path
) -> None:
    check(faulty, rounds, tmp_path, RUNS)


def test_the_check_fails_where_rows_come_out_of_order(
    faulty: Faulty, rounds: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = faulty.run
    monkeypatch.setattr(
        faulty,
        "run",
        lambda verb, options, **around: run(verb, options, **around, SABOTAGE="unordered"),
    )
    with pytest.raises(AssertionError):
        check(faulty, rounds, tmp_path, 1)


def test_a_row_that_is_lost_on_its_way_leaves_no_manifest(
    faulty: Faulty, rounds: dict[str, Any], tmp_path: Path
) -> None:
    done = faulty.run("prep", {**rounds, "out": str(tmp_path / "out")}, SABOTAGE="lose_row")
    assert done.code == zephyr_fast.InternalError.exit_code
    assert "row counts do not add up" in done.said
    assert not (tmp_path / "out" / "manifest.json").exists()
