"""Compare the loader with datasets, litdata and mosaicml-streaming, in tokens per CPU second.

    python scripts/benchmarks/loader.py                  # skips packages that are not installed
    python scripts/benchmarks/loader.py --python OTHER   # an interpreter that has them

All contenders read the same rows into torch tensors. Each writes its files once, then reads all
rows for a few epochs in a fresh process, with 0 and with 2 workers. The order is reversed every
time. CPU seconds are those of the process from its first batch and of its workers from their start.
On a busy machine, they vary less than wall time. A sequence is 2,048 ids and the same number of
labels. The start-up of zephyr-fast is also measured on a million sequences (`--many`) of 16 tokens,
in the number of record batches that full sequences would have.
"""

import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from measuring import (
    describe_machine,
    in_turns,
    parser_of,
    run_process,
    show_machine,
    show_table,
    spread,
)

WORKERS = (0, 2)
CONTENDERS = ("ours", "datasets", "litdata", "streaming")


def main() -> None:
    """Write the files, measure all contenders, and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--many", type=int, default=1_000_000, help="number of sequences for the start-up"
    )
    parser.add_argument(
        "--columns",
        type=int,
        choices=(1, 2),
        default=2,
        help="store ids only (as the other loaders do), or ids and labels",
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter of the contenders")
    parser.add_argument(
        "--folder",
        type=Path,
        help="directory for the generated files, which are kept (default: temporary)",
    )
    options = parser.parse_args()
    show_machine(describe_machine(max(WORKERS), ()))
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        child = partial(_child, options.python, {"COLUMNS": str(options.columns)})
        present = [name for name in CONTENDERS if child("write", name, folder, options.rows)]
        rates: dict[tuple[str, int], list[float]] = defaultdict(list)
        for _, name in in_turns(present, options.repeats):
            for workers in WORKERS:
                reading = (options.rows, options.epochs, options.batch, workers)
                if report := child("read", name, folder, *reading):
                    rates[name, workers].append(report["tokens"] / report["cpu"] / 1e6)
        of_short = {"COLUMNS": str(options.columns), "LENGTH": "16"}
        child = partial(_child, options.python, of_short)
        many = (folder / "many", options.many)
        child("write", "ours", *many)
        starts = [child("start", "ours", *many, options.batch) for _ in range(options.repeats)]
    _show(rates, present)
    print(
        f"start-up on {options.many:,} rows: median "
        f"{median(report['seconds'] for report in starts if report):.2f} s"
    )


def _child(python: str, environment: dict[str, str], *arguments: object) -> dict[str, Any] | None:
    """Return the report of a contender's process, or None if it cannot run."""
    command = [python, Path(__file__).with_name("loader_contenders.py"), *arguments]
    ended = run_process(command, environment)
    if ended.code:
        print(f"skipping {arguments[1]}: {ended.last_words()}", file=sys.stderr)
        return None
    return ended.report(str(arguments[1]))


def _show(rates: dict[tuple[str, int], list[float]], present: list[str]) -> None:
    rows = []
    for workers in WORKERS:
        ours = median(rates["ours", workers])
        for name in present:
            if values := rates[name, workers]:
                compared = "-" if name == "ours" else f"{ours / median(values):.1f}x"
                rows.append([f"{workers} workers", name, spread(values, digits=1), compared])
    title = "M tokens per CPU second, medians [minimum-maximum]"
    show_table(title, ["", "contender", "rate", "speedup"], rows)


if __name__ == "__main__":
    main()
