"""The counters of a run, and progress bars on a terminal."""

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    `bytes_read` and `bytes_total` count bytes on disk (compressed). `samples_packed` and
    `samples_total` are 0 until packing starts.
    """

    bytes_read: int
    bytes_total: int
    rows: int
    written: int
    tokens: int
    samples_packed: int
    samples_total: int


def listener(on_progress: Callable[[Progress], object] | None) -> Callable[[str], object] | None:
    """Return the function that the core calls about ten times a second, with JSON."""
    return None if on_progress is None else lambda line: on_progress(Progress(**json.loads(line)))


class ProgressBars:
    """Bars for reading (rows, MB and tokens per second, time left) and for packing.

    They are drawn on stderr, and only if that is a terminal and they are not `hidden`.
    """

    def __init__(self, *, hidden: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        console = Console(stderr=True)
        columns = [
            TextColumn("{task.description:<8}", markup=False),
            BarColumn(bar_width=30),
            TextColumn(
                "{task.percentage:>3.0f} %  {task.fields[value]}", style="dim", markup=False
            ),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        ]
        self._bars = Bars(
            *columns, console=console, disable=hidden or not console.is_terminal, transient=True
        )

    def __enter__(self) -> "ProgressBars":
        self._bars.start()
        self._read = self._bars.add_task("reading", total=None, value="")
        self._pack = self._bars.add_task("packing", total=None, value="", visible=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def update(self, progress: Progress) -> None:
        """Draw new counters."""
        task = self._bars.tasks[self._read]
        seconds = max(task.elapsed or 0.0, 0.1)
        value = (
            f"{progress.rows:,} rows  {progress.bytes_read / seconds / 1e6:,.1f} MB/s  "
            f"{progress.tokens / seconds:,.0f} tokens/s"
        )
        if progress.samples_total == 0:
            self._bars.update(
                self._read,
                total=progress.bytes_total or None,
                completed=progress.bytes_read,
                value=value,
            )
            return
        self._bars.update(self._read, total=progress.bytes_total, completed=progress.bytes_total)
        value = f"{progress.samples_packed:,} of {progress.samples_total:,} samples packed"
        self._bars.update(
            self._pack,
            visible=True,
            total=progress.samples_total,
            completed=progress.samples_packed,
            value=value,
        )
