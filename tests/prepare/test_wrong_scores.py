"""A score that cannot be read is an error of its row: it decides which completion is chosen."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from out_folder import ledger
from zephyr_fast import binarize

ANSWERS = {"prompt": "Which is better?", "chosen": "This one.", "rejected": "That one."}
NONE = ["N/A", "n/a", "", " none ", "NaN", None]
WRONG = ["2,5", "2/10", "inf", "-inf", "1e999", "five", "8.5 points", "٤"]


def pair(score: object) -> dict[str, Any]:
    return ANSWERS | {"score_chosen": score, "score_rejected": 1.0}


def completions(score: object) -> dict[str, Any]:
    said = [{"response": "This.", "overall_score": score}, {"response": "That", "overall_score": 1}]
    return {"instruction": "Which is better?", "completions": said}


@pytest.mark.parametrize("form", [pair, completions])
@pytest.mark.parametrize("score", [*WRONG, *NONE])
def test_a_text_is_a_number_or_says_that_there_is_none(
    form: Any, score: str | None, tmp_path: Path
) -> None:
    good = {**form(8.5), "id": "good"}
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in [good, form(score)]))
    settings = {"shards.tokens": False, "dedup.exact": False}
    binarize("ultrafeedback", input=rows, out=tmp_path / "out", overrides=settings)
    line = ledger(tmp_path / "out")[1]
    assert (line["reason"] == "invalid_row") == (score in WRONG), line
    if score in WRONG and form is pair:
        assert f"`score_chosen` is the text `{score}`" in line["detail"]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_an_infinite_number_in_a_table_is_no_missing_score(kind: Any, tmp_path: Path) -> None:
    scores = [8.1, math.inf, -math.inf, math.nan, None, 0.1]
    size = len(scores)
    table = pa.table(
        {name: [text] * size for name, text in ANSWERS.items()}
        | {"score_chosen": pa.array(scores, kind), "score_rejected": [0.0] * size}
    )
    settings = {"shards.tokens": False, "dedup.exact": False}
    out = tmp_path / "out"
    binarize("ultrafeedback", input=table, out=out, overrides=settings, max_bad_rows=2)
    reasons = [line["reason"] for line in ledger(out)]
    assert [reason == "invalid_row" for reason in reasons] == [False, True, True] + [False] * 3
