"""A run that keeps nothing is an error, and a failed run does not block its own repair."""

import json
from pathlib import Path

import pytest

import zephyr_fast
from zephyr_fast import _core


def rows_file(path: Path, messages: list[list[str]]) -> Path:
    """Rows of UltraChat's shape."""
    rows = [{"id": str(number), "data": texts} for number, texts in enumerate(messages)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_run_that_keeps_no_row_names_its_reasons_and_leaves_no_manifest(tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", [["Hello there?"], ["And you?"], ["", ""]])
    with pytest.raises(zephyr_fast.NoRowsWrittenError) as refused:
        zephyr_fast.prep(input=rows, tokenizer="sample", out=tmp_path / "out")
    message = str(refused.value)
    assert message.startswith("0 of 3 rows were written") and refused.value.exit_code == 3
    assert "2 `ends_with_user` (first: rows.jsonl:1: ends with user (byte 0)): " in message
    assert "1 `empty_turn` (first: rows.jsonl:3: " in message
    assert "filter `structure`" in message
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_the_error_names_the_field_that_is_not_supported(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    row = {"messages": [{"role": "user", "content": "Call it."}, call]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(zephyr_fast.NoRowsWrittenError, match=r"rows\.jsonl:1: .*tool_calls`"):
        zephyr_fast.prep(input=tmp_path / "rows.jsonl", tokenizer="sample", out=tmp_path / "out")


def test_rows_that_fill_no_sequence_are_an_error(tmp_path: Path) -> None:
    rows = rows_file(tmp_path / "rows.jsonl", [["How are you today?", "Fine, thank you."]])
    with pytest.raises(zephyr_fast.NoRowsWrittenError, match="fewer tokens than one sequence"):
        zephyr_fast.prep(
            input=rows, tokenizer="sample", out=tmp_path / "out", overrides={"compat": "trl-0.7"}
        )
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_empty_input_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    with pytest.raises(zephyr_fast.NoRowsWrittenError, match=r"empty \(`rows\.jsonl`\)"):
        zephyr_fast.prep(input=tmp_path / "rows.jsonl", tokenizer="sample", out=tmp_path / "out")


def test_the_repaired_input_of_a_failed_run_goes_to_the_same_directory(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out"
    for written in ("", "{" * 30 + "\n"):
        rows.write_text(written)
        with pytest.raises(zephyr_fast.ZephyrError):
            zephyr_fast.prep(input=rows, tokenizer="sample", out=out)
    rows_file(rows, [["How are you today?", "Fine, thank you."]])
    assert zephyr_fast.prep(input=rows, tokenizer="sample", out=out).rows.written == 1
    rows_file(rows, [["What is this?", "A finished dataset is not replaced."]])
    with pytest.raises(zephyr_fast.OutputExistsError, match="different: inputs"):
        zephyr_fast.prep(input=rows, tokenizer="sample", out=out)
    zephyr_fast.verify(out)


def test_strict_and_a_number_of_bad_rows_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(zephyr_fast.ConfigError, match="exclude each other"):
        zephyr_fast.prep(input="sample", out=tmp_path / "out", strict=True, max_bad_rows=5)


def test_every_reason_and_error_has_its_cause_and_remedy() -> None:
    reasons, errors = _core.describe("reasons"), _core.describe("errors")
    assert [name for name, *_ in reasons] == _core.names("reasons") + _core.names("repeats")
    assert {outcome for _, outcome, *_ in reasons} == {
        "dropped",
        "duplicate",
        "quarantined",
        "unreadable",
    }
    for row in reasons + errors:
        assert all(row) and all(text.endswith(".") and "  " not in text for text in row[2:]), row
    for name, code, *_ in errors:
        if name != "KeyboardInterrupt":
            assert str(getattr(_core, name).exit_code) == code
    with pytest.raises(zephyr_fast.ConfigError, match="errors, reasons"):
        _core.describe("colours")


def test_a_problem_of_a_batch_comes_before_a_file_too_many(tmp_path: Path) -> None:
    out = tmp_path / "out"
    zephyr_fast.prep(input="sample", out=out)
    shard = out / "train-00000.arrow"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    (out / "extra.txt").write_text("")
    with pytest.raises(zephyr_fast.IntegrityError, match=r"train-00000\.arrow`, batch .*1 more"):
        zephyr_fast.verify(out)
    files = [one.file for one in zephyr_fast.verify(out, raise_on_error=False).problems]
    assert files == ["train-00000.arrow", "extra.txt"]
