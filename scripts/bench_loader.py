"""Tokens per CPU second into torch tensors, shuffled: our loader against datasets, litdata and mosaicml-streaming on the same rows.

    python scripts/bench_loader.py                    # peers that are not installed are left out
    python scripts/bench_loader.py --python OTHER     # an interpreter that has them; they are no dependency of ours

Every contender makes its own files once, then reads all rows for a few epochs in a fresh process, with 0 and with 2
workers; the order turns round every time. CPU seconds are those of the process from its first batch on and of its workers
from their start: with other work on the machine they are steadier than the clock's. A sample is 2,048 ids and as many labels.
Ours is also started on a million samples, in as many record batches as if they were of that length, but of 16 tokens.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

MANY = 1_000_000
CONTENDERS = ("ours", "datasets", "litdata", "streaming")


def main() -> None:
    """Makes the files, times all contenders, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--columns", type=int, choices=(1, 2), default=2, help="ids alone, as the peers store them, or ids and labels")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the contenders")
    parser.add_argument("--folder", type=Path, help="where the files are made; left there (default: a temporary folder)")
    options = parser.parse_args()
    os.environ["COLUMNS"] = str(options.columns)  # for the contenders
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        present = [name for name in CONTENDERS if _child(options.python, ["write", name, folder, options.rows])]
        rates: dict[tuple[str, int], list[float]] = defaultdict(list)
        for repeat in range(options.repeats):
            for name in present if repeat % 2 else present[::-1]:
                for workers in (0, 2):
                    report = _child(options.python, ["read", name, folder, options.rows, options.epochs, options.batch, workers])
                    if report:
                        rates[name, workers].append(report["tokens"] / report["cpu"] / 1e6)
        os.environ["LENGTH"] = "16"
        many = [folder / "many", MANY]
        _child(options.python, ["write", "ours", *many])
        starts = [_child(options.python, ["start", "ours", *many, options.batch]) for _ in range(options.repeats)]
    _show(rates, present)
    print(f"start-up on {MANY:,} rows: median {median(report['seconds'] for report in starts if report):.2f} s")


def _child(python: str, arguments: list[object]) -> dict[str, float] | None:
    """What a contender's process reports; None, with its last words, where it cannot run."""
    program = str(Path(__file__).with_name("bench_loader_contenders.py"))
    result = subprocess.run([python, program, *map(str, arguments)], capture_output=True, text=True, check=False)
    if result.returncode:
        print(f"{arguments[1]} is left out: {(result.stderr.strip().splitlines() or ['no message'])[-1]}", file=sys.stderr)
        return None
    report: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return report


def _show(rates: dict[tuple[str, int], list[float]], present: list[str]) -> None:
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}; M tokens per CPU second, median [least-most]")
    for workers in (0, 2):
        ours = median(rates["ours", workers])
        for name in present:
            values = rates[name, workers]
            if values:
                spread = f"{median(values):8.1f} [{min(values):.1f}-{max(values):.1f}]"
                print(f"{workers} workers  {name:10} {spread:28} ours/{name}: {ours / median(values):.1f}")


if __name__ == "__main__":
    main()
