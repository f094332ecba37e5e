"""Small manners of the command line: suggestions for typos, --dry-run, --quiet, --verbose,
--log-file, and summaries that can be searched line by line.
"""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pytest

from out_folder import files, manifest
from shell import SAMPLE, refusal, rows_file, shell


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["perp"], "prep"),
        (["prep", "--otu", "x"], "--out"),
        (["binarize", "--presett", "paper"], "--preset"),
        (["prep", "ultrachatt", "--out", "out"], "ultrachat"),
        (["prep", *SAMPLE, "--out", "out", "--set", "packk.seq_len=64"], "pack"),
        (["prep", *SAMPLE, "--out", "out", "--set", "pack.seqlen=64"], "seq_len"),
        (["prep", *SAMPLE, "--out", "out", "--set", "filter.0.kind=phrase"], "phrases"),
        (["binarize", *SAMPLE, "--out", "out", "--preset", "paperr"], "paper"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_typo_gets_a_suggestion(words: list[str], suggestion: str) -> None:
    assert f"did you mean `{suggestion}`?" in refusal(2, *words)


def test_a_word_that_is_like_no_other_gets_none() -> None:
    assert "did you mean" not in refusal(2, "prep", *SAMPLE, "--out", "out", "--set", "zzz=1")
    assert "did you mean" not in refusal(2, "xylophone")
    assert "did you mean" not in refusal(2, "prep", *SAMPLE, "--out", "out", "--frobnicate")


@pytest.mark.parametrize("group", [[], ["evaluate"], ["feedback"], ["generate"], ["recipe"]])
def test_no_summary_of_a_command_is_cut_off(group: list[str]) -> None:
    _, commands = shell(*group, "--help", COLUMNS="80").stdout.split("Commands:")
    assert "..." not in commands


def test_options_that_exclude_each_other_are_an_error(tmp_path: Path) -> None:
    out = ("prep", *SAMPLE, "--out", tmp_path / "out")
    assert "exclude each other" in refusal(2, *out, "--strict", "--max-bad-rows", "5")
    assert "exclude each other" in refusal(2, *out, "--quiet", "--verbose")
    assert "exclude each other" in refusal(2, *out, "--dry-run", "--json")
    assert not (tmp_path / "out").exists()


def plan_of(*words: str | Path) -> dict[str, str]:
    done = shell(*words, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    return {line[:10].strip(): line[11:] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.jsonl.zst"])
def test_a_dry_run_estimates_and_writes_nothing(name: str, tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", 60_000)
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(rows.read_bytes()))
    if name.endswith(".zst"):
        with pa.CompressedOutputStream(str(tmp_path / name), "zstd") as stream:
            stream.write(rows.read_bytes())
    words = ("prep", "-i", tmp_path / name, "--tokenizer", "sample", "--out", tmp_path / "out")
    before = files(tmp_path)
    plan = plan_of(*words)
    assert files(tmp_path) == before and not (tmp_path / "out").exists()
    words = plan["rows"].replace(",", "").split()
    if words[0] == "about":
        assert abs(int(words[1]) - 60_000) < 6_000 and "(estimate)" in plan["rows"]
    else:  # the whole file was read
        assert words[0] == "60000" and (tmp_path / name).stat().st_size <= 1 << 20
    assert "(estimate)" in plan["disk"] and "would be created" in plan["output"]
    assert str(tmp_path / name) in plan["input"]


def test_a_dry_run_counts_what_it_has_read_and_guesses_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "two.jsonl").write_text('{"data": ["a", "b"]}\n\n{"data": ["c", "d"]}')
    (tmp_path / "zeros.jsonl.gz").write_bytes(gzip.compress(bytes(80 << 20)))
    (tmp_path / "rows.parquet").write_bytes(b"PAR1" + bytes(100))
    words = ("prep", "--tokenizer", "sample", "--out", tmp_path / "out", "-i")
    assert plan_of(*words, tmp_path / "two.jsonl")["rows"].startswith("2 rows; ")
    for name in ("zeros.jsonl.gz", "rows.parquet"):
        assert plan_of(*words, tmp_path / name)["rows"].startswith("number of rows unknown")


def test_a_dry_run_names_a_dataset_that_would_be_replaced(tmp_path: Path) -> None:
    words = ("prep", *SAMPLE, "--out", tmp_path / "out")
    assert shell(*words).returncode == 0
    before = files(tmp_path)
    assert "would be kept if it is from the same run" in plan_of(*words)["output"]
    assert "would be replaced" in plan_of(*words, "--overwrite")["output"]
    assert files(tmp_path) == before


def test_a_dry_run_downloads_nothing(tmp_path: Path) -> None:
    done = shell("prep", "--out", tmp_path / "out", "--dry-run", HF_HOME=str(tmp_path / "hub"))
    assert done.returncode == 0, done.stderr
    assert "stingning/ultrachat, to be downloaded" in done.stdout
    assert "mistralai/Mistral-7B-v0.1, to be downloaded" in done.stdout
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_dry_run_ends_as_the_run_would(tmp_path: Path) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(b"dear")
    for code, words in (
        (5, (*SAMPLE, "--out", tmp_path)),
        (4, ("-i", tmp_path / "absent.jsonl", "--out", tmp_path / "out")),
        (2, (*SAMPLE, "--out", tmp_path / "out", "--set", "binarize.preset=argilla")),
        (2, ("ultrafeedback", *SAMPLE, "--out", tmp_path / "out", "--set", "shards.tokens=false")),
        (
            4,
            (
                *(*SAMPLE, "--out", tmp_path / "out", "--set", "shards.tokens=false"),
                *("--decontaminate", f"a={tmp_path}/absent.jsonl:x"),
            ),
        ),
    ):
        told = refusal(code, "prep", *words, "--dry-run")
        if code != 5:
            assert told == refusal(code, "prep", *words)
        else:
            assert "holiday.jpg" in told
    assert "holiday.jpg" in refusal(8, "prep", *SAMPLE, "--out", f"{path}/x", "--dry-run")


def test_quiet_prints_nothing_and_verbose_the_plan(tmp_path: Path) -> None:
    words = ("prep", *SAMPLE, "--out", tmp_path / "out")
    done = shell(*words, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = shell(*words, "--quiet")  # the second time, there is nothing to do
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = shell(*words, "--verbose")
    assert "tokenizer " in done.stderr and "done in" in done.stderr and "rows" in done.stdout
    assert "no recipe" in refusal(2, "prep", "absent", *words[1:], "--quiet")


def test_a_log_file_has_what_is_printed_and_more_at_each_run(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    words = ("prep", *SAMPLE, "--out", tmp_path / "out", "--log-file", log)
    printed = shell(*words).stdout
    first = log.read_text()
    assert all(line in first for line in printed.splitlines()) and "done in" in first
    shell(*words, "--quiet")
    assert log.read_text().startswith(first) and "is up to date" in log.read_text()
    refusal(2, *words, "--set", "zzz=1")
    assert "unknown field `zzz`" in log.read_text()
    absent = tmp_path / "absent" / "run.log"
    assert str(absent) in refusal(8, *words[:-1], absent)


def test_a_log_file_spoils_neither_inputs_nor_datasets(tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", 20)
    before = rows.read_bytes()
    words = ("prep", "-i", rows, "--tokenizer", "sample", "--out", tmp_path / "out", "--log-file")
    for log in (rows, tmp_path / "out" / "run.log", tmp_path / "out" / "manifest.json"):
        assert "is read or replaced" in refusal(2, *words, log)
    (tmp_path / "link.log").symlink_to(rows)
    assert "is read or replaced" in refusal(2, *words, tmp_path / "link.log")
    (tmp_path / "other.log").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "fifo.log")
    for log in ("other.log", "fifo.log"):
        assert log in refusal(8, *words, tmp_path / log)
    assert rows.read_bytes() == before and not (tmp_path / "elsewhere").exists()
    assert shell(*words, tmp_path / "run.log", "--dry-run").returncode == 0
    assert not (tmp_path / "run.log").exists()


def test_a_summary_in_a_pipe_is_not_wrapped(tmp_path: Path) -> None:
    done = shell("prep", *SAMPLE, "--out", tmp_path / "out", COLUMNS="40")
    lines = done.stdout.splitlines()
    labels = [line[:16].strip() for line in lines]
    assert all(labels) and max(map(len, lines)) > 100
    assert not [line for line in lines if line != line.rstrip()]
    assert labels.index("train") < labels.index("test")
    assert set(manifest(tmp_path / "out")["splits"]) == {"train", "test"}


def test_help_names_the_bundled_recipes_of_each_command() -> None:
    prep, binarize = (
        " ".join(shell(name, "--help").stdout.split()) for name in ("prep", "binarize")
    )
    assert "bundled recipe (chat, ultrachat, ultrachat-200k, ultrachat-200k-trl07)" in prep
    assert "bundled recipe (pairs, ultrafeedback)" in binarize
    _, _, commands = shell("--help").stdout.partition("Commands:")
    assert "prep" in commands and "..." not in commands
