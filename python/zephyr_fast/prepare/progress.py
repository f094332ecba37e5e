"""Shows how far a run is: bars on a terminal, nothing elsewhere."""

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a run is. Bytes are those on disk; samples are counted once packing starts."""

    bytes_read: int
    bytes_total: int
    rows: int
    written: int
    tokens: int
    samples_packed: int
    samples_total: int


def listener(follow: Callable[[Progress], object] | None) -> Callable[[str], object] | None:
    """What the engine calls, about ten times a second, with its counters as JSON."""
    return None if follow is None else lambda line: follow(Progress(**json.loads(line)))


class ProgressBars:
    """A bar for reading, with rows, megabytes and tokens a second and the time left, then one
    for packing.

    On stderr, and only if that is a terminal.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        console = Console(stderr=True)
        columns = [
            TextColumn("{task.description:<8}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[says]}", style="dim", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ]
        self._bars = Bars(
            *columns, console=console, disable=not console.is_terminal, transient=True
        )

    def __enter__(self) -> "ProgressBars":
        self._bars.start()
        self._read = self._bars.add_task("reading", total=None, says="")
        self._pack = self._bars.add_task("packing", total=None, says="", visible=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def follow(self, progress: Progress) -> None:
        """Takes the counters in."""
        task = self._bars.tasks[self._read]
        seconds = max(task.elapsed or 0.0, 0.1)
        says = f"{progress.rows:,} rows  {progress.bytes_read / seconds / 1e6:,.1f} MB/s  {progress.tokens / seconds:,.0f} tokens/s"
        if progress.samples_total == 0:
            self._bars.update(
                self._read,
                total=progress.bytes_total or None,
                completed=progress.bytes_read,
                says=says,
            )
            return
        self._bars.update(self._read, total=progress.bytes_total, completed=progress.bytes_total)
        says = f"{progress.samples_packed:,} of {progress.samples_total:,} samples"
        self._bars.update(
            self._pack,
            visible=True,
            total=progress.samples_total,
            completed=progress.samples_packed,
            says=says,
        )
