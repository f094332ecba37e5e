"""Our `prep` against the path users have today (datasets → transformers → TRL), from the same raw rows, in one run.

    python scripts/bench.py --input raw.jsonl.zst --tokenizer DIR --repeats 5 --compare-ids

Each contender runs in a fresh process with empty caches; the order turns round every time, so that a drifting
machine touches both alike; the figures are medians. Imports are outside the clock and shown apart ("process").
"""

import argparse
import io
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.resources import files
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import psutil

from bench_contenders import OURS, Job, Report
from bench_table import Run, show_runs

PACKAGES = ("zephyr-fast", "datasets", "transformers", "tokenizers", "trl", "torch", "pyarrow")


@dataclass(frozen=True)
class Raw:
    """The rows that every contender reads, as one plain JSONL file."""

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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", nargs="+", required=True, help="raw .jsonl[.gz|.zst] files, or `sample`")
    parser.add_argument("--tokenizer", help="a folder for both sides (default with `sample`: the packaged one)")
    parser.add_argument("--rows", type=int, help="only the first N rows")
    parser.add_argument("--mb", type=float, help="only about the first N megabytes")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender (default 3)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="default: all cores")
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--only", nargs="+", default=["peer", *OURS], choices=["peer", "pieces", *OURS], metavar="CONTENDER")
    parser.add_argument("--compare-ids", action="store_true", help="also compare the ids of every row")
    parser.add_argument("--json", action="store_true", help="print every run as JSON")
    options = parser.parse_args()
    if options.input == ["sample"]:
        sample = files("zephyr_fast") / "sample"
        options.input = [str(sample / "ultrachat.jsonl")]
        options.tokenizer = options.tokenizer or str(sample / "tokenizer")
    if not options.tokenizer:
        parser.error("name the tokenizer's folder with `--tokenizer`; only `--input sample` brings its own")
    return options


def gather(paths: Iterable[str], rows_max: int | None, megabytes_max: float | None, target: Path) -> Raw:
    """Writes the wanted rows as plain JSONL, so that both sides start from the same bytes in the page cache."""
    rows = size = 0
    with target.open("wb") as out:
        for line in islice(lines_of(paths), rows_max):
            if megabytes_max and size + len(line) > megabytes_max * 1e6:
                break
            out.write(line)
            rows, size = rows + 1, size + len(line)
    return Raw(target, rows, size / 1e6)


def lines_of(paths: Iterable[str]) -> Iterator[bytes]:
    import pyarrow as pa

    for path in paths:
        with io.BufferedReader(cast(io.RawIOBase, pa.input_stream(path, compression="detect"))) as stream:
            yield from (line.rstrip(b"\n") + b"\n" for line in stream if line.strip())


def race(options: argparse.Namespace, raw: Raw, scratch: Path) -> Iterator[Run]:
    """All runs: peer, ours, … and back again, as often as asked for."""
    for turn in range(options.repeats):
        for contender in options.only if turn % 2 == 0 else options.only[::-1]:
            print(f"run {turn + 1} of {options.repeats}: {contender}", file=sys.stderr)
            with TemporaryDirectory(dir=scratch) as folder:
                yield run(contender, options, raw, options.seq_len, Path(folder))


def run(contender: str, options: argparse.Namespace, raw: Raw, seq_len: int, folder: Path) -> Run:
    """Runs one contender in its own process and watches its memory."""
    job = Job(
        contender=contender,
        input=str(raw.path),
        tokenizer=options.tokenizer,
        out=str(folder / "out"),
        report=str(folder / "report.json"),
        workers=options.workers,
        seq_len=seq_len,
    )
    start, cpu_before = time.perf_counter(), cpu_of_children()
    command = [sys.executable, str(Path(__file__).with_name("bench_contenders.py")), json.dumps(asdict(job))]
    process = subprocess.Popen(command, env=os.environ | quiet_environment(folder))
    memory_all = watch(process)
    if process.returncode:
        sys.exit(f"contender `{contender}` failed with exit code {process.returncode}; its message is above")
    seconds = (time.perf_counter() - start, cpu_of_children() - cpu_before)
    return Run(contender, Report(**json.loads(Path(job.report).read_text("utf-8"))), seconds, memory_all)


def quiet_environment(folder: Path) -> dict[str, str]:
    """No network, no cache from an earlier run, no warnings about lengths, no threads beside the workers."""
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "cache"),
        "TRANSFORMERS_VERBOSITY": "error",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }


def watch(process: subprocess.Popen[bytes]) -> int:
    """Waits for the process and returns the most memory that it and its children held at once, in bytes.

    Proportional set size, since forked workers share pages that plain resident sizes would count twice.
    """
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory_of_tree(process.pid))
        time.sleep(0.1)  # a reading costs about a millisecond a process
    return peak


def memory_of_tree(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:  # one of them ended meanwhile
        pass
    return total


def cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compare_ids(options: argparse.Namespace, raw: Raw, scratch: Path) -> dict[str, Any]:
    """Our run without cleaning and without cuts, against the HF tokenizer on the same rows."""
    os.environ.update(quiet_environment(scratch))
    from bench_ids import compare

    print("comparing ids", file=sys.stderr)
    run("ours uncleaned", options, raw, seq_len=1 << 20, folder=scratch)
    return asdict(compare(raw.path, scratch / "out", options.tokenizer, options.workers))


def describe_machine(workers: int) -> dict[str, str]:
    cpuinfo = Path("/proc/cpuinfo")
    models = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    return {
        "CPU": models[0].split(":")[1].strip() if models else platform.processor(),
        "workers": f"{workers} of {os.cpu_count()} cores, load before the start {os.getloadavg()[0]:.1f}",
        "versions": ", ".join([f"Python {platform.python_version()}", *map(version_of, PACKAGES)]),
    }


def version_of(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (not installed)"


def show(machine: dict[str, str], raw: Raw, runs: list[Run], ids: dict[str, Any] | None) -> None:
    for name, value in machine.items():
        print(f"{name}: {value}")
    print(f"input: {raw.rows:,} raw rows, {raw.megabytes:.1f} MB")
    show_runs(runs, raw.megabytes)
    if ids is not None:
        print(
            f"ids: {ids['compared']:,} rows compared; {listed(ids['ids_differ'])} with other ids; "
            f"{listed(ids['masks_differ'])} with the same ids but other trained tokens; "
            f"not written by us and so not compared: {ids['not_written'] or 'none'}"
        )


def listed(row_ids: list[int]) -> str:
    """How many, and the first few by row number."""
    return f"{len(row_ids)} {row_ids[:10]}" if row_ids else "0"


if __name__ == "__main__":
    main()
