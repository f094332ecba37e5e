"""Finds the rows and tokenizers that benchmarks read: a path, or one in `ZEPHYR_FAST_DATA`.

Real rows and tokenizers are not the project's to give away. `ZEPHYR_FAST_DATA` names the directory
that holds them; the default is `shared/data` beside the project.
"""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

BESIDE_THE_PROJECT = Path(__file__).parents[3] / "shared" / "data"
DATA = Path(os.environ.get("ZEPHYR_FAST_DATA") or BESIDE_THE_PROJECT).absolute()


def located(path: str) -> str:
    """Returns the path, or the same path in the directory of real data; exits if neither exists."""
    for candidate in (Path(path), DATA / path):
        if candidate.exists():
            return str(candidate)
    raise SystemExit(
        f"`{path}` is neither here nor in {DATA}; ZEPHYR_FAST_DATA names that directory"
    )


def lines_of(paths: Iterable[str]) -> Iterator[bytes]:
    """Yields the lines of JSONL files, plain or compressed, each with its line break."""
    import pyarrow as pa

    for path in paths:
        stream = cast(io.RawIOBase, pa.input_stream(path, compression="detect"))
        with io.BufferedReader(stream) as buffered:
            yield from (line.rstrip(b"\n") + b"\n" for line in buffered if line.strip())
