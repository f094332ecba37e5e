"""Hostile servers and planted directories: nothing is asked of anyone else, written outside the
cache, or read without end.
"""

import hashlib
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostile_server import HostileServer, endless, redirect, serving, slow, wait_for_downloads
from numbered import collate, numbered
from out_folder import files
from zephyr_fast import InputError, IntegrityError, Shards, ZephyrError
from zephyr_fast.dataset import remote
from zephyr_fast.dataset.address import Address
from zephyr_fast.dataset.manifest import seal

ROWS = 12
MEMORY_MORE_MAX = 300 << 10
"""KiB that a refusal may take: a manifest of the largest size, twice, and some room."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEPHYR_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return numbered(tmp_path / "set", ROWS)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with serving() as server:
        yield server


def sealed(folder: Path, change: Any) -> None:
    """Changes the manifest of a folder, with the right seal."""
    told = json.loads((folder / "manifest.json").read_text())
    change(told)
    (folder / "manifest.json").write_text(seal(told))


def all_rows(where: object) -> list[int]:
    return collate(list(Shards(str(where), "train").samples(range(ROWS))))


@pytest.mark.parametrize("name", ["origin.json", "origin"])
@pytest.mark.parametrize(
    "url",
    [
        "{server}/set",
        "file:///etc",
        "reference://x::{server}/set/refs.json?",
        "https://127.0.0.1:1/x",
    ],
)
def test_a_folder_that_names_a_url_is_a_folder_and_nobody_is_asked(
    folder: Path, cache: Path, server: HostileServer, name: str, url: str
) -> None:
    server.serve_folder(folder)
    (folder / "train-00000.arrow").unlink()
    for place in (folder / name, folder.parent / name):
        place.write_text(json.dumps({"url": url.format(server=server.url)}))
    before = files(folder)
    with pytest.raises(IntegrityError, match=r"train-00000\.arrow"):
        Shards(folder, "train")
    assert (server.asked, files(folder), cache.exists()) == ([], before, False)


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


@pytest.mark.parametrize(
    "name",
    [
        "origin.json",
        "origin",
        "manifest.json",
        "README.md",
        "..",
        ".",
        "",
        "x\0y",
        "../x-00000.arrow",
        "/etc/passwd",
        "train-00000.arrow\n",
        "train-٠٠٠٠٠.arrow",
        "test-00000.arrow",
        "train-0.arrow",
        "locks/train-00000.arrow",
        ".zephyr-draft-x",
        "train-00000.arrow/.",
    ],
)
def test_a_shard_with_a_name_that_is_not_a_shards_is_refused(
    folder: Path, cache: Path, server: HostileServer, name: str, tmp_path: Path
) -> None:
    sealed(folder, lambda told: told["splits"]["train"]["shards"][1].update(file=name))
    url = server.serve_folder(folder)
    for where in (url, folder):
        with pytest.raises(IntegrityError, match="name"):
            Shards(str(where), "train")
    assert server.asked == ["/set/manifest.json"]
    assert not cache.exists() or not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer/evil.py",
        "tokenizer/../x",
        "tokenizer/a/b",
        "_ref/x",
        "text/x.arrow",
        "train-00009.arrow",
        "a\x1b[0m",
    ],
)
def test_other_files_have_names_of_ours_too(folder: Path, cache: Path, name: str) -> None:
    sealed(
        folder, lambda told: told["files"].append({"file": name, "bytes": 1, "sha256": "0" * 64})
    )
    with pytest.raises(IntegrityError, match="name") as error:
        Shards(f"file://{folder}", "train")
    assert "\x1b" not in str(error.value)


def test_a_name_that_occurs_twice_is_refused(folder: Path) -> None:
    sealed(folder, lambda told: told["files"].append(told["files"][0]))
    with pytest.raises(IntegrityError, match="twice"):
        Shards(folder, "train")


@pytest.mark.parametrize(
    "url",
    [
        "reference://x::{server}/set",
        "zip://x::{server}/set",
        "simplecache::{server}/set",
        "filecache://{server}/set",
        "ftp://127.0.0.1/x",
        "github://a:b@c/d",
        "data://x",
        "memory://x",
        "http://example.org/set",
        "http://0.0.0.0/x",
        "http://127.1/x",
        "s3://a::b/c",
        "file://elsewhere/x",
        "http://127.0.0.1:99999/x",
        "http://[::1/x",
        "https:///x",
        "http://localhost.evil.org/x",
        "hf://datasets/a?b",
        "http://169.254.169.254/latest",
        "http://user@127.0.0.1@evil.org/x",
        "http://127.0.0.1\\@evil.org/x",
        "http://127.0.0.1/a\nb",
    ],
)
def test_other_protocols_chains_and_plain_http_to_others_are_refused(
    cache: Path, server: HostileServer, url: str
) -> None:
    with pytest.raises(InputError):
        Shards(url.format(server=server.url), "train")
    assert server.asked == [] and not cache.exists()


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "{other}/set/manifest.json",
        "https://127.0.0.1:{port}/x",
        "https://localhost:{port}/x",
        "http://evil.org/x",
        "https://10.0.0.1/x",
        "https://[::1]:{port}/x",
        "https://169.254.169.254/x",
        "reference://x::{other}/y",
        "ftp://x/y",
        "//a@b:c/d",
        "data:,x",
    ],
)
def test_a_redirect_leads_nowhere_else(
    folder: Path, cache: Path, server: HostileServer, target: str
) -> None:
    with serving() as other:
        other.serve_folder(folder)
        server.files["/set/manifest.json"] = redirect(
            target.format(other=other.url, port=other.server_port)
        )
        with pytest.raises(InputError, match="redirects"):
            Shards(f"{server.url}/set", "train")
        assert other.asked == [] and server.asked == ["/set/manifest.json"]


def test_a_redirect_within_the_server_is_followed_but_not_for_ever(
    folder: Path, cache: Path, server: HostileServer
) -> None:
    server.serve_folder(folder, "/real")
    for name in (
        "manifest.json",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "train-00000.arrow",
        "train-00001.arrow",
    ):
        server.files[f"/set/{name}"] = redirect(f"/real/{name}")
    assert all_rows(f"{server.url}/set") == list(range(ROWS))
    server.files["/loop/manifest.json"] = redirect("/loop/manifest.json")
    before = len(server.asked)
    with pytest.raises(InputError, match="more than 5 times"):
        Shards(f"{server.url}/loop", "train")
    assert len(server.asked) == before + 6


def test_a_manifest_without_end_takes_no_more_memory_than_the_largest_one(
    cache: Path, server: HostileServer
) -> None:
    server.files["/set/manifest.json"] = endless()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(IntegrityError, match="more than 67,108,864 bytes"):
        Shards(f"{server.url}/set", "train")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_MORE_MAX


def test_no_more_of_a_file_is_written_than_its_manifest_says(
    folder: Path, cache: Path, server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.Origin, "prefetch", lambda _self, _cards: [])
    url = server.serve_folder(folder)
    size = (folder / "train-00000.arrow").stat().st_size
    server.files["/set/train-00000.arrow"] = endless()
    written: list[int] = []
    checked = remote._checked

    def counted(address: Address, card: Any) -> Iterator[bytes]:
        for chunk in checked(address, card):
            written.append(len(chunk) if str(address).endswith(".arrow") else 0)
            yield chunk

    monkeypatch.setattr(remote, "_checked", counted)
    with pytest.raises(IntegrityError, match=f"more than {size} bytes"):
        Shards(url, "train").samples([0])
    assert sum(written) <= size
    assert not [
        path for path in cache.rglob("*") if path.is_file() and path.stat().st_size > 1 << 20
    ]


@pytest.mark.parametrize("claim", [(1 << 30) + 1, 2**63 - 1, 2**63, -1, 1e300])
def test_a_file_that_is_said_to_be_too_large_is_not_asked_for(
    folder: Path, cache: Path, server: HostileServer, claim: Any
) -> None:
    sealed(folder, lambda told: told["splits"]["train"]["shards"][0].update(bytes=claim))
    with pytest.raises(IntegrityError):
        Shards(server.serve_folder(folder), "train")
    assert server.asked == ["/set/manifest.json"]


def test_a_server_that_talks_no_http_is_told_in_one_line(
    cache: Path, server: HostileServer
) -> None:
    answers = [
        b"",
        b"\x1b]0;pwned\x07" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000,
    ]
    answers += [
        b"HTTP/1.1 404 \x1b[2J" + b"x" * 9000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ]
    for raw in answers:
        server.files["/set/manifest.json"] = lambda handler, raw=raw: handler.wfile.write(raw)  # type: ignore[misc]
        with pytest.raises(ZephyrError) as error:
            Shards(f"{server.url}/set", "train")
        assert (
            "\x1b" not in str(error.value)
            and "\n" not in str(error.value)
            and len(str(error.value)) < 1000
        )


INTERRUPTED = """
import sys
from zephyr_fast.load.shards import Shards
print("opening", flush=True)
shards = Shards(sys.argv[1], "train")
shards.samples([0])
"""


@pytest.mark.parametrize("name", ["manifest.json", "train-00000.arrow"])
def test_ctrl_c_ends_a_download_that_never_would(
    folder: Path, cache: Path, server: HostileServer, name: str
) -> None:
    url = server.serve_folder(folder)
    server.files[f"/set/{name}"] = slow
    around = os.environ | {"PYTHONPATH": str(Path(remote.__file__).parents[2])}
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=around,
    )
    try:
        while not any(path.endswith(name) for path in server.asked):
            assert run.poll() is None, run.communicate()[1]
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    finally:
        run.kill()
        run.wait()
    assert "KeyboardInterrupt" in errors


def test_a_worker_fetches_from_the_url_that_was_opened(
    folder: Path, cache: Path, server: HostileServer
) -> None:
    opened = pickle.dumps(Shards(server.serve_folder(folder), "train"))
    wait_for_downloads()
    program = "import pickle, sys; print(len(pickle.load(sys.stdin.buffer).samples(range(12))))"
    shutil.rmtree(next(cache.glob("*/locks")))
    for shard in cache.rglob("*.arrow"):
        shard.unlink()
    around = os.environ | {"PYTHONPATH": str(Path(remote.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program], input=opened, capture_output=True, env=around, check=False
    )
    assert done.stdout.strip() == b"12", done.stderr
