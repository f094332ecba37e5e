"""What is no regular file is refused at once, wherever a path is named: a FIFO would wait for
ever, a device never ends.
"""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from shell import SAMPLE, command, popen, rows_file
from zephyr_fast import InputError, Manifest
from zephyr_fast.prepare.inputs import BUNDLED_TOKENIZER
from zephyr_fast.train import config_file
from zephyr_fast.train.trust import check_folder
from zephyr_fast.untrusted.matching import matches

HANGS = 120
"""Seconds after which a command is taken for hanging, on however slow a machine."""

KINDS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "link to a fifo": lambda path: (os.mkfifo(f"{path}-target"), path.symlink_to(f"{path}-target")),
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "/dev/null": lambda path: path.symlink_to("/dev/null"),
    "/dev/full": lambda path: path.symlink_to("/dev/full"),
}


def refused(*words: str | Path) -> str:
    """The one line of a command that must end by itself, with the code of an input or a recipe."""
    line, environment = command(*words)
    done = subprocess.run(
        line,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert done.returncode in (2, 4), done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_prep_reads_rows_recipes_and_tokenizers_of_regular_files_alone(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "tokenizer").mkdir()
    rows = rows_file(tmp_path / "rows.jsonl", 3)
    for path in (
        tmp_path / "in" / "a.jsonl",
        tmp_path / "r.toml",
        tmp_path / "t.json",
        tmp_path / "tokenizer" / "tokenizer.json",
    ):
        KINDS[kind](path)
    out = ("--out", tmp_path / "out")
    for words in (
        ("prep", "--input", tmp_path / "in" / "a.jsonl", "--tokenizer", "sample", *out),
        ("prep", "--input", tmp_path / "in", "--tokenizer", "sample", *out),
        ("prep", tmp_path / "r.toml", *SAMPLE, *out),
        ("prep", "--input", rows, "--tokenizer", tmp_path / "t.json", *out),
        ("prep", "--input", rows, "--tokenizer", tmp_path / "tokenizer", *out),
    ):
        assert "regular file" in refused(*words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"]
)
def test_no_file_of_a_tokenizer_is_waited_for(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes((BUNDLED_TOKENIZER / "tokenizer.json").read_bytes())
    os.mkfifo(folder / name)
    rows = rows_file(tmp_path / "rows.jsonl", 3)
    assert name in refused(
        "prep", "--input", rows, "--tokenizer", folder, "--out", tmp_path / "out"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_estimate_reads_regular_files_alone(kind: str, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for path in (tmp_path / "c.yaml", tmp_path / "config.json", tmp_path / "model" / "config.json"):
        KINDS[kind](path)
    assert "regular file" in refused("estimate", shards, "--config", tmp_path / "c.yaml")
    assert "regular file" in refused(
        "estimate", shards, "--config", "tiny-sft", "--model", tmp_path / "config.json"
    )
    assert "regular file" in refused(
        "estimate", shards, "--config", "tiny-sft", "--model", tmp_path / "model"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "adapter_config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "model.safetensors",
    ],
)
def test_a_models_folder_has_regular_files_alone(name: str, kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / name)
    with pytest.raises(InputError, match="regular file"):
        check_folder(str(tmp_path))
    KINDS[kind](tmp_path / "c.yaml")
    with pytest.raises(InputError, match="regular file"):
        config_file.read(tmp_path / "c.yaml")


@pytest.mark.parametrize("place", ["--config", "--model_name_or_path", "--resume_from_checkpoint"])
def test_training_waits_for_no_fifo(
    place: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zephyr_fast.train.__main__ import main

    os.mkfifo(tmp_path / "fifo")
    words = [
        "sft",
        "--shards",
        str(shards),
        "--output_dir",
        str(tmp_path / "out"),
        "--use_cpu",
        "true",
        "--bf16",
        "false",
    ]
    assert main([*words, "--model_name_or_path", "sample", place, str(tmp_path / "fifo")]) in (2, 4)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_tokenizer_of_shards_is_not_waited_for(shards: Path, tmp_path: Path) -> None:
    import shutil

    from zephyr_fast.train.model import load_tokenizer

    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    (copy / "tokenizer" / "tokenizer.json").unlink()
    os.mkfifo(copy / "tokenizer" / "tokenizer.json")
    with pytest.raises(InputError, match="regular file"):
        load_tokenizer(str(copy), Manifest.read(copy))


def test_a_pattern_ends_on_links_that_go_in_circles(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("x", "y", "z"):
        (tmp_path / name).symlink_to(".")
        (tmp_path / "a" / "b" / name).symlink_to("..")
        (tmp_path / f"root-{name}").symlink_to("/")
    wanted = [tmp_path / "r.jsonl", tmp_path / "a" / "r.jsonl", tmp_path / "a" / "b" / "r.jsonl"]
    for path in wanted:
        path.write_text("")
    (tmp_path / "a" / "link.jsonl").symlink_to(wanted[0])
    os.mkfifo(tmp_path / "fifo.jsonl")
    assert matches(f"{tmp_path}/**/*.jsonl") == sorted(
        map(str, [*wanted, tmp_path / "a" / "link.jsonl"])
    )
    assert matches(f"{tmp_path}/**/**/**/r.jsonl") == sorted(map(str, wanted))
    assert matches("**/r.jsonl", str(tmp_path)) == sorted(map(str, wanted))


def test_a_pattern_means_what_it_means_to_glob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import glob

    for name in (
        "a.jsonl",
        ".h.jsonl",
        "d/b.jsonl",
        "d/.e/c.jsonl",
        "d/e/f/[x].jsonl",
        "d/e/g.parquet",
        ".k/l.jsonl",
        "é.jsonl",
        "~a.jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    patterns = [
        "*",
        "*.jsonl",
        "**/*.jsonl",
        "**",
        "d/**",
        "d/*/*/*",
        "./*.jsonl",
        "d/../*.jsonl",
        ".*",
        "**/.*",
        "[!a]*.jsonl",
        "?.jsonl",
    ]
    patterns += [
        "d/e/f/[[]x].jsonl",
        ".k/*",
        "a.jsonl",
        "no",
        "**/e/**/*",
        "*/",
        "d//b.jsonl",
        "[",
        "**.jsonl",
        "**/**/b.jsonl",
        "a.jsonl/*",
    ]
    for pattern in [*patterns, *(f"{tmp_path}/{pattern}" for pattern in patterns)]:
        wanted = {
            os.path.normpath(path)
            for path in glob.glob(pattern, recursive=True)
            if os.path.isfile(path)
        }
        assert {os.path.normpath(path) for path in matches(pattern)} == wanted, pattern


def test_ctrl_c_ends_a_training_run_in_one_line(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    line, environment = command()
    words = [
        "--config",
        "tiny-sft",
        "--shards",
        str(shards),
        "--output_dir",
        str(out),
        "--eval_strategy",
        "no",
        "--save_strategy",
        "steps",
        "--save_steps",
        "1",
    ]
    line = [
        line[0],
        "-m",
        "zephyr_fast.train",
        "sft",
        *words,
        "--num_train_epochs",
        "10000",
        "--disable_tqdm",
        "true",
    ]
    running = popen(line, environment)
    try:
        while not list(out.glob("checkpoint-*/trainer_state.json")):
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        told = running.communicate(timeout=HANGS)[1]
    finally:
        running.kill()
    assert running.returncode == 130 and "Traceback" not in told
    assert told.splitlines()[-1].startswith("interrupted; add `--resume_from_checkpoint true`")
