"""The same command on a finished dataset: nothing to do, or what is missing from it."""

import os
import shutil
from pathlib import Path

import pytest

import zephyr_fast
from shell import rows_file, shell
from zephyr_fast import IntegrityError, Manifest


def build(out: Path, *, overwrite: bool = False) -> Manifest:
    return zephyr_fast.prep(input="sample", out=out, overwrite=overwrite)


def test_a_rerun_names_a_file_that_is_missing_or_has_another_size(tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = build(out)
    named = [shard.file for split in manifest.splits.values() for shard in split.shards]
    named += [text.file for split in manifest.splits.values() for text in split.text]
    named += [file.file for file in manifest.files]
    for file in named:
        whole = (out / file).read_bytes()
        os.remove(out / file)
        with pytest.raises(IntegrityError, match=f"{file}` is missing or has the wrong size"):
            build(out)
        (out / file).write_bytes(whole[:-1])
        with pytest.raises(IntegrityError, match="rebuild it with --overwrite"):
            build(out)
        (out / file).write_bytes(whole)
        assert build(out) == manifest
    os.remove(out / named[0])
    assert build(out, overwrite=True) == manifest
    assert not zephyr_fast.verify(out).problems


def test_a_dataset_inside_the_input_directory_is_not_read_as_rows(tmp_path: Path) -> None:
    given = tmp_path / "given"
    (given / "more").mkdir(parents=True)
    rows_file(given / "rows.jsonl", 20)
    (given / "more" / "manifest.json").write_text('{"engine": "another", "schema": 3}')
    shutil.copy(rows_file(tmp_path / "rows.jsonl", 30), given / "more" / "rows.jsonl")
    out = given / "more" / "out"

    def run(out: Path) -> str:
        done = shell("prep", "chat", "--input", given, "--out", out, "--tokenizer", "sample")
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert "warning" not in run(out)
    first = Manifest.read(out)
    assert first.rows.read == 50
    warning, fine = run(out).splitlines()
    assert warning == (
        f"warning: skipped in `{given}`: `{out}` (written by zephyr-fast); to read such a "
        "directory, pass it as an input"
    )
    assert "is up to date" in fine
    unfinished = given / "a" / "unfinished"
    (unfinished / "_work").mkdir(parents=True)
    (unfinished / "_work" / "run.json").write_text("{}")
    shutil.copy(out / "train-00000.arrow", unfinished)
    assert f"`{unfinished}`, `{out}` (written" in run(tmp_path / "other").splitlines()[0]
    assert Manifest.read(tmp_path / "other").inputs == first.inputs
    for number, pattern in enumerate((f"{given}/**/*.[aj]*[lw]", f"{tmp_path}/g*/./**/*[lw]")):
        globbed = tmp_path / f"read-{number}"
        words = ["prep", "chat", "--input", pattern, "--out", globbed, "--tokenizer", "sample"]
        assert f"`{unfinished}`, `{out}` (written" in shell(*words).stderr
        assert Manifest.read(globbed).inputs == first.inputs
    files = zephyr_fast.prep(
        "chat", input=f"{out}/text/*", out=tmp_path / "text", tokenizer="sample"
    )
    assert files.rows.read == first.rows.written, "the pattern names its directory"
    whole = zephyr_fast.prep("chat", input=out, out=tmp_path / "own", tokenizer="sample")
    assert "train-00000.parquet" in [entry.name for entry in whole.inputs], "passed, it is read"
