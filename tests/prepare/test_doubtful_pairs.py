"""Pairs that teach nothing or the wrong thing: counted, and dropped by name unless a preset or the
recipe keeps them.
"""

import json
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from out_folder import assert_is_what_the_twin_says, ledger, manifest, shard_rows
from reference import Walk, recipe
from reference_rows import read
from reference_tokens import Tokens
from zephyr_fast import _core
from zephyr_fast.prepare.summary import lines, warnings

TOKENIZER = Path(zephyr_fast.__file__).parent / "sample" / "tokenizer"
LONG = "the council of the town met in the spring and spoke of it " * 8


def pair(chosen: str, rejected: str, *scores: Any, prompt: str = "q") -> dict[str, Any]:
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return row | dict(zip(("score_chosen", "score_rejected"), scores, strict=False))


def completions(*scored: tuple[str, float]) -> dict[str, Any]:
    replies = [{"response": text, "overall_score": score} for text, score in scored]
    return {"instruction": "rate", "source": "s", "completions": replies}


ROWS = {
    "written": pair("a", "b", 2, 1),
    "written, no scores": pair("c", "d"),
    "written, one score": pair("e", "f", 2),
    "empty_chosen": pair(" \n", "b"),
    "tie": pair("g", "h", "3", 3.0),
    "rejected_scores_higher": pair("i", "j", 1, 2.5),
    "contradicts_row": pair("b", "a", prompt=" Q"),
    "written, other prompt": pair("b", "a", prompt="other"),
    "identical_when_truncated": pair(LONG + "x", LONG + "y"),
    "written, agrees": pair("a", "b"),
    "contradicts_row of the last": pair("d", "c"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS.values()))
    return file


def compare(path: Path, out: Path, settings: dict[str, Any]) -> zephyr_fast.Manifest:
    made = zephyr_fast.binarize(
        "pairs", input=path, tokenizer=TOKENIZER, out=out, overrides=settings
    )
    walk = Walk("binarize", recipe("pairs", settings), Tokens(TOKENIZER))
    assert_is_what_the_twin_says(out, read(path), walk.outcomes(read(path)))
    return made


def test_they_are_dropped_by_name(path: Path, tmp_path: Path) -> None:
    made = compare(path, tmp_path / "out", {"binarize.max_length": 64})
    for name, line in zip(ROWS, ledger(tmp_path / "out"), strict=True):
        expected = name.split(",")[0].split(" ")[0]
        assert (line["reason"] or line["outcome"]) == expected, name
    assert made.rows.dropped == {
        "contradicts_row": 2,
        "empty_chosen": 1,
        "identical_when_truncated": 1,
        "rejected_scores_higher": 1,
        "tie": 1,
    }
    assert made.doubtful_pairs == {}
    details = [line["detail"] for line in ledger(tmp_path / "out")]
    assert details[6] == "row 0 prefers the other completion"
    assert any("`contradicts_row`" in warning for warning in warnings(made))


def test_they_are_kept_and_counted_if_the_recipe_says_so(path: Path, tmp_path: Path) -> None:
    settings = {"binarize.max_length": 64, "binarize.doubtful_pairs": "keep"}
    made = compare(path, tmp_path / "out", settings)
    assert made.rows.written == len(ROWS)
    assert made.doubtful_pairs == {
        "contradicts_row": 2,
        "empty_chosen": 1,
        "identical_when_truncated": 1,
        "rejected_scores_higher": 1,
        "tie": 1,
    }
    entry = dict(lines(made, tmp_path / "out"))["doubtful pairs"]
    assert entry.startswith("contradicts_row 2, ") and "(kept, " in entry
    kept = shard_rows(tmp_path / "out", "train")
    assert sum(row["chosen_ids"] == row["rejected_ids"] for row in kept) == 1


def test_a_row_is_explained_with_its_doubtful_pairs() -> None:
    row = json.dumps(completions(("a", 5.0), ("b", 5.0))).encode()
    text = '[binarize]\nscore_by = "overall"\nstrategy = "best-vs-random"\ndoubtful_pairs = '
    story = json.loads(_core.explain("binarize", (f'{text}"keep"', "test", []), TOKENIZER, row))
    assert (story["outcome"], story["doubtful_pairs"]) == ("written", ["tie"])
    story = json.loads(_core.explain("binarize", (f'{text}"drop"', "test", []), TOKENIZER, row))
    assert (story["outcome"], story["reason"]) == ("dropped", "tie")


def test_only_the_doubtful_pairs_of_a_row_are_left_out(tmp_path: Path) -> None:
    rows = [
        completions((LONG + "x", 5.0), (LONG + "y", 4.0), ("short", 3.0), ("brief", 2.0)),
        completions(("short", 9.0), (LONG + "x", 3.0), ("new", 1.0)),
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings = {"binarize.max_length": 64, "binarize.strategy": "all-lower"}
    made = compare(path, tmp_path / "out", settings)
    assert made.doubtful_pairs == {"contradicts_row": 1, "identical_when_truncated": 1}
    assert made.rows.written == 2
    found = [(row["row_id"], row["pair"]) for row in shard_rows(tmp_path / "out", "train")]
    assert found == [(0, 0), (0, 1), (1, 0)]
    assert "left out" in dict(lines(made, tmp_path / "out"))["doubtful pairs"]


def test_a_published_preset_keeps_what_its_authors_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(completions(("a", 5.0), ("b", 5.0))) + "\n")
    settings = {"shards.test_fraction": 0.0}
    out = tmp_path / "out"
    made = zephyr_fast.binarize(
        "ultrafeedback", input=path, tokenizer=TOKENIZER, out=out, overrides=settings
    )
    assert made.rows.written == 1 and made.doubtful_pairs == {"tie": 1}
    assert manifest(out)["doubtful_pairs"] == {"tie": 1}
    settings["binarize.doubtful_pairs"] = "drop"  # type: ignore[assignment]
    with pytest.raises(zephyr_fast.NoRowsWrittenError, match="same score"):
        zephyr_fast.binarize(
            "ultrafeedback", input=path, tokenizer=TOKENIZER, out=tmp_path / "b", overrides=settings
        )
