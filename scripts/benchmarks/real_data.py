"""Find the rows and tokenizers for benchmarks: a path, or a path in `ZEPHYR_FAST_DATA`.

Real rows and tokenizers cannot be distributed with the project. `ZEPHYR_FAST_DATA` names their
directory. The default is `shared/data` next to the project.
"""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

BESIDE_THE_PROJECT = Path(__file__).parents[3] / "shared" / "data"
DATA = Path(os.environ.get("ZEPHYR_FAST_DATA") or BESIDE_THE_PROJECT).absolute()


def located(path: str) -> str:
    """Return the path, or the same path in the directory of real data. Exit if neither exists."""
    for candidate in (Path(path), DATA / path):
        if candidate.exists():
            return str(candidate)
    raise SystemExit(
        f"`{path}` not found, also not in {DATA}; set ZEPHYR_FAST_DATA to the data directory"
    )


def lines_of(paths: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines of JSONL files, plain or compressed, each with its line break."""
    import pyarrow as pa

    for path in paths:
        stream = cast(io.RawIOBase, pa.input_stream(path, compression="detect"))
        with io.BufferedReader(stream) as buffered:
            yield from (line.rstrip(b"\n") + b"\n" for line in buffered if line.strip())
