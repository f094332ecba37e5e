"""Names of inputs, and how many there are: no name is too long to be set aside, none forges
another set, no number opens too many files.
"""

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

import zephyr_fast
from out_folder import files, ledger, manifest
from shell import command

BAD = "no row\n"


def lines(number: int) -> str:
    return json.dumps({"data": [f"Question {number}?", f"Answer {number}."]}) + "\n" + BAD


def test_any_number_of_inputs_with_rows_set_aside_takes_one_open_file(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"part-{number:03}.jsonl").write_text(lines(number))
    words = [
        "prep",
        "--input",
        str(tmp_path / "part-*.jsonl"),
        "--tokenizer",
        "sample",
        "--out",
        tmp_path / "out",
        "--threads",
        "1",
    ]
    line, environment = command(*words, "--max-bad-rows", "1000")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    done = subprocess.run(
        line, env=environment, preexec_fn=limited, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = sorted(name for name in files(tmp_path / "out") if name.startswith("_quarantine/"))
    assert names == [
        f"_quarantine/{number:05}-part-{number:03}.jsonl.jsonl" for number in range(200)
    ]
    told = [json.loads((tmp_path / "out" / name).read_text()) for name in names]
    assert [(one["row_id"], one["input"]) for one in told] == [
        (2 * number + 1, f"part-{number:03}.jsonl") for number in range(200)
    ]
    zephyr_fast.verify(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("n" * 237 + ".jsonl", "n" * 237 + ".jsonl"),
        ("n" * 238 + ".jsonl", "n" * 238 + ".json"),
        ("n" * 249 + ".jsonl", "n" * 243),
        ("日" * 83 + ".jsonl", "日" * 81),
        ("a\nb\x1b[2J\x7f.jsonl", r"a\nb\u{1b}[2J\u{7f}.jsonl"),
        ("a [b] 'c' -.jsonl", "a [b] 'c' -.jsonl"),
    ],
)
def test_a_row_of_any_input_can_be_set_aside(name: str, kept: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(lines(0))
    zephyr_fast.prep(input=tmp_path / name, tokenizer="sample", out=tmp_path / "out")
    (written,) = (tmp_path / "out" / "_quarantine").iterdir()
    assert written.name == f"00000-{kept}.jsonl" and len(os.fsencode(written.name)) <= 255
    assert (
        json.loads(written.read_text())["input"]
        == name
        == manifest(tmp_path / "out")["inputs"][0]["name"]
    )
    assert len(ledger(tmp_path / "out")) == 2
    zephyr_fast.verify(tmp_path / "out")


def test_no_name_of_an_input_passes_for_two_inputs(tmp_path: Path) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    two.mkdir()
    one.mkdir()
    (two / "a.jsonl").write_text(lines(1))
    (two / "b.jsonl").write_text(lines(2))
    out = tmp_path / "out"
    zephyr_fast.prep(input=[two / "a.jsonl", two / "b.jsonl"], tokenizer="sample", out=out)
    second = manifest(out)["inputs"][1]["blake3"]
    for between in ("\n", "\t", " ", "64:", '","'):
        forged = one / f"a.jsonl{between}{second} b.jsonl"
        shutil.copy(two / "a.jsonl", forged)
        with pytest.raises(zephyr_fast.OutputExistsError, match="inputs"):
            zephyr_fast.prep(input=forged, tokenizer="sample", out=out)
        forged.unlink()
