"""Run and time processes, and print the results, for all benchmarks.

Contenders run in separate processes and alternate. Every second round runs in reverse order, so a
change of the machine's speed affects all alike. Wall time is the time that a user waits. CPU time
(user and system, with threads and finished children) depends less on other work on the machine.
Figures are medians with minimum and maximum.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import IO, Any

PACKAGES = ("zephyr-fast", "datasets", "transformers", "tokenizers", "trl", "torch", "pyarrow")
COMPLAINTS_CHARACTERS = 4000  # printed characters of the errors of a failed process
SAMPLE_SECONDS = 0.1  # between two readings of memory, each about a millisecond per process


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose `--help` prints the docstring of the script unchanged."""
    layout = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=description, formatter_class=layout)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def memory_of_tree(pid: int) -> int:
    """Return the bytes that a process and its children use now.

    This is the proportional set size. Resident sizes would count the shared pages of forked workers
    twice.
    """
    import psutil

    total = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            total += process.memory_full_info().pss
    except psutil.Error:  # a process has ended in the meantime
        pass
    return total


@dataclass(frozen=True)
class Ended:
    """A process that has ended: exit code, seconds, output, and peak bytes.

    `memory` is 0 unless it was measured.
    """

    code: int
    wall: float
    cpu: float
    memory: int
    printed: str
    complaints: str

    def or_exit(self, name: str) -> "Ended":
        """Return itself, or exit with the errors of the process if it failed."""
        if self.code:
            words = self.complaints[-COMPLAINTS_CHARACTERS:]
            sys.exit(f"`{name}` failed with exit code {self.code}:\n{words}")
        return self

    def report(self, name: str) -> dict[str, Any]:
        """Return the JSON in the last line of the output, or exit if the process failed."""
        report: dict[str, Any] = json.loads(self.or_exit(name).printed.splitlines()[-1])
        return report

    def last_words(self) -> str:
        """Return the last line of the errors."""
        return (self.complaints.strip().splitlines() or ["no message"])[-1]


def run_process(
    command: Sequence[object],
    environment: Mapping[str, str] | None = None,
    *,
    sample_memory: bool = False,
) -> Ended:
    """Run a command to its end, without a network, and return its time and output.

    With `sample_memory`, the memory of the process and its children is measured. The end is then
    noticed within `SAMPLE_SECONDS`.
    """
    variables = os.environ | {"HF_HUB_OFFLINE": "1"} | (environment or {})
    with TemporaryFile() as printed, TemporaryFile() as complaints:
        start = time.perf_counter()
        words = [str(word) for word in command]
        process = subprocess.Popen(words, env=variables, stdout=printed, stderr=complaints)
        peak = 0
        while sample_memory and not _has_ended(process.pid):
            peak = max(peak, memory_of_tree(process.pid))
            time.sleep(SAMPLE_SECONDS)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        cpu = used.ru_utime + used.ru_stime
        texts = (_text_of(printed), _text_of(complaints))
    return Ended(process.returncode, wall, cpu, peak, *texts)


def _has_ended(pid: int) -> bool:
    """Return whether a child has ended, without reaping it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _text_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def in_turns(contenders: Collection[str], turns: int, what: str = "") -> Iterator[tuple[int, str]]:
    """Yield (round, contender) for every contender, every second round in reverse order.

    A contender that is removed from the collection is skipped from the next round.
    """
    prefix = f"{what}, " if what else ""
    for turn in range(turns):
        for contender in list(contenders)[:: -1 if turn % 2 else 1]:
            print(f"{prefix}round {turn + 1} of {turns}: {contender}", file=sys.stderr)
            yield turn, contender


def spread(values: Sequence[float], unit: str = "", digits: int | None = None) -> str:
    """Return the median with minimum and maximum, e.g. `2.82 [2.70-2.89] MB`."""
    middle = median(values)
    if digits is None:
        digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    middle_, least, most = (f"{value:,.{digits}f}" for value in (middle, min(values), max(values)))
    return f"{middle_} [{least}-{most}]{' ' if unit else ''}{unit}"


def ratios_by_turn(upper: Sequence[float], lower: Sequence[float]) -> list[float]:
    """Return the ratio of two contenders in each round."""
    return [one / other for one, other in zip(upper, lower, strict=True)]


def verdict(ratios: Sequence[float], must: float | None) -> str:
    """Return the goal for the ratio, and whether the median reaches it."""
    if must is None:
        return "-"
    return f"{must:g}x, {'met' if median(ratios) >= must else 'missed'}"


def describe_machine(threads: int, packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return CPU, load and versions of the machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line for line in lines if "model name" in line]
    load = f"load before the start {os.getloadavg()[0]:.1f}"
    versions = [f"Python {platform.python_version()}", *map(_version_of, packages)]
    return {
        "CPU": models[0].split(":")[1].strip() if models else platform.processor(),
        "workers": f"{threads} of {os.cpu_count()} cores, {load}",
        "versions": ", ".join(versions),
    }


def _version_of(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} (not installed)"


def show_machine(machine: Mapping[str, str]) -> None:
    """Print the machine, one line per property."""
    for name, value in machine.items():
        print(f"{name}: {value}")


def show_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a rich table on a terminal, and columns of plain text otherwise."""
    (_show_rich if sys.stdout.isatty() else _show_plain)(title, header, rows)


def _show_rich(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _show_plain(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    print(f"\n{title}")
    for row in (header, *rows):
        others = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print("  ".join((row[0].ljust(widths[0]), *others)).rstrip())
    print()
