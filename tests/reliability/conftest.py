"""The engine built with failpoints, once a session, and the small runs that are made to fail."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from faulty import Faulty

ROOT = Path(__file__).parents[2]
PACKAGE = Path(zephyr_fast.__file__).parent


def built_with_failpoints() -> Path:
    """The compiled module; cargo has it ready after the first time."""
    cargo = shutil.which("cargo")
    if cargo is None:
        pytest.skip("no cargo here to build the engine with failpoints")
    words = [
        cargo,
        "build",
        "-p",
        "zephyr-py",
        "--features",
        "failpoints",
        "--locked",
        "--message-format",
        "json",
    ]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr[-3000:]
    made = [json.loads(line) for line in told.stdout.splitlines()]
    (library,) = [
        name
        for line in made
        if line.get("target", {}).get("name") == "_core"
        for name in line.get("filenames", [])
    ]
    return Path(library)


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """Runs with faults, in a package like ours but for the engine."""
    library = built_with_failpoints()
    above = tmp_path_factory.mktemp("faulty")
    package = above / "zephyr_fast"
    package.mkdir()
    for entry in PACKAGE.iterdir():
        if not entry.name.startswith("_core.") or entry.suffix == ".pyi":
            (package / entry.name).symlink_to(entry)
    shutil.copy(library, package / "_core.abi3.so")
    runs = Faulty(above)
    yield runs
    runs.stop()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By verb, the options of a run that is small but writes every kind of file: rows of both
    splits, and rows in quarantine.
    """
    folder = tmp_path_factory.mktemp("small")
    options = {}
    for verb, name in (("prep", "ultrachat"), ("binarize", "ultrafeedback")):
        lines = (PACKAGE / "sample" / f"{name}.jsonl").read_bytes().splitlines(keepends=True)
        path = folder / f"{name}.jsonl"
        path.write_bytes(b"".join(lines[:40]) + b"no row\n")
        options[verb] = {
            "input": str(path),
            "tokenizer": "sample",
            "overrides": {"shards.test_fraction": 0.3},
            "threads": 2,
        }
    return options


@pytest.fixture(scope="session")
def wanted(
    small: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, bytes]]:
    """By verb, every byte of that run undisturbed, by the engine as it is shipped."""
    from out_folder import files

    folder = tmp_path_factory.mktemp("wanted")
    for verb, options in small.items():
        getattr(zephyr_fast, verb)(**options, out=folder / verb)
    found = {verb: files(folder / verb) for verb in small}
    assert all(
        any(name.startswith("_quarantine/") for name in written) for written in found.values()
    )
    assert all(
        {"train-00000.arrow", "test-00000.arrow", "text/test-00000.parquet"} <= set(written)
        for written in found.values()
    )
    return found


def pytest_report_header() -> str:
    """Which profile runs."""
    profile = "long" if os.environ.get("ZEPHYR_FAST_LONG") else "short"
    return f"reliability: the {profile} profile (ZEPHYR_FAST_LONG=1 is the long one)"
