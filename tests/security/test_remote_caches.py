"""The cache of data sets that lie elsewhere: no link in it is followed, and it is for its user
alone.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from hostile_server import HostileServer
from numbered import all_rows, numbered
from zephyr_fast import IntegrityError, Shards, ZephyrError
from zephyr_fast.dataset import remote

ROWS = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return numbered(tmp_path / "set", ROWS)


def test_a_link_where_a_lock_or_draft_would_be_is_not_followed(
    folder: Path, cache: Path, server: HostileServer, tmp_path: Path
) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    lock = f".zephyr-draft-lock-{hashlib.sha256(b'train-00000.arrow').hexdigest()[:16]}"
    (folder / lock).symlink_to(victim)
    (folder / "origin.json").write_text(json.dumps({"url": server.serve_folder(folder)}))
    (folder / "train-00000.arrow").unlink()
    with pytest.raises(IntegrityError):
        Shards(folder, "train")
    assert victim.read_text() == "precious"


def test_links_in_the_cache_are_not_followed(
    folder: Path, cache: Path, server: HostileServer, tmp_path: Path
) -> None:
    url = server.serve_folder(folder)
    entry = Path(remote.local(url)).parent
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_text("precious")
    for planted, target in (
        (entry / "locks" / "train-00000.arrow.lock", victim),
        (entry / "data" / "tokenizer", outside),
    ):
        if planted.is_dir():
            shutil.rmtree(planted)
        planted.parent.mkdir(exist_ok=True)
        planted.unlink(missing_ok=True)
        planted.symlink_to(target)
        with pytest.raises(ZephyrError, match="link"):
            all_rows(url)
        planted.unlink()
    assert victim.read_text() == "precious" and [path.name for path in outside.iterdir()] == [
        "victim"
    ]
    assert all_rows(url) == list(range(ROWS))


@pytest.mark.parametrize("place", ["root", "entry", "data", "locks"])
def test_a_cache_that_is_a_link_is_refused(
    folder: Path, cache: Path, server: HostileServer, tmp_path: Path, place: str
) -> None:
    url = server.serve_folder(folder)
    entry = Path(remote.local(url)).parent
    path = {"root": cache, "entry": entry, "data": entry / "data", "locks": entry / "locks"}[place]
    shutil.rmtree(path)
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ZephyrError, match="link"):
        all_rows(url)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_cache_that_others_may_write_to_is_refused_with_a_way_out(
    folder: Path, cache: Path
) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(ZephyrError, match="chmod 700"):
        all_rows(f"file://{folder}")
    cache.chmod(0o700)
    assert all_rows(f"file://{folder}") == list(range(ROWS))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_cache_of_another_user_is_refused(folder: Path, cache: Path) -> None:
    cache.mkdir()
    os.chown(cache, 65534, 65534)
    with pytest.raises(ZephyrError, match="another user"):
        all_rows(f"file://{folder}")


def test_what_is_in_the_cache_is_for_its_user_alone(
    folder: Path, cache: Path, server: HostileServer
) -> None:
    assert all_rows(server.serve_folder(folder)) == list(range(ROWS))
    for path in (cache, *cache.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
