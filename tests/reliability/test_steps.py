"""A run killed, or failed by the disk, at each single step that it writes: nothing torn is ever
in sight, and the next run is exact.

The steps are those of `rust/core/src/disk.rs`. Each guarantee can be switched off there; its
check must then fail, or it proves nothing.
"""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faulty import ABORTED, Faulty
from out_folder import files
from zephyr_fast import _core

Options = dict[str, dict[str, Any]]
Bytes = dict[str, dict[str, bytes]]
DRAFT = ".zephyr-draft-"
STORAGE = 8
ERRNOS = [errno.ENOSPC, errno.EIO] + (
    [errno.EDQUOT, errno.EROFS] if os.environ.get("ZEPHYR_FAST_LONG") else []
)


class Steps:
    """One verb's run, made to fail at a step into a folder."""

    def __init__(
        self,
        faulty: Faulty,
        verb: str,
        options: dict[str, Any],
        wanted: dict[str, bytes],
        folder: Path,
    ) -> None:
        self.faulty, self.verb, self.options, self.wanted, self.folder = (
            faulty,
            verb,
            options,
            wanted,
            folder,
        )

    def run(self, out: Path, **environment: str) -> tuple[int, str]:
        done = self.faulty.run(self.verb, {**self.options, "out": str(out)}, **environment)
        return done.code, done.said

    def at_each_step(
        self,
        kind: str,
        check: Callable[[Path, int, str], None],
        before: Callable[[Path], None] = lambda out: None,
    ) -> int:
        """Runs with the fault at step 1, 2, … up to the last that a run has; gives their number."""
        steps = len(self.trace(before))
        for step in range(1, steps + 1):
            out = self.folder / f"{kind}-{step}"
            before(out)
            code, said = self.run(out, FAULT=f"{kind}@{step}")
            check(out, code, f"{self.verb}: {kind} at step {step}: {code} {said}")
            shutil.rmtree(out)
        return steps

    def trace(self, before: Callable[[Path], None] = lambda out: None) -> list[tuple[str, Path]]:
        """What an undisturbed run does to the disk, and where."""
        trace, out = self.folder / "trace", self.folder / "traced"
        before(out)
        assert self.run(out, TRACE=str(trace))[0] == 0
        told = [line.split(" ", 1) for line in trace.read_text().splitlines()]
        return [(what, Path(path)) for what, path in told]

    def rerun_is_exact(self, out: Path, said: str) -> None:
        assert self.run(out) == (0, ""), said
        assert files(out) == self.wanted, said

    def nothing_torn(self, out: Path, said: str) -> None:
        """Every file under a name of its own is whole, and where there is a manifest the data
        set is.
        """
        found = {
            name: content
            for name, content in files(out).items()
            if DRAFT not in name and not name.startswith("_work/")
        }
        assert all(content == self.wanted[name] for name, content in found.items()), said
        assert "manifest.json" not in found or found == self.wanted, said


@pytest.fixture(params=["prep", "binarize"])
def steps(
    request: pytest.FixtureRequest, faulty: Faulty, small: Options, wanted: Bytes, tmp_path: Path
) -> Steps:
    verb: str = request.param
    return Steps(faulty, verb, small[verb], wanted[verb], tmp_path)


def killed(steps: Steps) -> int:
    """The check of R1 under kills."""

    def check(out: Path, code: int, said: str) -> None:
        assert code == ABORTED, said
        steps.nothing_torn(out, said)
        steps.rerun_is_exact(out, said)

    return steps.at_each_step("kill", check)


def killed_while_replacing(steps: Steps) -> int:
    """The same where another run's data set is replaced: no manifest may describe what is no
    longer there.
    """
    other = {
        **steps.options,
        "overrides": {**steps.options["overrides"], "seed": 7, "shards.text": False},
    }

    def before(out: Path) -> None:
        assert steps.faulty.run(steps.verb, {**other, "out": str(out)}).code == 0

    before(steps.folder / "other")
    theirs = files(steps.folder / "other")
    steps.options = {**steps.options, "overwrite": True}

    def check(out: Path, code: int, said: str) -> None:
        assert code == ABORTED, said
        found = {
            name: content
            for name, content in files(out).items()
            if DRAFT not in name and not name.startswith("_work/")
        }
        assert "manifest.json" not in found or found in (theirs, steps.wanted), said
        steps.rerun_is_exact(out, said)

    return steps.at_each_step("kill", check, before)


