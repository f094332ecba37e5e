"""Results of files that exist: annotations of AlpacaEval, judgements of FastChat.

Missing scores are holes. AlpacaEval and FastChat leave them out of their means silently.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.evaluate.alpaca_eval import BENCHMARK, figures_of, questions_of
from zephyr_fast.evaluate.mt_bench_scores import BENCHMARK as MT_BENCH
from zephyr_fast.evaluate.mt_bench_scores import Questions, check_judgments, judge_of
from zephyr_fast.evaluate.mt_bench_scores import figures_of as mt_bench_figures
from zephyr_fast.evaluate.result import Result
from zephyr_fast.evaluate.rows import digest, text_field
from zephyr_fast.evaluate.win_rate import checked
from zephyr_fast.printed import shown

MISSING = "missing"


def changed(path: Path) -> str:
    """Return when a file was last changed, in UTC."""
    return datetime.fromtimestamp(int(path.stat().st_mtime), UTC).isoformat()


def annotations_result(path: Path, rows: Sequence[dict[str, Any]]) -> Result:
    """Compute the result of annotations. Raises InputError, which names the row."""
    names: dict[str, str] = {}
    preferences, holes = [], []
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        where = f"`{shown(path)}`: row {number}"
        instruction = text_field(where, row, "instruction")
        if instruction in seen:
            raise InputError(f"{where} repeats the instruction of row {seen[instruction]}")
        seen[instruction] = number
        for name in ("generator_1", "generator_2", "annotator"):
            value = text_field(where, row, name)
            if names.setdefault(name, value) != value:
                raise InputError(f"{where} has another `{name}` than row 1")
        if "preference" not in row:
            raise InputError(f"{where}: `preference` is missing")
        preferences.append(checked(where, row["preference"]))
        holes.append(str(row.get("hole") or MISSING) if preferences[-1] is None else "")
    return Result(
        BENCHMARK,
        names["generator_2"],
        names["annotator"],
        (),
        (),
        digest("annotator", names["annotator"]),
        questions_of(rows),
        "annotations",
        changed(path),
        "percent",
        *figures_of(preferences, holes),
        (f"computed from {len(rows):,} existing annotations",),
    )


def judgments_results(
    path: Path, rows: Sequence[dict[str, Any]], questions: Questions
) -> list[Result]:
    """Compute the result of each model in FastChat's judgements. Raises InputError."""
    by_model = check_judgments(path, rows, questions)
    judge = judge_of(f"`{shown(path)}`: row 1", rows[0])
    return [
        Result(
            MT_BENCH,
            model,
            judge,
            (),
            (),
            digest("judgments", sorted({str(row["judge"][-1]) for row in rows})),
            questions.digest,
            "judgments",
            changed(path),
            "score",
            *mt_bench_figures(own, questions),
            ("computed from existing judgements",),
        )
        for model, own in by_model.items()
    ]
