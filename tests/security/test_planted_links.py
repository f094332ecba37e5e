"""Links, locks and strangers in an out folder: what each one alone leads to, and what a user's
own files are safe from.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import zephyr_fast
from bed import HANG_SECONDS, Bed, digest, prepared
from out_folder import files
from shell import command, refusal, rows_file
from zephyr_fast import IntegrityError, OutputExistsError


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    return Bed(tmp_path_factory.mktemp("bed"))


def test_a_work_folder_that_is_a_link_is_refused_and_named(bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_work").symlink_to(bed.victim)
    for more in ([], ["--overwrite"]):
        told = refusal(5, "prep", "--input", "sample", "--out", tmp_path / "out", *more)
        assert "_work" in told and "a symbolic link" in told and "nothing was removed" in told
    assert digest(bed.victim) == bed.before


@pytest.mark.parametrize("plant", [os.symlink, os.link], ids=["symbolic", "hard"])
@pytest.mark.parametrize("content", ["secret", "", "process 17"])
def test_a_lock_that_is_another_file_is_not_written_over(
    plant: Callable[[Path, Path], None], content: str, tmp_path: Path
) -> None:
    (tmp_path / "theirs").write_text(content)
    (tmp_path / "out" / "_work").mkdir(parents=True)
    plant(tmp_path / "theirs", tmp_path / "out" / "_work" / "lock")
    with pytest.raises(OutputExistsError, match="lock"):
        zephyr_fast.prep(input="sample", out=tmp_path / "out", overwrite=True)
    assert (tmp_path / "theirs").read_text() == content


def test_a_lock_that_holds_anything_else_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "out" / "_work").mkdir(parents=True)
    lock = tmp_path / "out" / "_work" / "lock"
    lock.write_text("my diary")
    with pytest.raises(OutputExistsError, match="lock"):
        zephyr_fast.prep(input="sample", out=tmp_path / "out", overwrite=True)
    assert lock.read_text() == "my diary"


@pytest.mark.parametrize(
    "state", ["finished", "finished, of another run", "unfinished", "unfinished, of another run"]
)
def test_a_users_own_files_beside_ours_are_never_swept(
    state: str, bed: Bed, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    prepared(bed, "text", state, out)
    own = [
        "mine.txt",
        "text/mine.txt",
        "text/mine/too.txt",
        "_ledger/mine.txt",
        "_quarantine/mine.jsonl",
        "tokenizer/mine.json",
        "_ref/mine/x",
    ]
    for name in own:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    zephyr_fast.prep(**bed.options["text"], out=out, overwrite=True)
    assert all((out / name).read_text() == name for name in own)
    ours = {name: content for name, content in files(out).items() if name not in own}
    assert ours == files(bed.folder / "text")


def test_a_work_folder_with_a_users_file_is_refused_and_the_file_named(
    bed: Bed, tmp_path: Path
) -> None:
    for state in ("work alone", "finished", "finished, of another run", "unfinished"):
        out = tmp_path / state
        prepared(bed, "text", state, out)
        (out / "_work").mkdir(exist_ok=True)
        (out / "_work" / "thesis.tex").write_text("years")
        before = files(out)
        with pytest.raises(OutputExistsError, match=r"thesis\.tex"):
            zephyr_fast.prep(**bed.options["text"], out=out, overwrite=True)
        assert files(out) == before


def test_another_programs_manifest_does_not_make_a_folder_ours(bed: Bed, tmp_path: Path) -> None:
    for content in ('{"name": "app", "icons": []}', "", "[" * 100_000):
        (tmp_path / "manifest.json").write_text(content)
        for name in ("README.md", "train-00000.arrow"):
            (tmp_path / name).write_text("theirs")
        with pytest.raises(OutputExistsError, match=r"manifest\.json"):
            zephyr_fast.prep(**bed.options["text"], out=tmp_path, overwrite=True)
        assert (
            (tmp_path / "README.md").read_text()
            == (tmp_path / "train-00000.arrow").read_text()
            == "theirs"
        )


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_a_data_set_whose_manifest_was_cut_is_still_ours_to_make_again(
    cut: int, bed: Bed, tmp_path: Path
) -> None:
    shutil.copytree(bed.folder / "text", tmp_path / "out")
    content = (tmp_path / "out" / "manifest.json").read_bytes()
    (tmp_path / "out" / "manifest.json").write_bytes(content[:cut])
    with pytest.raises(IntegrityError, match="--overwrite"):
        zephyr_fast.prep(**bed.options["text"], out=tmp_path / "out")
    zephyr_fast.prep(**bed.options["text"], out=tmp_path / "out", overwrite=True)
    assert files(tmp_path / "out") == files(bed.folder / "text")


def test_a_finished_folder_that_lost_a_file_is_no_longer_nothing_to_do(
    bed: Bed, tmp_path: Path
) -> None:
    whole = files(bed.folder / "tokens")
    for name in whole.keys() - {"manifest.json"}:
        for damage in ("gone", "cut", "link", "folder"):
            out = tmp_path / "out"
            shutil.copytree(bed.folder / "tokens", out)
            (out / name).unlink()
            if damage == "cut":
                (out / name).write_bytes(whole[name][:-1])
            elif damage == "link":
                (out / name).symlink_to(bed.folder / "tokens" / name)
            elif damage == "folder":
                (out / name).mkdir()
            with pytest.raises(IntegrityError, match="--overwrite") as told:
                zephyr_fast.prep(**bed.options["tokens"], out=out)
            assert name in str(told.value)
            if damage in ("gone", "cut"):
                zephyr_fast.prep(**bed.options["tokens"], out=out, overwrite=True)
                assert files(out) == whole
            shutil.rmtree(out)


def test_an_out_folder_may_itself_be_a_link_that_the_user_typed(bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out").symlink_to("large disk")
    zephyr_fast.prep(**bed.options["text"], out=tmp_path / "out")
    assert files(tmp_path / "large disk") == files(bed.folder / "text")


def test_a_folder_swapped_for_a_link_while_a_run_goes_on_leads_nowhere(
    bed: Bed, tmp_path: Path
) -> None:
    rows, out = rows_file(tmp_path / "rows.jsonl", 20_000), tmp_path / "out"
    line, environment = command("prep", "--input", rows, "--tokenizer", "sample", "--out", out)
    for name in ("text", "_ledger", "_quarantine", "_work"):
        running = subprocess.Popen(
            line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        while not (out / "text").is_dir() and running.poll() is None:
            time.sleep(0.001)
        running.send_signal(signal.SIGSTOP)
        if (out / name).exists():  # else the machine was so fast that the run is over
            (out / name).rename(tmp_path / f"moved-{name}")
            (out / name).symlink_to(bed.victim)
        running.send_signal(signal.SIGCONT)
        told = running.communicate(timeout=HANG_SECONDS)[1]
        assert running.returncode in (0, 6, 8), told
        assert digest(bed.victim) == bed.before, name
        shutil.rmtree(out)