def failed(steps: Steps, number: int) -> int:
    """The check of R1 and R9 under errors of the disk."""

    def check(out: Path, code: int, said: str) -> None:
        assert code == STORAGE and "cannot write" in said and "os error" in said, said
        assert not [name for name in files(out) if DRAFT in name], said
        steps.nothing_torn(out, said)
        steps.rerun_is_exact(out, said)

    return steps.at_each_step(str(number), check)


def near_search_truncated(steps: Steps) -> int:
    def check(out: Path, code: int, said: str) -> None:
        assert code == 0, said
        assert files(out) == steps.wanted, said

    return steps.at_each_step("short", check)


def in_the_right_order(steps: Steps) -> None:
    """Every file: made, written, synced, renamed, its folder synced; the manifest last of all."""
    told = steps.trace()
    renamed = [(place, path) for place, (what, path) in enumerate(told) if what == "rename"]
    synced = [place for place, (what, _) in enumerate(told) if what == "sync"]
    # The note of what the run is, in the work folder.
    assert len(renamed) == len(synced) == len(steps.wanted) + 1
    for place, path in renamed:
        assert told[place - 1][0] == "sync" and told[place - 1][1].parent == path.parent, path
        assert told[place + 1] == ("sync_folder", path.parent), path
    assert renamed[-1][1].name == "manifest.json"
    after = [what for what, _ in told[renamed[-1][0] :]]
    assert after == ["rename", "sync_folder", "remove"]


def never_over_another(steps: Steps) -> None:
    """A file that came between, whoever wrote it, stays as it is, and the run says so."""
    for number, (what, path) in enumerate(steps.trace(), 1):
        if what == "rename":
            name = path.relative_to(steps.folder / "traced")
            out = steps.folder / f"planted-{number}"
            code, said = steps.run(out, FAULT=f"plant@{number}")
            assert code == STORAGE and "exists" in said, f"{name}: {code} {said}"
            assert (out / name).read_text() == "a stranger's", name


def test_a_run_killed_at_any_step_leaves_nothing_torn_and_the_next_is_exact(steps: Steps) -> None:
    assert killed(steps) > 40


def test_a_run_killed_at_any_step_of_replacing_another_leaves_no_manifest_that_lies(
    steps: Steps,
) -> None:
    assert killed_while_replacing(steps) > 40


@pytest.mark.parametrize("number", ERRNOS, ids=errno.errorcode.get)
def test_a_disk_that_fails_at_any_step_is_told_in_one_line_and_the_next_run_is_exact(
    steps: Steps, number: int
) -> None:
    assert failed(steps, number) > 40


def test_writes_that_are_cut_short_at_any_step_change_no_byte(steps: Steps) -> None:
    assert near_search_truncated(steps) > 40


def test_every_file_is_synced_before_its_name_and_its_folder_behind_it(steps: Steps) -> None:
    in_the_right_order(steps)


def test_no_file_ever_takes_the_place_of_another(steps: Steps) -> None:
    never_over_another(steps)


def test_what_is_shipped_has_no_failpoints(faulty: Faulty) -> None:
    shipped, ours = (
        Path(path).read_bytes()
        for path in (_core.__file__, faulty.package / "zephyr_fast" / "_core.abi3.so")
    )
    for word in (b"ZEPHYR_FAST_FAULT", b"ZEPHYR_FAST_SABOTAGE"):
        assert word in ours and word not in shipped


SABOTAGED: dict[str, Callable[[Steps], object]] = {
    "in_place": killed,
    "manifest_first": killed,
    "stale_manifest": killed_while_replacing,
    "leave_drafts": lambda steps: failed(steps, errno.ENOSPC),
    "no_sync": in_the_right_order,
    "replace": never_over_another,
}


@pytest.mark.parametrize("guarantee", SABOTAGED)
def test_the_check_of_a_guarantee_fails_once_that_is_switched_off(
    guarantee: str, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = steps.faulty.run
    monkeypatch.setattr(
        steps.faulty,
        "run",
        lambda verb, options, **around: run(verb, options, **around, SABOTAGE=guarantee),
    )
    with pytest.raises(AssertionError):
        SABOTAGED[guarantee](steps)
