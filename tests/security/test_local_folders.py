"""A data set of this machine is only read: in a read-only tree, through links to files, and
never from anything else than a file.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from numbered import collate, numbered
from out_folder import files
from zephyr_fast import InputError, IntegrityError, Shards
from zephyr_fast.dataset import remote

ROWS = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return numbered(tmp_path / "set", ROWS)


def all_rows(where: object) -> list[int]:
    return collate(list(Shards(str(where), "train").samples(range(ROWS))))


READ_ONLY = """
import os, sys
from zephyr_fast.load.shards import Shards
if os.geteuid() == 0:  # after the imports: the interpreter itself may lie where only root may look
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
shards = Shards(sys.argv[1], "train")
print(len(shards.samples(range(len(shards)))), len(shards.identity), len(shards.lengths()))
"""


def test_a_read_only_tree_is_read_by_a_user_who_may_write_nowhere(
    folder: Path, tmp_path: Path
) -> None:
    """Where the tests run as root, which may write everywhere, as a user without a name."""
    for path in (tmp_path, *tmp_path.parents):
        if os.geteuid() == 0 and path.stat().st_mode & 0o001 == 0:
            path.chmod(path.stat().st_mode | 0o011)
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = files(folder)
    around = os.environ | {
        "PYTHONPATH": str(Path(remote.__file__).parents[2]),
        "ZEPHYR_FAST_CACHE": "/nowhere",
        "HOME": "/nowhere",
    }
    done = subprocess.run(
        [sys.executable, "-B", "-c", READ_ONLY, str(folder)],
        capture_output=True,
        text=True,
        env=around,
        cwd="/",
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{ROWS} 64 {ROWS}\n"), done.stderr
    assert files(folder) == before
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)


def test_a_shard_may_be_a_link_to_a_file_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    """As in the snapshots of the Hub's cache."""
    shard = folder / "train-00000.arrow"
    shard.rename(tmp_path / "blob")
    shard.symlink_to(tmp_path / "blob")
    assert all_rows(folder) == list(range(ROWS))
    for target in ("/dev/zero", "/dev/null", str(tmp_path), str(shard)):
        shard.unlink()
        shard.symlink_to(target)
        with pytest.raises(IntegrityError):
            Shards(folder, "train")
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(IntegrityError):
        Shards(folder, "train")


def test_a_fifo_in_place_of_a_manifest_is_refused_at_once(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    for where in (str(folder), f"file://{folder}"):
        with pytest.raises(InputError, match="not a regular file"):
            Shards(where, "train")
