"""Same rows, recipe and version: the same bytes in every file, whatever the threads, the folder,
the order or the clock's zone.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import commands
import zephyr_fast
from out_folder import files, manifest, shard_rows, text_rows
from reference_rows import every

SAMPLE = Path(zephyr_fast.__file__).parent / "sample"
Run = Callable[..., dict[str, bytes]]


@pytest.fixture(params=["prep", "binarize"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Does the command on the packaged rows, cut into three files, into a new folder; gives
    every byte written.
    """
    lines = (
        (SAMPLE / ("ultrachat.jsonl" if request.param == "prep" else "ultrafeedback.jsonl"))
        .read_bytes()
        .splitlines(keepends=True)
    )
    inputs = []
    for number in range(3):
        inputs.append(tmp_path / f"part-{number}.jsonl")
        inputs[-1].write_bytes(b"".join(lines[number * 110 : (number + 1) * 110]))

    def once(name: str, **changes: Any) -> dict[str, bytes]:
        settings = {"shards.test_fraction": 0.3, **changes.pop("overrides", {})}
        verb = zephyr_fast.prep if request.param == "prep" else zephyr_fast.binarize
        verb(
            **{
                "input": inputs,
                "tokenizer": "sample",
                "out": tmp_path / name,
                "overrides": settings,
                **changes,
            }
        )
        return files(tmp_path / name)

    once.inputs = inputs  # type: ignore[attr-defined]
    return once


def test_the_bytes_do_not_depend_on_the_number_of_threads(run: Run) -> None:
    wanted = run("one", threads=1)
    assert {
        "manifest.json",
        "README.md",
        "train-00000.arrow",
        "text/train-00000.parquet",
        "_ledger/part-00000.parquet",
    } <= set(wanted)
    for threads in (2, 3, 4, 7):
        assert run(f"threads-{threads}", threads=threads) == wanted


def test_the_bytes_do_not_depend_on_the_order_in_which_inputs_are_named(run: Run) -> None:
    inputs = run.inputs  # type: ignore[attr-defined]
    wanted = run("in-order")
    assert run("backwards", input=inputs[::-1]) == wanted
    assert run("as-a-folder", input=[str(inputs[0].parent / "part-*.jsonl")]) == wanted


def test_the_bytes_do_not_depend_on_where_the_inputs_lie(run: Run, tmp_path: Path) -> None:
    wanted = run("here")
    elsewhere = tmp_path / "quite" / "another place"
    elsewhere.mkdir(parents=True)
    moved = [Path(shutil.copy(path, elsewhere / path.name)) for path in run.inputs]  # type: ignore[attr-defined]
    assert run("there", input=moved) == wanted


def test_inputs_of_another_name_or_content_are_another_run(run: Run, tmp_path: Path) -> None:
    inputs = run.inputs  # type: ignore[attr-defined]
    first = json.loads(run("first")["manifest.json"])["fingerprint"]
    renamed = inputs[0].rename(inputs[0].with_name("part-0-renamed.jsonl"))
    assert (
        json.loads(run("renamed", input=[renamed, *inputs[1:]])["manifest.json"])["fingerprint"]
        != first
    )
    renamed.rename(inputs[0]).open("ab").write(b"\n")
    assert json.loads(run("longer")["manifest.json"])["fingerprint"] != first


def test_the_bytes_do_not_depend_on_time_zone_locale_or_working_folder(
    run: Run, tmp_path: Path
) -> None:
    wanted = run("here")
    command = "prep" if json.loads(wanted["manifest.json"])["kind"] == "sft" else "binarize"
    for number, (zone, locale) in enumerate(
        [("Asia/Kathmandu", "C"), ("America/St_Johns", "tr_TR.UTF-8"), ("UTC", "POSIX")]
    ):
        folder = tmp_path / f"cwd-{number}"
        folder.mkdir()
        package = str(Path(zephyr_fast.__file__).parents[1])
        environment = os.environ | {
            "TZ": zone,
            "LC_ALL": locale,
            "LANG": locale,
            "PYTHONPATH": package,
            "PYTHONHASHSEED": str(number),
        }
        words = [
            "zephyr_fast",
            command,
            "--input",
            "../part-*.jsonl",
            "--tokenizer",
            "sample",
            "--out",
            "out",
        ]
        words += ["--set", "shards.test_fraction=0.3", "--threads", str(number + 1)]
        subprocess.run(
            [sys.executable, "-m", *words],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )
        assert files(folder / "out") == wanted


def test_another_seed_moves_only_what_pairs_are_picked(tmp_path: Path) -> None:
    for seed in (42, 43):
        zephyr_fast.prep(input="sample", out=tmp_path / f"sft-{seed}", overrides={"seed": seed})
        zephyr_fast.binarize(input="sample", out=tmp_path / f"dpo-{seed}", overrides={"seed": seed})
    for split in ("train", "test"):
        assert shard_rows(tmp_path / "sft-42", split) == shard_rows(tmp_path / "sft-43", split)
        first, second = (text_rows(tmp_path / f"dpo-{seed}", split) for seed in (42, 43))
        assert [row["chosen"] for row in first] == [row["chosen"] for row in second]
    assert [row["rejected"] for row in text_rows(tmp_path / "dpo-42", "train")] != [
        row["rejected"] for row in second
    ]
    assert manifest(tmp_path / "dpo-42")["rows"] == manifest(tmp_path / "dpo-43")["rows"]


def test_no_file_says_where_it_was_made(run: Run, tmp_path: Path) -> None:
    written = run("quiet", threads=2)
    for name, content in written.items():
        assert str(tmp_path).encode() not in content, name


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("prep", "ultrachat/raw_mix_open.jsonl.zst"),
        ("binarize", "ultrafeedback/raw_scored.jsonl.gz"),
    ],
)
def test_real_rows_give_the_same_bytes_for_any_threads(
    command: str, name: str, real: Path, tmp_path: Path
) -> None:
    path = every(5 if command == "prep" else 1, real / name, tmp_path)
    verb = commands.function(command)
    tokenizer = real / "tokenizers" / "zephyr-7b-beta-composed"
    for threads in (1, 2, 3, 7):
        verb(input=path, tokenizer=tokenizer, out=tmp_path / str(threads), threads=threads)
    assert all(files(tmp_path / str(threads)) == files(tmp_path / "1") for threads in (2, 3, 7))
