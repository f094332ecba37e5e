"""Canary credentials in URLs and in the environment: they are in no file, no name of a file, no
output and no traceback.
"""

import http.server
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostile_server import HostileServer, redirect, serving
from numbered import collate, numbered
from zephyr_fast import InputError, Shards, ZephyrError, open_shards
from zephyr_fast.dataset import remote
from zephyr_fast.dataset.address import Address
from zephyr_fast.dataset.download import _reason

ROWS = 12
USER, PASSWORD, SIGNATURE, FRAGMENT = (
    "canaryuser",
    "canarypass",
    "canarysignature",
    "canaryfragment",
)
CANARIES = (
    USER,
    PASSWORD,
    SIGNATURE,
    FRAGMENT,
    "Y2FuYXJ5dXNlcjpjYW5hcnlwYXNz",
    "canaryaws",
    "canaryhf",
)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with serving() as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEPHYR_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def url(server: HostileServer, tmp_path: Path) -> str:
    """The URL of a data set, with everything in it that may be secret."""
    plain = server.serve_folder(numbered(tmp_path / "set", ROWS))
    return with_secrets(plain)


def with_secrets(plain: str) -> str:
    return f"{plain.replace('://', f'://{USER}:{PASSWORD}@')}?X-Amz-Signature={SIGNATURE}&a=b#{FRAGMENT}"


def assert_no_canary(text: str) -> None:
    assert not [canary for canary in CANARIES if canary in text], text


def assert_none_on_disk(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert_no_canary(str(path))
        if path.is_file():
            assert_no_canary(path.read_bytes().decode("latin-1"))


PROGRAM = """
import sys, traceback, faulthandler
from zephyr_fast import Shards, open_shards
print(Shards, flush=True)
shards = Shards(sys.argv[1], "train")
print(shards, shards.folder, vars(shards), shards._origin, vars(shards._origin), shards._origin._address)
print(open_shards(sys.argv[1], "train"), len(shards.samples(range(len(shards)))))
"""


@pytest.mark.parametrize(
    "end", ["works", "404", "redirect", "reset", "wrong bytes", "host", "slash in password"]
)
def test_secrets_are_sent_to_their_server_and_are_nowhere_else(
    server: HostileServer, url: str, cache: Path, tmp_path: Path, end: str
) -> None:
    def reset(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(
            f"HTTP/1.1 500 {handler.path} {handler.headers['Authorization']}\r\n\r\n".encode()
        )

    if end in ("404", "redirect", "reset"):
        answers: dict[str, Any] = {
            "redirect": redirect(with_secrets("http://example.org/x")),
            "reset": reset,
        }
        server.files["/set/manifest.json"] = answers.get(end)  # type: ignore[assignment]  # None is a 404
    if end == "wrong bytes":
        server.files["/set/train-00000.arrow"] = b"other"
    url = {
        "host": url.replace("127.0.0.1", "no such host"),
        "slash in password": url.replace(PASSWORD, f"{PASSWORD}/{PASSWORD}"),
    }.get(end, url)
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "canaryaws",
        "HF_TOKEN": "canaryhf",
        "TMPDIR": str(tmp_path),
    }
    around = os.environ | secrets | {"PYTHONPATH": str(Path(remote.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, url],
        capture_output=True,
        text=True,
        env=around,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode == 0) == (end == "works"), done.stderr
    assert_no_canary(done.stdout + done.stderr)
    assert_none_on_disk(tmp_path)
    if end == "works":
        assert all(
            "X-Amz-Signature=canarysignature" in path and "#" not in path for path in server.asked
        )
        assert {told["Authorization"] for told in server.headers_seen} == {f"Basic {CANARIES[4]}"}


def test_user_info_stays_with_the_server_it_was_meant_for(
    server: HostileServer, url: str, cache: Path
) -> None:
    server.files["/set/manifest.json"] = redirect("/elsewhere?c=d")
    with pytest.raises(InputError):
        Shards(url, "train")
    assert server.asked[-1] == "/elsewhere?c=d"  # what the server says, and not our query once more


def read_in_worker(shards: Shards, said: Any) -> None:
    said.put(collate(list(shards.samples(range(ROWS)))))


def clear(cache: Path) -> None:
    for shard in cache.rglob("*.arrow"):
        shard.unlink()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_are_given_the_secrets_when_they_start(
    url: str, cache: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.Origin, "prefetch", lambda _self, _cards: [])
    shards = Shards(url, "train")
    context: Any = multiprocessing.get_context(method)
    said = context.Queue()
    worker = context.Process(target=read_in_worker, args=(shards, said))
    worker.start()
    assert said.get(timeout=120) == list(range(ROWS))
    worker.join()
    assert_none_on_disk(cache)


def test_a_pickle_holds_no_secret_and_who_reads_it_elsewhere_is_told(
    url: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.Origin, "prefetch", lambda _self, _cards: [])
    content = pickle.dumps(Shards(url, "train"))
    assert_no_canary(content.decode("latin-1"))
    assert pickle.loads(content).samples([0])
    clear(cache)
    around = os.environ | {"PYTHONPATH": str(Path(remote.__file__).parents[2])}
    program = "import pickle, sys; pickle.load(sys.stdin.buffer).samples([0])"
    done = subprocess.run(
        [sys.executable, "-c", program], input=content, capture_output=True, env=around, check=False
    )
    assert b"InputError" in done.stderr and b"never stored; open the URL again" in done.stderr


def test_an_index_over_shards_has_no_secret_in_its_fingerprint(url: str, cache: Path) -> None:
    dataset = open_shards(url, "train")
    assert_no_canary(pickle.dumps(dataset).decode("latin-1"))


@pytest.mark.parametrize("scheme", ["s3", "gs", "hf", "file"])
def test_secrets_in_urls_of_other_protocols_are_refused_unshown(scheme: str, cache: Path) -> None:
    for url in (
        f"{scheme}://{USER}:{PASSWORD}@bucket/x",
        f"{scheme}://{USER}:{PASSWORD}/{PASSWORD}@bucket/x",
    ):
        with pytest.raises(InputError) as error:
            Shards(url, "train")
        assert_no_canary(str(error.value))
    with pytest.raises(InputError) as error:
        Shards(f"{scheme}://bucket/x?X-Amz-Signature={SIGNATURE}#{FRAGMENT}", "train")
    assert_no_canary(str(error.value))
    assert not cache.exists()


@pytest.mark.parametrize("scheme", ["sftp", "reference://x::https", "x::https", "ftp"])
def test_secrets_in_urls_that_are_not_read_are_not_shown(scheme: str) -> None:
    with pytest.raises(InputError) as error:
        Shards(with_secrets(f"{scheme}://example.org/x"), "train")
    assert_no_canary(str(error.value))


def test_what_a_library_says_is_cut() -> None:
    said = f"403 Forbidden for url '{with_secrets('https://cdn.example.org/a/b')}' \x1b[2J\nFor more see https://x.org/{'y' * 2000}"
    told = _reason(ValueError(said))
    assert_no_canary(told)
    assert (
        "cdn.example.org/a/b" in told
        and "\x1b" not in told
        and "\n" not in told
        and len(told) < 600
    )


def test_an_address_never_shows_its_secrets() -> None:
    address = Address.parse(with_secrets("https://example.org/a"))
    assert_no_canary(f"{address} {address!r} {address.file('x')} {[address]}")
    assert PASSWORD not in address.request_url() and SIGNATURE in address.request_url()
    assert issubclass(InputError, ZephyrError)
