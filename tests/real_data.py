"""Where tests find real rows and tokenizers, which are not the project's to give away.

`ZEPHYR_FAST_DATA` names their directory; the default is `shared/data` beside the project. Tests
that need them are skipped where they are missing.
"""

import os
from pathlib import Path

import pytest

BESIDE_THE_PROJECT = Path(__file__).parents[2] / "shared" / "data"
DATA = Path(os.environ.get("ZEPHYR_FAST_DATA") or BESIDE_THE_PROJECT).absolute()
MISSING = f"no real data in {DATA}; set ZEPHYR_FAST_DATA to the directory that holds it"

needs_real_data = pytest.mark.skipif(not DATA.is_dir(), reason=MISSING)
"""Skips a test where there is no real data at all."""


def real_path(path: str) -> Path:
    """Returns a path in the directory of real data; skips the test where it is missing."""
    if not (DATA / path).exists():
        pytest.skip(f"no `{path}` in {DATA}; set ZEPHYR_FAST_DATA to the directory that holds it")
    return DATA / path
