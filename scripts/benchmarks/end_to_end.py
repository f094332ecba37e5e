"""Compare `prep` with datasets + transformers + TRL on the same rows.

    python scripts/benchmarks/end_to_end.py --input sample --compare-ids
    python scripts/benchmarks/end_to_end.py --input ultrachat/raw_mix_nc.jsonl.zst --mb 33 \\
        --tokenizer tokenizers/mistral-7b-v0.1 --repeats 5

Each contender runs in a fresh process with empty caches. The order is reversed every time, so a
change of the machine's speed affects all alike. Figures are medians. Imports are not part of the
measured time and shown separately ("process"). Missing inputs and tokenizers are searched for in
ZEPHYR_FAST_DATA.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from end_to_end_contenders import OURS, Job, Report
from end_to_end_tables import Run, show_runs
from measuring import cores, describe_machine, in_turns, parser_of, run_process, show_machine
from real_data import lines_of, located


@dataclass(frozen=True)
class Raw:
    """The rows for all contenders, as one plain JSONL file."""

    path: Path
    rows: int
    megabytes: float


def main() -> None:
    options = parse()
    with TemporaryDirectory(prefix="zephyr-fast-bench-") as folder:
        scratch = Path(folder)
        raw = gather(options.input, options.rows, options.mb, scratch / "raw.jsonl")
        machine = describe_machine(options.workers)
        runs = list(race(options, raw, scratch))
        ids = compare_ids(options, raw, scratch) if options.compare_ids else None
    if options.json:
        printed = {"machine": machine, "rows": raw.rows, "megabytes": raw.megabytes, "ids": ids}
        print(json.dumps(printed | {"runs": [asdict(run) for run in runs]}, indent=1))
    else:
        show(machine, raw, runs, ids)


def parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--input", nargs="+", required=True, help="raw .jsonl[.gz|.zst] files, or `sample`"
    )
    parser.add_argument(
        "--tokenizer",
        help="tokenizer directory for all contenders (default with `sample`: the bundled one)",
    )
    parser.add_argument("--rows", type=int, help="only the first N rows")
    parser.add_argument("--mb", type=float, help="only about the first N megabytes")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender (default 3)")
    parser.add_argument("--workers", type=int, default=cores(), help="default: all cores")
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument(
        "--only",
        nargs="+",
        default=["peer", *OURS],
        choices=["peer", "pieces", *OURS],
        metavar="CONTENDER",
    )
    parser.add_argument(
        "--compare-ids", action="store_true", help="also compare the ids of every row"
    )
    parser.add_argument("--json", action="store_true", help="print every run as JSON")
    options = parser.parse_args()
    if options.input == ["sample"]:
        sample = files("zephyr_fast") / "sample"
        options.input = [str(sample / "ultrachat.jsonl")]
        options.tokenizer = options.tokenizer or str(sample / "tokenizer")
    if not options.tokenizer:
        parser.error("--tokenizer DIR is required unless --input is `sample`")
    options.input = [located(path) for path in options.input]
    options.tokenizer = located(options.tokenizer)
    return options


def gather(
    paths: Iterable[str], rows_max: int | None, megabytes_max: float | None, target: Path
) -> Raw:
    """Write the selected rows as plain JSONL, so all contenders read the same bytes from the page
    cache.

    Invalid rows are skipped (the bundled file has three), because other contenders fail on them.
    """
    rows = size = 0
    with target.open("wb") as out:
        for line in islice(filter(is_row, lines_of(paths)), rows_max):
            if megabytes_max and size + len(line) > megabytes_max * 1e6:
                break
            out.write(line)
            rows, size = rows + 1, size + len(line)
    return Raw(target, rows, size / 1e6)


def is_row(line: bytes) -> bool:
    """Return whether a line is a row in one of the two raw formats."""
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and any(
        isinstance(row.get(key), list) for key in ("data", "messages")
    )


def race(options: argparse.Namespace, raw: Raw, scratch: Path) -> Iterator[Run]:
    """Yield the runs of all contenders, in alternating order."""
    for _, contender in in_turns(options.only, options.repeats):
        with TemporaryDirectory(dir=scratch) as folder:
            yield run(contender, options, raw, options.seq_len, Path(folder))


def run(contender: str, options: argparse.Namespace, raw: Raw, seq_len: int, folder: Path) -> Run:
    """Run one contender in a separate process and measure its memory."""
    job = Job(
        contender=contender,
        input=str(raw.path),
        tokenizer=options.tokenizer,
        out=str(folder / "out"),
        workers=options.workers,
        seq_len=seq_len,
    )
    program = Path(__file__).with_name("end_to_end_contenders.py")
    command = [sys.executable, program, json.dumps(asdict(job))]
    ended = run_process(command, quiet_environment(folder), sample_memory=True)
    report = Report(**ended.report(contender))
    return Run(contender, report, (ended.wall, ended.cpu), ended.memory)


def quiet_environment(folder: Path) -> dict[str, str]:
    """Return variables for: no network, an empty cache, no warnings about lengths, and no threads
    except the workers.
    """
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "cache"),
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }


def compare_ids(options: argparse.Namespace, raw: Raw, scratch: Path) -> dict[str, Any]:
    """Compare a run without cleaning and truncation with the HF tokenizer on the same rows."""
    os.environ.update(quiet_environment(scratch))
    from end_to_end_ids import compare

    print("comparing ids", file=sys.stderr)
    run("ours uncleaned", options, raw, seq_len=1 << 20, folder=scratch)
    return asdict(compare(raw.path, scratch / "out", options.tokenizer, options.workers))


def show(machine: dict[str, str], raw: Raw, runs: list[Run], ids: dict[str, Any] | None) -> None:
    show_machine(machine)
    print(f"input: {raw.rows:,} raw rows, {raw.megabytes:.1f} MB")
    show_runs(runs, raw.megabytes)
    if ids is not None:
        print(
            f"ids: {ids['compared']:,} rows compared; {listed(ids['ids_differ'])} with other ids, "
            f"{listed(ids['masks_differ'])} with different labels, "
            f"not compared (not written by zephyr-fast): {ids['not_written'] or 0}"
        )


def listed(row_ids: list[int]) -> str:
    """Return the number of rows and the first few row numbers."""
    return f"{len(row_ids)} {row_ids[:10]}" if row_ids else "0"


if __name__ == "__main__":
    main()
