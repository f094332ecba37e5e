"""Disks and limits of the operating system itself, where the machine allows them: small file
systems, sizes, descriptors, `/dev/full`.
"""

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from out_folder import files
from shell import command, shell

STORAGE = 8
SIZES_KB = range(40, 1_200, 80)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of our own, to be made smaller or larger."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here (it takes root)")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("verb", ["prep", "binarize"])
def test_a_file_system_that_is_too_small_is_told_and_with_more_room_the_same_command_is_exact(
    verb: str, small: dict[str, Any], wanted: dict[str, Any], disk: Path
) -> None:
    refused = 0
    for size in SIZES_KB:
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)
        try:
            getattr(zephyr_fast, verb)(**small[verb], out=disk / "out")
        except zephyr_fast.StorageError as error:
            refused += 1
            assert "No space left on device" in str(error) and str(disk) in str(error)
            assert not (disk / "out" / "manifest.json").exists()
            assert not [name for name in files(disk / "out") if ".zephyr-draft-" in name]
    subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
    getattr(zephyr_fast, verb)(**small[verb], out=disk / "out")
    assert refused > 2 and files(disk / "out") == wanted[verb]


def test_a_limit_on_the_size_of_files_is_told_and_without_it_the_same_command_is_exact(
    tmp_path: Path,
) -> None:
    words: list[str | Path] = ["prep", "--input", "sample", "--out"]
    line, environment = command(*words, tmp_path / "out")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        line, env=environment, preexec_fn=limited, capture_output=True, text=True, check=False
    )
    assert done.returncode == STORAGE and done.stderr.startswith("error: cannot write"), done.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()
    for out in ("out", "whole"):
        assert shell(*words, tmp_path / out).returncode == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_results_that_cannot_be_printed_are_an_error(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    zephyr_fast.prep(input="sample", out=tmp_path / "out")
    for words in (
        ["verify", tmp_path / "out"],
        ["verify", tmp_path / "out", "--json"],
        ["prep", "--input", "sample", "--out", tmp_path / "out"],
    ):
        line, environment = command(*words)
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                line, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert (
            done.returncode == STORAGE
            and "error: cannot write to stdout: No space left on device" in done.stderr
        ), done.stderr


def test_a_reader_that_goes_away_is_no_error_to_speak_of(tmp_path: Path) -> None:
    zephyr_fast.prep(input="sample", out=tmp_path / "out")
    line, environment = command("verify", tmp_path / "out", "--json")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        line, env=environment, stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
