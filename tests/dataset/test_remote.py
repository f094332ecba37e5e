"""Out folders behind a URL: fetched once, used only when whole and right, by all processes that
read them.
"""

import shutil
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from numbered import collate, numbered
from ranks import run_ranks
from reading_rank import read_all
from zephyr_fast import InputError, IntegrityError, Manifest, Shards, open_shards
from zephyr_fast.dataset import remote
from zephyr_fast.dataset.folder import TEMPORARY_PREFIX
from zephyr_fast.train.__main__ import main

ROWS = 23


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shards, and an empty cache."""
    monkeypatch.setenv("ZEPHYR_FAST_CACHE", str(tmp_path / "cache"))
    return numbered(tmp_path / "far" / "shards", ROWS)


@pytest.fixture
def only_when_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched ahead, so that what a reader fetches can be told apart."""
    monkeypatch.setattr(remote.Origin, "prefetch", lambda _self, _cards: [])


class Server(ThreadingHTTPServer):
    """A folder over HTTP; of files whose name is in `torn`, the connection breaks in the middle."""

    def __init__(self, folder: Path) -> None:
        self.torn: set[str] = set()
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), lambda *given: Handler(*given, directory=str(folder)))
        Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(SimpleHTTPRequestHandler):
    server: Server

    def copyfile(self, source: object, outputfile: object) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.server.asked.append(name)
        content = source.read()  # type: ignore[attr-defined]
        outputfile.write(content[: len(content) // 2] if name in self.server.torn else content)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for HTTP")
    with Server(folder.parent) as server:
        yield server
        server.shutdown()


def far(folder: Path) -> str:
    return f"file://{folder}"


def drafts(cache: Path) -> list[Path]:
    return [path for path in cache.rglob(f"{TEMPORARY_PREFIX}*") if "lock" not in path.name]


def test_shards_behind_a_url_are_those_of_the_folder(folder: Path, tmp_path: Path) -> None:
    dataset = open_shards(far(folder))
    assert collate([dataset[row] for row in range(ROWS)]) == list(range(ROWS))
    assert Shards(far(folder), "train").identity == Shards(folder, "train").identity
    shutil.rmtree(folder)
    assert collate([dataset[row] for row in range(ROWS)]) == list(range(ROWS))
    assert not drafts(tmp_path / "cache")


@pytest.mark.usefixtures("only_when_read")
def test_over_http_each_file_is_fetched_once_and_only_when_it_is_read(server: Server) -> None:
    shards = Shards(f"{server.url}/shards", "train")
    assert not [name for name in server.asked if name.endswith(".arrow")]
    assert collate(list(shards.samples([0]))) == [0]
    assert [name for name in server.asked if name.endswith(".arrow")] == ["train-00000.arrow"]
    assert collate(list(shards.samples(range(ROWS)))) == list(range(ROWS))
    assert collate(list(Shards(f"{server.url}/shards", "train").samples(range(ROWS)))) == list(
        range(ROWS)
    )
    assert [name for name in server.asked if name.endswith(".arrow")] == [
        "train-00000.arrow",
        "train-00001.arrow",
    ]


def test_processes_that_read_the_same_url_fetch_each_file_once_between_them(
    server: Server, tmp_path: Path
) -> None:
    assert run_ranks(read_all, 3, f"{server.url}/shards", str(tmp_path / "cache"), ROWS) == [
        0,
        0,
        0,
    ]
    assert sorted(name for name in server.asked if name.endswith(".arrow")) == [
        "train-00000.arrow",
        "train-00001.arrow",
    ]


@pytest.mark.usefixtures("only_when_read")
def test_a_download_that_breaks_off_leaves_nothing_and_the_next_one_succeeds(
    server: Server, tmp_path: Path
) -> None:
    server.torn.add("train-00001.arrow")
    shards = Shards(f"{server.url}/shards", "train")
    assert collate(list(shards.samples([0]))) == [0]
    with pytest.raises((InputError, IntegrityError), match=r"train-00001\.arrow"):
        shards.samples([ROWS - 1])
    assert not list((tmp_path / "cache").rglob("train-00001.arrow")) and not drafts(
        tmp_path / "cache"
    )
    server.torn.clear()
    assert collate(list(shards.samples([ROWS - 1]))) == [ROWS - 1]


@pytest.mark.usefixtures("only_when_read")
@pytest.mark.parametrize("damage", ["short", "other bytes", "gone"])
def test_a_file_that_is_not_the_manifests_is_never_used(
    folder: Path, tmp_path: Path, damage: str
) -> None:
    shards = Shards(far(folder), "train")
    path = folder / "train-00001.arrow"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-8] if damage == "short" else content[:-1] + b"?")
    with pytest.raises(
        InputError if damage == "gone" else IntegrityError, match=r"train-00001\.arrow"
    ):
        shards.samples([ROWS - 1])
    assert not list((tmp_path / "cache").rglob("train-00001.arrow")) and not drafts(
        tmp_path / "cache"
    )
    path.write_bytes(content)
    assert collate(list(shards.samples([ROWS - 1]))) == [ROWS - 1]


def test_files_are_fetched_ahead_and_what_goes_wrong_is_said_by_who_reads(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "train-00001.arrow").rename(folder / "elsewhere")
    cached = remote.local(far(folder))
    origin = remote.origin_of(cached)
    assert origin is not None
    for thread in origin.prefetch(Manifest.read(cached).split("train").shards):
        thread.join()
    assert (cached / "train-00000.arrow").is_file() and not (cached / "train-00001.arrow").exists()
    with pytest.raises(InputError, match=r"train-00001\.arrow"):
        Shards(far(folder), "train").samples([ROWS - 1])


def test_another_data_set_under_the_same_url_is_another_folder_of_the_cache(
    folder: Path, tmp_path: Path
) -> None:
    first = Shards(far(folder), "train")
    assert collate(list(first.samples([3]))) == [3]
    shutil.rmtree(folder)
    numbered(folder, ROWS, first=100)
    assert collate(list(Shards(far(folder), "train").samples([3]))) == [103]
    assert collate(list(first.samples([3]))) == [3]


def test_a_file_that_was_cut_in_the_cache_is_fetched_again(folder: Path, tmp_path: Path) -> None:
    assert collate(list(Shards(far(folder), "train").samples([0]))) == [0]
    (path,) = (tmp_path / "cache").rglob("train-00000.arrow")
    path.write_bytes(path.read_bytes()[:-8])
    assert collate(list(Shards(far(folder), "train").samples([0]))) == [0]


def test_training_starts_from_a_url(
    shards: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEPHYR_FAST_CACHE", str(tmp_path / "cache"))
    settings = {
        "output_dir": tmp_path / "out",
        "max_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    assert main(["sft", "--shards", far(shards), "--model_name_or_path", str(start), *words]) == 0
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_url_that_leads_nowhere_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read `file://.*/nothing/manifest\.json`"):
        open_shards(far(folder.with_name("nothing")))
    with pytest.raises(InputError, match="nosuch"):
        open_shards("nosuch://bucket/shards")
