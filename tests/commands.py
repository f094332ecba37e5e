"""The commands that build datasets, each with its bundled rows and recipes, for tests that run all
of them.
"""

from collections.abc import Callable
from typing import Any

import zephyr_fast
from zephyr_fast._core import names
from zephyr_fast.dataset.product import Product
from zephyr_fast.prepare.inputs import BUNDLED
from zephyr_fast.prepare.recipe import bundled

SAMPLES = {one.command: BUNDLED / f"{one.facts.recipe}.jsonl" for one in Product}
"""By command, its bundled rows."""

REAL = {
    "prep": "ultrachat/raw_real.jsonl.gz",
    "binarize": "ultrafeedback/raw_scored.jsonl.gz",
}
"""By command, real rows for it in the directory that ZEPHYR_FAST_DATA names."""

PUBLISHED = {command: SAMPLES[command].stem for command in names("commands")}
"""By command, the recipe of its published dataset, which is named as the bundled rows."""

PLAIN = {
    command: next(
        (name for name in bundled(command) if name != PUBLISHED[command]), PUBLISHED[command]
    )
    for command in names("commands")
}
"""By command, the recipe for any rows, which changes nothing."""


def function(command: str) -> Callable[..., Any]:
    """Returns the Python function of a command."""
    found: Callable[..., Any] = getattr(zephyr_fast, command)
    return found
