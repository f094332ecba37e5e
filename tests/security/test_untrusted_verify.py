"""`verify` on folders that strangers made: no link followed, nothing but files opened, no file
read past its size, Ctrl-C answered.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from out_folder import files, manifest
from shell import command, opened, popen, shell
from zephyr_fast import InputError, IntegrityError
from zephyr_fast.dataset.manifest import seal
from zephyr_fast.dataset.verify import verify

HANG_SECONDS = 120
"""Far above what any case takes on any machine."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    zephyr_fast.prep(input="sample", out=out)
    return out


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """The data set, to be made hostile."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def damage(folder: Path) -> dict[str, str]:
    return {one.file: one.message for one in verify(folder, raise_on_error=False).problems}


def test_links_to_the_folder_itself_are_named_and_not_followed(copy: Path) -> None:
    for name in ("a", "b", "text/c", "_ledger/d"):
        (copy / name).symlink_to(".")
    (copy / "root").symlink_to("/")
    found = damage(copy)
    assert found.keys() == {"a", "b", "text/c", "_ledger/d", "root"}
    assert all("a symbolic link" in what and "cp -rL" in what for what in found.values())
    done = shell("verify", copy)
    *lines, last = done.stderr.splitlines()
    assert done.returncode == 7 and len(lines) == 5 and "has 5 problems" in last
    assert all("symbolic link" in line for line in lines)


@pytest.mark.parametrize(
    "name",
    ["train-00000.arrow", "text/train-00000.parquet", "README.md", "tokenizer/tokenizer.json"],
)
def test_a_file_that_is_a_link_a_fifo_a_device_or_a_folder_is_damage_at_once(
    name: str, copy: Path
) -> None:
    path = copy / name
    content = path.read_bytes()
    (copy.parent / "same").write_bytes(content)
    plants: list[Callable[[], object]] = [
        lambda: path.symlink_to(copy.parent / "same"),
        lambda: path.symlink_to("/dev/zero"),
        lambda: os.mkfifo(path),
        path.mkdir,
    ]
    for plant in plants:
        path.unlink()
        plant()
        found = damage(copy)
        assert found.keys() == {name} and ("cp -rL" in found[name]) == path.is_symlink()
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        path.write_bytes(content)
    zephyr_fast.verify(copy)


def test_a_folder_of_ours_that_is_a_link_is_damage_and_so_is_all_that_should_be_in_it(
    copy: Path,
) -> None:
    shutil.move(copy / "text", copy.parent / "elsewhere")
    (copy / "text").symlink_to(copy.parent / "elsewhere")
    found = damage(copy)
    assert "text" in found and {name for name in found if name.startswith("text/")} == {
        card["file"] for split in manifest(copy)["splits"].values() for card in split["text"]
    }


def test_a_snapshot_of_the_hub_made_of_links_is_told_how_to_be_verified(
    whole: Path, tmp_path: Path
) -> None:
    snapshot = tmp_path / "snapshot"
    for name in files(whole):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(whole / name)
    done = shell("verify", snapshot)
    assert done.returncode == 7 and "cp -rL" in done.stderr
    shutil.copytree(snapshot, tmp_path / "resolved")
    zephyr_fast.verify(tmp_path / "resolved")


@pytest.mark.parametrize("name", ["manifest.json", "_ref/0123456789abcdef/manifest.json"])
def test_a_manifest_that_is_no_regular_file_or_has_no_end_is_refused_at_once(
    name: str, copy: Path
) -> None:
    path = copy / name
    path.parent.mkdir(parents=True, exist_ok=True)
    plants: dict[str, Callable[[], object]] = {
        "FIFO": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
        "holes": lambda: path.open("wb").truncate(1 << 40),
        "deep": lambda: path.write_text("[" * 1_000_000),
        "deep objects": lambda: path.write_text('{"schema":' * 1_000_000),
        "no text": lambda: path.write_bytes(b"\xff" * 1_000),
    }
    for kind, plant in plants.items():
        path.unlink(missing_ok=True)
        plant()
        with pytest.raises((InputError, IntegrityError), match=r"manifest\.json"):
            zephyr_fast.verify(copy)
        if kind == "folder":
            path.rmdir()


@pytest.mark.parametrize(
    "name",
    [
        "../copy/README.md",
        "/etc/passwd",
        "./README.md",
        "text/../README.md",
        "README.md/",
        "text//train-00000.parquet",
        "README.md\0",
        "a\nb",
        "\x1b[2J",
        "_work/lock",
        "secret.txt",
        "_ref/../README.md",
        "",
        ".",
        "..",
        "a/" * 1_000,
        "n" * 100_000,
    ],
)
def test_a_name_that_no_run_writes_is_never_opened(name: str, copy: Path) -> None:
    told = manifest(copy)
    (copy / "secret.txt").write_text("secret")
    card = next(card for card in told["files"] if card["file"] == "README.md")
    told["files"].append({**card, "file": name})
    (copy / "manifest.json").write_text(seal(told))
    assert "lists a path outside the dataset" in damage(copy)[name]


def test_a_file_that_is_named_twice_is_damage_and_read_once(copy: Path) -> None:
    told = manifest(copy)
    told["files"] += [card for card in told["files"] if card["file"] == "README.md"] * 1_000
    (copy / "manifest.json").write_text(seal(told))
    found = verify(copy, raise_on_error=False)
    assert {one.message for one in found.problems} == {"listed twice"} and len(
        found.problems
    ) == 1_000
    assert (
        found.bytes == sum(map(len, files(copy).values())) - (copy / "manifest.json").stat().st_size
    )


@pytest.mark.parametrize("name", ["train-00000.arrow", "README.md"])
def test_a_file_longer_than_said_is_read_to_one_byte_more_and_no_further(
    name: str, copy: Path
) -> None:
    size = (copy / name).stat().st_size
    before = verify(copy, raise_on_error=False).bytes
    with (copy / name).open("r+b") as file:
        file.truncate(1 << 42)  # all holes: to read them would take hours
    found = verify(copy, raise_on_error=False)
    assert [(one.file, one.message) for one in found.problems] == [
        (name, f"size is {1 << 42} bytes, expected {size}")
    ]
    assert found.bytes == before + 1


def test_offsets_and_lengths_beyond_a_file_read_no_further(copy: Path) -> None:
    for changes in ({"offset": 2**64 - 1}, {"bytes": 2**64 - 1}, {"offset": 2**63, "bytes": 2**63}):
        told = manifest(copy)
        told["splits"]["train"]["shards"][0]["batches"][0].update(changes)
        (copy / "manifest.json").write_text(seal(told))
        found = verify(copy, raise_on_error=False)
        assert found.problems[0].file == "train-00000.arrow" and found.bytes < 2 * sum(
            map(len, files(copy).values())
        )


def of_path(told: Any, path: list[Any]) -> dict[str, Any]:
    for step in path:
        told = told[step]
    return told  # type: ignore[no-any-return]


@pytest.mark.parametrize("value", [2**64 - 1, 2**63, 2**64, -1, 1e30, 10**400])
def test_sums_that_no_count_can_hold_are_damage_and_no_crash(value: Any, copy: Path) -> None:
    told = manifest(copy)
    split, shard = ["splits", "train"], ["splits", "train", "shards", 0]
    fields = [
        (["rows"], "read"),
        (["rows"], "written"),
        (["rows", "dropped"], "too_short"),
        (["rows", "duplicates"], "near"),
        (["inputs", 0], "rows"),
        (["inputs", 0], "bytes"),
        (split, "rows"),
        (split, "examples"),
        (split, "tokens"),
        (shard, "examples"),
        (shard, "bytes"),
        ([*shard, "batches", 0], "examples"),
        ([*split, "text", 0], "rows"),
        (["files", 0], "bytes"),
    ]
    for path, field in fields:
        changed = json.loads(json.dumps(told))
        of_path(changed, path)[field] = value
        if field == "written":  # and what wraps around to the right sum
            changed["rows"]["dropped"]["x"] = told["rows"]["written"] + 1
        (copy / "manifest.json").write_text(seal(changed))
        try:
            zephyr_fast.verify(copy)
        except (IntegrityError, InputError):
            continue
        # Sums of nothing else.
        assert field in ("tokens", "bytes") and path[0] in ("inputs", "splits"), (path, field)


def test_of_very_many_strays_the_first_are_named_and_the_rest_counted(copy: Path) -> None:
    for number in range(3_000):
        (copy / f"stray-{number:04}").touch()
    found = verify(copy, raise_on_error=False).problems
    assert len(found) == 1_001 and [one.file for one in found[:1_000]] == [
        f"stray-{number:04}" for number in range(1_000)
    ]
    assert found[1_000].message.startswith("2000 more")
    assert json.loads(shell("verify", copy, "--json").stdout)["problems"][-1]["message"].startswith(
        "2000 more"
    )


def test_of_very_many_missing_files_the_first_are_named_and_the_rest_counted(copy: Path) -> None:
    told = manifest(copy)
    card = told["splits"]["train"]["shards"][0]
    told["splits"]["train"]["shards"] += [
        {**card, "file": f"train-{number:05}.arrow"} for number in range(1, 3_001)
    ]
    (copy / "manifest.json").write_text(seal(told))
    found = verify(copy, raise_on_error=False).problems
    assert len(found) == 1_001 and "more" in found[-1].message


def test_a_tree_as_deep_as_a_disk_allows_is_one_stray(copy: Path) -> None:
    handle = os.open(copy, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    try:
        assert damage(copy).keys() == {"d"}
    finally:
        subprocess.run(["rm", "-rf", str(copy / "d")], check=True)


def test_ctrl_c_is_answered_while_a_large_file_is_read(copy: Path) -> None:
    told = manifest(copy)
    told["files"].append({"file": "train-00099.arrow", "bytes": 1 << 42, "sha256": "0" * 64})
    (copy / "manifest.json").write_text(seal(told))
    with (copy / "train-00099.arrow").open("wb") as file:
        file.truncate(1 << 42)
    line, environment = command("verify", copy)
    running = popen(line, environment)
    while not any(file.name == "train-00099.arrow" for file in opened(running.pid)):
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    try:
        running.communicate(timeout=HANG_SECONDS)
    finally:
        running.kill()
    assert running.returncode == 130


def test_stored_log_probs_are_read_to_their_length_and_names_of_other_forms_are_refused(
    copy: Path,
) -> None:
    key = copy / "_ref" / "0123456789abcdef"
    key.mkdir(parents=True)
    part = {"file": "train-00000.arrow", "sha256": "0" * 64}
    card: dict[str, Any] = {
        "schema": 1,
        "key": {"shards": manifest(copy)["fingerprint"]},
        "splits": {},
    }
    for names in (
        ["../../README.md"],
        ["/etc/passwd"],
        ["a\nb"],
        ["train-00000.arrow"] * 3,
        ["x" * 10_000],
    ):
        card["splits"] = {
            "train": {"pairs": 1, "parts": [{**part, "file": name} for name in names]}
        }
        (key / "manifest.json").write_text(json.dumps(card))
        found = damage(copy)
        assert all(name.startswith("_ref/") for name in found), found
    for plant in (lambda path: path.symlink_to("/dev/zero"), os.mkfifo):
        plant(key / "train-00000.arrow")
        card["splits"] = {"train": {"pairs": 1, "parts": [part]}}
        (key / "manifest.json").write_text(json.dumps(card))
        assert "_ref/0123456789abcdef/train-00000.arrow" in damage(copy)
        (key / "train-00000.arrow").unlink()
    (copy / "_ref" / "fedcba9876543210").symlink_to(key)
    assert "_ref/fedcba9876543210" in damage(copy)


def test_a_folder_of_hostile_names_and_kinds_is_reported_in_json(copy: Path) -> None:
    chance = random.Random(7)
    names = [
        b"\xff\xfe",
        b"a\nb",
        b"\x1b[31m",
        b"[x]",
        b"'\"`",
        b"-rf",
        "\u202e".encode(),
        b"n" * 255,
    ]
    for name in names:
        where = os.fsencode(copy) + b"/" + chance.choice([b"", b"text/", b"_quarantine/"]) + name
        os.makedirs(os.path.dirname(where), exist_ok=True)
        chance.choice(
            [
                lambda path: os.mkfifo(path),
                lambda path: os.mkdir(path),
                lambda path: os.symlink(b".", path),
            ]
        )(where)
    done = shell("verify", copy, "--json")
    assert done.returncode == 7 and len(json.loads(done.stdout)["problems"]) == len(names)
