"""`shards.tokens = false`: the same text as beside tokens, without a tokenizer, and nothing that
takes it for tokens.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import commands
import zephyr_fast
from out_folder import files, ledger, manifest, text_rows
from zephyr_fast.cli import cli
from zephyr_fast.costs import estimate
from zephyr_fast.dataset.manifest import seal
from zephyr_fast.dataset.product import Product
from zephyr_fast.dataset.verify import verify

SAMPLE = Path(zephyr_fast.__file__).parent / "sample"
ROWS = commands.SAMPLES


def run(command: str, out: Path, input: Path, *, tokens: bool, **settings: Any) -> None:
    verb = commands.function(command)
    # Only a tokenizer finds control tokens and over-long prompts; without these two the same rows
    # stay.
    same = {"tokenize.control_tokens": "allow"}
    if not Product.of_command(command).facts.is_packed:
        same[f"{command}.max_length"] = 1 << 20
    verb(
        input=input,
        out=out,
        tokenizer="sample" if tokens else None,
        overrides={"shards.tokens": tokens, **same, **settings},
    )


@pytest.mark.parametrize("command", ROWS)
def test_the_text_and_the_ledger_are_those_of_a_run_with_tokens(
    command: str, tmp_path: Path
) -> None:
    for name, tokens in (("both", True), ("text", False)):
        run(command, tmp_path / name, ROWS[command], tokens=tokens)
    for split in ("train", "test"):
        assert text_rows(tmp_path / "text", split) == text_rows(tmp_path / "both", split) != []
    counted = ("tokens", "label_tokens", "tokens_truncated")
    lines = [{**line, **dict.fromkeys(counted)} for line in ledger(tmp_path / "both")]
    assert ledger(tmp_path / "text") == lines
    made, beside = manifest(tmp_path / "text"), manifest(tmp_path / "both")
    assert made["rows"] == beside["rows"]
    assert made["tokenizer"] is made["template"] is None
    assert made["fingerprint"] != beside["fingerprint"]
    assert {
        name: (split["rows"], split["tokens"], split["shards"])
        for name, split in made["splits"].items()
    } == {name: (split["rows"], 0, []) for name, split in beside["splits"].items()}


@pytest.mark.parametrize("command", ROWS)
def test_real_rows_give_the_same_text_with_and_without_tokens(
    command: str, real: Path, tmp_path: Path
) -> None:
    path = real / commands.REAL[command]
    for name, tokens in (("both", True), ("text", False)):
        run(command, tmp_path / name, path, tokens=tokens, **{"shards.test_fraction": 0.0})
    # Whether anything is left to train on is for tokens to say.
    written = {line["row_id"] for line in ledger(tmp_path / "both") if line["outcome"] == "written"}
    lines = [line for line in ledger(tmp_path / "text") if line["outcome"] == "written"]
    kept = [line["row_id"] in written for line in lines for _ in range(line["pairs"] or 1)]
    texts = [
        text
        for text, stays in zip(text_rows(tmp_path / "text", "train"), kept, strict=True)
        if stays
    ]
    assert texts == text_rows(tmp_path / "both", "train") != []


def test_threads_do_not_change_a_byte_and_the_same_run_is_left_as_it_is(tmp_path: Path) -> None:
    for command, path in ROWS.items():
        for threads in (1, 2, 4):
            verb = commands.function(command)
            verb(
                input=path,
                out=tmp_path / f"{command}-{threads}",
                threads=threads,
                overrides={"shards.tokens": False},
            )
        first = files(tmp_path / f"{command}-1")
        assert files(tmp_path / f"{command}-2") == files(tmp_path / f"{command}-4") == first
        run_again = (tmp_path / f"{command}-1" / "manifest.json").stat().st_mtime_ns
        verb(input=path, out=tmp_path / f"{command}-1", overrides={"shards.tokens": False})
        assert (tmp_path / f"{command}-1" / "manifest.json").stat().st_mtime_ns == run_again


@pytest.mark.parametrize("command", ROWS)
def test_datasets_reads_the_folder_by_its_card_and_verify_finds_it_whole(
    command: str, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    run(command, tmp_path / "text", ROWS[command], tokens=False)
    loaded = datasets.load_dataset(str(tmp_path / "text"), cache_dir=str(tmp_path / "cache"))
    for split in ("train", "test"):
        assert loaded[split].to_list() == text_rows(tmp_path / "text", split)
    assert not verify(tmp_path / "text", raise_on_error=False).problems
    damaged = tmp_path / "text" / "text" / "train-00000.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert [damage.file for damage in verify(tmp_path / "text", raise_on_error=False).problems] == [
        "text/train-00000.parquet"
    ]


def test_a_manifest_that_names_fewer_rows_of_text_contradicts_itself(tmp_path: Path) -> None:
    run("binarize", tmp_path / "text", ROWS["binarize"], tokens=False)
    path = tmp_path / "text" / "manifest.json"
    fields = json.loads(path.read_text())
    fields["splits"]["train"]["text"][0]["rows"] -= 1
    path.write_text(seal(fields))
    assert "the row counts of the text files of split `train` do not add up" in [
        damage.message for damage in verify(tmp_path / "text", raise_on_error=False).problems
    ]


def test_whoever_needs_tokens_refuses_it_and_says_what_to_do(tmp_path: Path) -> None:
    out = tmp_path / "text"
    run("binarize", out, ROWS["binarize"], tokens=False)
    with pytest.raises(
        zephyr_fast.InputError, match=r"text only.*rebuild it with a tokenizer.*load_dataset"
    ):
        zephyr_fast.open_shards(out)
    with pytest.raises(zephyr_fast.InputError, match="text only"):
        estimate(out, "tiny-dpo")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["binarize", "--tokenizer", "sample", "--set", "shards.tokens=false"],
            "`--tokenizer` cannot be used with `shards.tokens = false`",
        ),
        (
            ["binarize", "--set", "shards.tokens=false", "--set", "shards.text=false"],
            "there is nothing to write",
        ),
        (
            ["prep", "--set", "shards.tokens=false", "--set", "compat=trl-0.7"],
            "cannot be combined with `shards.tokens = false`",
        ),
    ],
)
def test_what_makes_no_sense_without_tokens_is_refused_by_name(
    arguments: list[str], says: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(
        cli, [*arguments, "--input", "sample", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code != 0
    assert says in str(done.exception) + done.output
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_summary_says_that_it_is_text_alone(tmp_path: Path) -> None:
    arguments = [
        "binarize",
        "--input",
        "sample",
        "--out",
        str(tmp_path / "out"),
        "--set",
        "shards.tokens=false",
    ]
    done = CliRunner().invoke(cli, arguments, env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "222 pairs from 222 prompts, text only" in done.output
    assert "text/train-00000.parquet" in done.output
