"""A hostile server and a cache of its own, for tests of data sets that lie elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile_server import HostileServer, serving


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with serving() as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEPHYR_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
