"""An export of a batch that is interrupted anywhere, and what the next one makes of it."""

import json
from pathlib import Path

import pytest

from asking import call, endpoint_at, one
from zephyr_fast._core import InputError, IntegrityError
from zephyr_fast.endpoint import batch
from zephyr_fast.endpoint.log import CallLog

ENDPOINTS = {"teacher": endpoint_at("http://127.0.0.1:9/v1")}
CALLS = [call(text) for text in "abc"]


def export(log: CallLog, path: Path) -> int:
    return batch.export(map(one, CALLS), ENDPOINTS, "teacher", log, path)


def keys(path: Path) -> set[str]:
    return {json.loads(line)["custom_id"] for line in path.read_text().splitlines()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A log and a draft as an export leaves them that is interrupted before it renames."""
    with CallLog(tmp_path / "log") as log:
        assert export(log, tmp_path / "out") == 3
    (tmp_path / "out").rename(tmp_path / "out.draft")
    return tmp_path


def test_an_export_that_only_lacks_its_name_is_finished(folder: Path) -> None:
    draft = (folder / "out.draft").read_bytes()
    with CallLog(folder / "log") as log:
        spent = log.spent
        assert export(log, folder / "out") == 3
        assert log.spent == spent and keys(folder / "out") == set(log.batched)
    assert (folder / "out").read_bytes() == draft
    assert sorted(path.name for path in folder.iterdir()) == ["log", "out"]


@pytest.mark.parametrize("logged", [0, 1, 2])
def test_a_file_has_the_calls_that_the_log_has_in_it_and_the_next_one_the_others(
    folder: Path, logged: int
) -> None:
    lines = (folder / "log").read_bytes().splitlines(keepends=True)
    (folder / "log").write_bytes(b"".join(lines[:logged]) + lines[logged][:50])
    with CallLog(folder / "log") as log:
        first = export(log, folder / "out")
        assert first == (logged or 3), "without a line in the log it begins anew"
        assert export(log, folder / "next") == 3 - first
        assert keys(folder / "out") == {k for k, name in log.batched.items() if name == "out"}
        assert len(log.batched) == 3
    assert (folder / "next").exists() == (first < 3)


def test_a_draft_that_was_cut_and_is_in_no_log_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "out.draft").write_bytes(b'{"custom')
    with CallLog(tmp_path / "log") as log:
        assert export(log, tmp_path / "out") == 3
        assert keys(tmp_path / "out") == set(log.batched)


def test_a_draft_that_lost_calls_is_not_exported(folder: Path) -> None:
    (folder / "out.draft").write_bytes((folder / "out.draft").read_bytes()[:-9])
    with CallLog(folder / "log") as log, pytest.raises(IntegrityError, match="release `out`"):
        export(log, folder / "out")
    assert not (folder / "out").exists()


def test_a_name_whose_calls_wait_for_results_is_not_used_again(folder: Path) -> None:
    (folder / "out.draft").unlink()
    with CallLog(folder / "log") as log:
        with pytest.raises(InputError, match="wait for results"):
            export(log, folder / "out")
        assert batch.release(log, "out") == 3
        assert export(log, folder / "out") == 3


def test_an_export_without_calls_writes_no_file(folder: Path) -> None:
    with CallLog(folder / "log") as log:
        assert export(log, folder / "second") == 0
    assert sorted(path.name for path in folder.iterdir()) == ["log", "out.draft"]
