"""Memory does not grow with the text: hostile rows among ordinary ones, four times the rows,
bombs. Measured on the real command.

`ZEPHYR_FAST_LONG=1` compares 500 MB with 2 GB, otherwise 120 MB with 480 MB.
"""

import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bad_rows import quarantine
from out_folder import ledger, manifest
from shell import command

LONG = bool(os.environ.get("ZEPHYR_FAST_LONG"))
SMALL_BYTES = 500_000_000 if LONG else 120_000_000
RESIDENT_BYTES_MAX = 768 << 20
BYTES_A_ROW = 440  # 400, and a tenth more
# Rounds that meet or do not, and row groups that fill up once: the long profile alone is long
# enough to do without.
NOISE_BYTES = 0 if LONG else 64 << 20

# The peak of a child, measured from a small process: what a child's parent had resident counts as
# the child's own until it starts.
MEASURE = """
import json, os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024]), file=sys.stderr)
"""


def peak(*words: str | Path) -> tuple[int, int, str]:
    """Exit code, peak of resident bytes, and what was said, of a command."""
    line, environment = command(*words)
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *line],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    *said, last = measured.stderr.splitlines()
    code, resident_bytes = json.loads(last)
    return code, resident_bytes, "\n".join(said)


def ordinary_rows(path: Path, size: int, hostile: dict[int, bytes]) -> int:
    """Dialogues of some 4 KB that differ, up to so many bytes, with hostile lines at some
    places; gives how many lines there are.
    """
    chance, count = random.Random(7), 0
    words = [
        "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9)))
        for _ in range(4_000)
    ]
    sentences = [" ".join(chance.choices(words, k=12)) for _ in range(20_000)]
    with path.open("wb") as file:
        while file.tell() < size:
            if count in hostile:
                file.write(hostile[count] + b"\n")
            else:
                said = [". ".join(chance.choices(sentences, k=25)) for _ in range(2)]
                file.write(
                    json.dumps(
                        {"id": str(count), "data": [f"Row {count}? {said[0]}", said[1]]}
                    ).encode()
                    + b"\n"
                )
            count += 1
    return count


def test_memory_grows_with_rows_alone_whatever_stands_in_them(tmp_path: Path) -> None:
    long_line = b'{"data": ["' + b"y" * 100_000_000 + b'"]}'
    deep = b'{"data": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}"
    hostile = {5: long_line, 6: deep, 700: long_line, 1_500: deep}
    peaks, counts = [], []
    for size in (SMALL_BYTES, 4 * SMALL_BYTES):
        rows = tmp_path / "rows.jsonl"
        bulk = sum(map(len, hostile.values()))
        counts.append(ordinary_rows(rows, size + bulk, hostile))
        code, resident_bytes, said = peak(
            "prep",
            "--input",
            rows,
            "--tokenizer",
            "sample",
            "--out",
            tmp_path / "out",
            "--overwrite",
        )
        assert code == 0, said
        peaks.append(resident_bytes)
        told = manifest(tmp_path / "out")["rows"]
        assert told["read"] == counts[-1] == len(ledger(tmp_path / "out"))
        assert told["quarantined"] == {"line_too_long": 2, "too_deep": 2}
        with rows.open("rb") as file:
            for row in quarantine(tmp_path / "out"):
                place: Any = row
                file.seek(place["offset"])
                assert file.read(place["length"]) == hostile[place["row_id"]]
                assert place["raw"].encode() == hostile[place["row_id"]][: 64 << 10]
    growth, more = peaks[1] - peaks[0], counts[1] - counts[0]
    print(
        f"{counts} rows, {[peak >> 20 for peak in peaks]} MiB: {growth / more:.0f} bytes a row more"
    )
    assert max(peaks) < RESIDENT_BYTES_MAX
    assert growth < BYTES_A_ROW * more + NOISE_BYTES


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_bomb_is_refused_before_it_goes_off(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"bomb.jsonl.{ending}"
    with (
        gzip.open(path, "wb", 9)
        if ending == "gz"
        else pa.output_stream(str(path), compression="zstd") as file
    ):
        for _ in range(2_000):
            file.write(b'{"data": ["a", "b"]}' + b" " * (1 << 20) + b"\n")
    code, resident_bytes, said = peak(
        "prep", "--input", path, "--tokenizer", "sample", "--out", tmp_path / "out"
    )
    assert code == 4 and path.name in said and "as bombs do" in said, said
    assert resident_bytes < RESIDENT_BYTES_MAX and not (tmp_path / "out" / "manifest.json").exists()


def test_a_line_that_unpacks_to_much_is_set_aside_and_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    good = json.dumps({"data": ["A question?", "An answer."]}).encode()
    with gzip.open(path, "wb") as file:
        for line in (good, b"y" * 50_000_000, b'{"data": ["a", "b"]}'):
            file.write(line + b"\n")
    code, resident_bytes, said = peak(
        "prep", "--input", path, "--tokenizer", "sample", "--out", tmp_path / "out"
    )
    assert code == 0, said
    assert manifest(tmp_path / "out")["rows"]["quarantined"] == {"line_too_long": 1}
    assert resident_bytes < RESIDENT_BYTES_MAX


def test_what_needs_more_than_it_is_given_is_refused_and_smaller_bites_change_no_byte(
    tmp_path: Path,
) -> None:
    rows = tmp_path / "rows.jsonl"
    ordinary_rows(rows, 40_000_000, {})
    words: list[str | Path] = ["prep", "--input", rows, "--tokenizer", "sample", "--threads", "2"]
    code, _, said = peak(*words, "--out", tmp_path / "out", "--max-memory", "30MB")
    assert code == 9 and "30 MB" in said and "--max-memory" in said
    assert not (tmp_path / "out" / "manifest.json").exists()
    code, free, said = peak(*words, "--out", tmp_path / "free")
    assert code == 0, said
    code, held, said = peak(*words, "--out", tmp_path / "held", "--max-memory", "180MB")
    print(f"{free >> 20} MiB free, {held >> 20} MiB held")
    assert code == 0, said
    assert held < 0.93 * free  # 0.84 where it was measured: more than two runs differ by chance
    assert (tmp_path / "held" / "manifest.json").read_bytes() == (
        tmp_path / "free" / "manifest.json"
    ).read_bytes()
    code, _, said = peak(*words, "--out", tmp_path / "other", "--max-memory", "much")
    assert code == 2 and "600MB" in said
