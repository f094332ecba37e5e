"""AlpacaEval's length-controlled win rate, by the `alpaca_eval` package in its own environment.

The package identifies an instruction by its position. So all 805 rows must be there, in the order
of the evaluation set, or the figure would be wrong without any sign of it.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.evaluate.alpaca_eval import SET_SIZE, Row
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.child import SAFE_PATH

_SCRIPT = """
import json, sys
import pandas
from alpaca_eval.metrics.glm_winrate import get_length_controlled_winrate
rows = pandas.DataFrame(json.load(sys.stdin))
found = get_length_controlled_winrate(rows, save_weights_dir=None)
print("FOUND", json.dumps(float(found["length_controlled_winrate"])))
"""
_SECONDS_MAX = 1_800


def check_complete(rows: Sequence[Mapping[str, Any]], expected: Sequence[Row]) -> None:
    """Raise InputError unless the rows are the complete evaluation set in its order."""
    reason = None
    if len(expected) != SET_SIZE or len(rows) != SET_SIZE:
        reason = f"there are {len(rows):,} annotations and {len(expected):,} instructions"
    else:
        pairs = zip(rows, expected, strict=True)
        wrong = [
            n for n, (row, one) in enumerate(pairs, 1) if row["instruction"] != one.instruction
        ]
        if wrong:
            reason = f"annotation {wrong[0]} has a different instruction than the set"
        holes = [n for n, row in enumerate(rows, 1) if row["preference"] is None]
        if holes and not reason:
            reason = f"annotation {holes[0]} has no preference"
    if reason:
        raise InputError(
            f"the length-controlled win rate needs all {SET_SIZE} annotations in order: {reason}"
        )


def length_controlled(
    rows: Sequence[Mapping[str, Any]], expected: Sequence[Row], python: str
) -> float:
    """Return the length-controlled win rate in percent.

    Args:
        rows: annotations, all of them in order
        expected: the evaluation set
        python: interpreter of an environment with `alpaca_eval`

    Raises:
        InputError: rows are missing, or the package is absent or fails
    """
    check_complete(rows, expected)
    names = ("instruction", "output_1", "output_2", "generator_1", "generator_2", "annotator")
    kept = [{name: row.get(name) for name in (*names, "preference")} for row in rows]
    try:
        done = subprocess.run(
            [python, "-c", SAFE_PATH + _SCRIPT],
            input=json.dumps(kept),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS_MAX,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"cannot run `{shown(python)}`: {shown(error, 300)}") from None
    last = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    if done.returncode == 0 and last:
        rate = float(last[-1].removeprefix("FOUND "))
        if 0 <= rate <= 100:
            return rate
        raise InputError(f"`{shown(python)}` computed {rate:g}, not a percentage")
    error_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
    hint = "; install alpaca_eval and setuptools<81 there" if "No module" in error_line else ""
    raise InputError(
        f"`{shown(python)}` cannot compute the length-controlled win rate: "
        f"{shown(error_line, 300)}{hint}"
    )
