"""The command line as a shell sees it: exit codes, one clear line for every refusal, and folders
that are never left half done.
"""

import fcntl
import gzip
import signal
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from out_folder import files, ledger, manifest
from shell import SAMPLE, command, popen, refusal, rows_file, shell
from zephyr_fast import _core

HEAVY = (
    "torch",
    "trl",
    "transformers",
    "datasets",
    "polars",
    "pyarrow",
    "numpy",
    "rich",
    "huggingface_hub",
)


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("seed = 1\n\n[pack]\nseq_len = 64\nlength = 3\n", 5, "length"),
        ('[[filter]]\nkind = "structure"\n[[filter]]\nkind = "lenght"\n', 3, "lenght"),
        ("seed = 1\n[truecas]\n", 2, "truecas"),
        ('[pack]\nseq_len = "many"\n', 2, "many"),
        ("[pack\n", 1, ""),
    ],
)
def test_a_wrong_recipe_is_refused_with_file_and_line(
    text: str, line: int, word: str, tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(text)
    told = refusal(2, "prep", recipe, *SAMPLE, "--out", tmp_path / "out")
    assert f"{recipe}:{line}:" in told and word in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (["--set", "pack.seq=5"], "pack.seq=5"),
        (["--set", "pack.seq_len=many"], "pack.seq_len"),
        (["--set", "pack.seq_len"], "KEY=VALUE"),
        (["--set", "pack.seq_len=2"], "between 8 and"),
        (["--set", "filter.9.kind=length"], "filter.9"),
        (["--seq-len", "0"], "between 8 and"),
        (["--set", "binarize.preset=argilla"], "zephyr-fast binarize"),
        (["--set", "source.shape=pair"], "zephyr-fast binarize"),
        (["--set", "template.name=no-such.jinja"], "no-such.jinja"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_setting_that_cannot_be_obeyed_is_named(
    settings: list[str], word: str, tmp_path: Path
) -> None:
    assert word in refusal(2, "prep", *SAMPLE, "--out", tmp_path / "out", *settings)


@pytest.mark.parametrize(
    ("flag", "key", "kind"),
    [
        ("--strategy", "strategy", "strategies"),
        ("--score-by", "score_by", "scores"),
        ("--preset", "preset", "presets"),
    ],
)
def test_a_flag_takes_the_words_that_its_key_takes_and_refuses_others_alike(
    flag: str, key: str, kind: str, tmp_path: Path
) -> None:
    words = ("binarize", *SAMPLE, "--out", tmp_path / "out")
    told = refusal(2, *words, flag, "best-vs-none")
    assert told == refusal(2, *words, "--set", f"binarize.{key}=best-vs-none")
    assert "best-vs-none" in told and all(f"`{word}`" in told for word in _core.names(kind))
    assert not (tmp_path / "out").exists()
    told = shell("binarize", "--help").stdout
    assert f"{flag} [{'|'.join(_core.names(kind))}]" in told


def test_the_strategy_of_a_preset_can_be_named_alone(tmp_path: Path) -> None:
    flag, key = ("--strategy", "best-vs-draw"), ("--set", "binarize.strategy=best-vs-draw")
    for name, given in (("flag", flag), ("key", key), ("neither", ())):
        done = shell("binarize", *SAMPLE, "--out", tmp_path / name, *given)
        assert done.returncode == 0, done.stderr
    assert files(tmp_path / "flag") == files(tmp_path / "key") != files(tmp_path / "neither")


def test_an_unknown_recipe_is_told_the_known_ones(tmp_path: Path) -> None:
    told = refusal(2, "prep", "ultrachatt", *SAMPLE, "--out", tmp_path / "out")
    known = "chat, pairs, ultrachat, ultrachat-200k, ultrachat-200k-trl07, ultrafeedback"
    assert "`ultrachatt`" in told and known in told


def test_what_cannot_be_read_is_named_and_leaves_no_data_set(tmp_path: Path) -> None:
    whole = gzip.compress(rows_file(tmp_path / "rows.jsonl", 400).read_bytes())
    cut = whole[: len(whole) // 2]
    held = len(zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(cut))
    (tmp_path / "cut.jsonl.gz").write_bytes(cut)
    (tmp_path / "rows.txt").write_text("a,b\n")
    (tmp_path / "no.parquet").write_text("no Parquet")
    (tmp_path / "empty").mkdir()
    for name in ("absent.jsonl", "absent-*.jsonl", "empty", "rows.txt"):
        assert name in refusal(
            4,
            "prep",
            "--input",
            tmp_path / name,
            "--tokenizer",
            "sample",
            "--out",
            tmp_path / "out",
        )
        assert not (tmp_path / "out").exists()
    for name, word in (
        ("cut.jsonl.gz", f", after {held} bytes of the decompressed stream"),
        ("no.parquet", "Parquet"),
    ):
        told = refusal(
            4,
            "prep",
            "--input",
            tmp_path / name,
            "--tokenizer",
            "sample",
            "--out",
            tmp_path / f"out-{name}",
        )
        assert name in told and word in told
        assert not (tmp_path / f"out-{name}" / "manifest.json").exists()


def test_a_missing_tokenizer_is_named_with_the_ways_out(tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", 3)
    (tmp_path / "empty").mkdir()
    for name in ("no/such-tokenizer-here", "/no/such/folder", tmp_path / "empty"):
        assert str(name) in refusal(
            4, "prep", "--input", rows, "--tokenizer", name, "--out", tmp_path / "out"
        )
    told = refusal(
        4, "prep", "--input", rows, "--out", tmp_path / "out", HF_HOME=str(tmp_path / "hub")
    )
    assert (
        "mistralai/Mistral-7B-v0.1" in told
        and "--tokenizer DIR" in told
        and "--tokenizer sample" in told
    )


@pytest.mark.parametrize("name", ["prep", "binarize"])
def test_without_input_and_network_both_ways_out_are_named(name: str, tmp_path: Path) -> None:
    told = refusal(4, name, "--out", tmp_path / "out", HF_HOME=str(tmp_path / "hub"))
    assert "no network" in told and "--input 'raw/*.jsonl.zst'" in told and "--input sample" in told


def test_a_finished_folder_is_left_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert shell("prep", *SAMPLE, "--out", out).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = shell("prep", *SAMPLE, "--out", out, "--threads", "2")
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_another_runs_folder_is_refused_and_replaced_only_when_told_to(tmp_path: Path) -> None:
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    assert shell("prep", *SAMPLE, "--out", out).returncode == 0
    before = files(out)
    told = refusal(5, "prep", *SAMPLE, "--out", out, "--seq-len", "256")
    assert str(out) in told and "recipe" in told and "--overwrite" in told and "inputs" not in told
    assert "command" in refusal(5, "binarize", *SAMPLE, "--out", out)
    assert files(out) == before
    assert shell("binarize", *SAMPLE, "--out", out, "--overwrite").returncode == 0
    assert shell("binarize", *SAMPLE, "--out", fresh).returncode == 0
    assert files(out) == files(fresh)


def test_a_damaged_manifest_is_told_and_its_data_set_made_again_only_when_told_to(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    assert shell("prep", *SAMPLE, "--out", out).returncode == 0
    before = files(out)
    (out / "manifest.json").write_bytes(before["manifest.json"].replace(b'"prep"', b'"Prep"'))
    assert "--overwrite" in refusal(7, "prep", *SAMPLE, "--out", out)
    assert shell("prep", *SAMPLE, "--out", out, "--overwrite").returncode == 0
    assert files(out) == before


def test_a_folder_with_strange_files_is_refused_and_they_stay(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"dear")
    assert "holiday.jpg" in refusal(5, "prep", *SAMPLE, "--out", tmp_path, "--overwrite")
    assert files(tmp_path) == {"holiday.jpg": b"dear"}


def test_a_folder_that_another_process_writes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out" / "_work").mkdir(parents=True)
    with (tmp_path / "out" / "_work" / "lock").open("w") as lock:
        lock.write("process 12345")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "process 12345" in refusal(6, "prep", *SAMPLE, "--out", tmp_path / "out")
    assert shell("prep", *SAMPLE, "--out", tmp_path / "out").returncode == 0


def test_too_many_unreadable_rows_end_the_run_unless_they_are_allowed(tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", 30, bad=21)
    asked: tuple[str | Path, ...] = (
        "prep",
        "--input",
        rows,
        "--tokenizer",
        "sample",
        "--out",
        tmp_path / "out",
        "--set",
        "dedup.near=false",
    )
    told = refusal(3, *asked)
    assert "21 of 51 rows are unreadable" in told and "more than the 20 allowed" in told
    assert "rows.jsonl:31: invalid JSON: " in told and "line 1" not in told
    assert "raise `--max-bad-rows`" in told
    assert not (tmp_path / "out" / "manifest.json").exists()
    strict = refusal(3, *asked, "--strict")
    assert "1 row is unreadable" in strict and "--max-bad-rows" not in strict
    assert "exclude each other" in refusal(2, *asked, "--strict", "--max-bad-rows", "5")
    refusal(3, *asked, "--max-bad-rows", "20")
    assert shell(*asked, "--max-bad-rows", "21").returncode == 0
    assert manifest(tmp_path / "out")["rows"]["quarantined"] == {"invalid_json": 21}
    assert len(ledger(tmp_path / "out")) == 51


def test_twenty_unreadable_rows_are_borne_but_not_by_strict_runs(tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", 5, bad=20)
    asked: tuple[str | Path, ...] = (
        "prep",
        "--input",
        rows,
        "--tokenizer",
        "sample",
        "--out",
        tmp_path / "out",
    )
    assert "1 row is unreadable" in refusal(3, *asked, "--strict")
    assert shell(*asked).returncode == 0


def test_a_full_disk_is_told_in_one_line_and_leaves_no_data_set(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("a small disk cannot be mounted here (it takes root)")
    try:
        for name in ("prep", "binarize"):
            told = refusal(8, name, *SAMPLE, "--out", disk / name)
            assert "No space left on device" in told and str(disk) in told
            assert not (disk / name / "manifest.json").exists()
            subprocess.run(["rm", "-r", str(disk / name)], check=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_out_path_that_is_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    assert str(tmp_path / "out") in refusal(8, "prep", *SAMPLE, "--out", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.parametrize(
    "stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda stop: stop.name
)
def test_a_stopped_run_leaves_no_manifest_and_the_next_gives_the_bytes_of_one_that_was_not(
    stop: signal.Signals, tmp_path: Path
) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", 40_000)
    asked = ("prep", "--input", rows, "--tokenizer", "sample", "--set", "dedup.near=false", "--out")
    line, environment = command(*asked, tmp_path / "stopped")
    running = popen(line, environment)
    while not (tmp_path / "stopped" / "_work" / "run.json").exists():
        assert running.poll() is None
    running.send_signal(stop)
    told = running.communicate()[1]
    # A shell says 143 for SIGTERM.
    assert running.returncode == (130 if stop is signal.SIGINT else -stop)
    assert not (tmp_path / "stopped" / "manifest.json").exists()
    if stop is signal.SIGINT:
        # A blank line ends the shell's ^C.
        assert len(told.split("\n")) <= 3 and told.lstrip("\n").startswith("interrupted")
        assert not list((tmp_path / "stopped").rglob(".zephyr-draft-*"))
    assert shell(*asked, tmp_path / "stopped").returncode == 0
    refused = refusal(5, *asked, tmp_path / "stopped", "--seq-len", "64")
    assert "different run (different: recipe)" in refused
    assert shell(*asked, tmp_path / "whole").returncode == 0
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


def test_help_is_there_without_the_heavy_imports() -> None:
    for words in (["--help"], ["prep", "--help"], ["binarize", "--help"]):
        line, environment = command(*words)
        done = subprocess.run(
            [line[0], "-X", "importtime", *line[1:]],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        imported = {
            told.rsplit("|", 1)[-1].strip().split(".")[0] for told in done.stderr.splitlines()
        }
        assert "click" in imported and not imported & set(HEAVY)
        assert "Usage:" in done.stdout


def test_json_prints_the_manifest_and_nothing_else(tmp_path: Path) -> None:
    for name in ("prep", "binarize"):
        done = shell(name, *SAMPLE, "--out", tmp_path / name, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == (tmp_path / name / "manifest.json").read_text()


def test_the_summary_says_where_every_row_went(tmp_path: Path) -> None:
    done = shell("prep", *SAMPLE, "--out", tmp_path / "out")
    rows: dict[str, Any] = manifest(tmp_path / "out")["rows"]
    gone = {
        verdict: sum(rows[verdict].values()) for verdict in ("dropped", "duplicates", "quarantined")
    }
    wanted = f"{rows['read']} read = {rows['written']} written" + "".join(
        f" + {count} {verdict}" for verdict, count in gone.items()
    )
    assert done.returncode == 0 and wanted in done.stdout and done.stderr == ""
