"""The examples in the docstrings of public functions run and print what they show."""

import doctest
from pathlib import Path
from typing import Any

import pytest

import commands
import zephyr_fast
from zephyr_fast import Manifest, estimate, prep, scan_ledger, verify
from zephyr_fast._core import names

RUNS = [commands.function(command) for command in names("commands")]
FUNCTIONS = [*RUNS, Manifest.read, estimate, scan_ledger]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docstrings") / "out"
    prep(input="sample", out=out)
    return out


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: one.__qualname__)
def test_the_example_prints_what_it_shows(function: Any, dataset: Path, tmp_path: Path) -> None:
    is_run = function in RUNS
    known = vars(zephyr_fast) | {"out": tmp_path / "out" if is_run else dataset}
    known |= {"estimate": estimate, "scan_ledger": scan_ledger}
    found = doctest.DocTestFinder(recurse=False).find(function, "example", globs=known)[0]
    assert found.examples
    runner = doctest.DocTestRunner()
    assert runner.run(found).failed == 0


@pytest.mark.parametrize("function", [*FUNCTIONS, verify], ids=lambda one: one.__qualname__)
def test_a_public_docstring_says_what_it_raises(function: Any) -> None:
    text = function.__doc__ or ""
    assert "Raises:" in text or "those of `prep`" in text
