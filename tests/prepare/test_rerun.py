"""The same command on a finished dataset: nothing to do, or what is missing from it."""

import os
from pathlib import Path

import pytest

import zephyr_fast
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
