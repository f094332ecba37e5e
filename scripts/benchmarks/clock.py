"""Measure a process from inside: the time of a part of its work, and its peak memory.

Contenders import this file and not `measuring.py`. Their imports count if a complete process is
timed, and some run in an interpreter with no other packages.
"""

import re
import resource
import time
from pathlib import Path


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, its threads and its finished children."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))


class Clock:
    """Wall and CPU seconds since the clock was created."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), cpu_seconds()

    def seconds(self) -> tuple[float, float]:
        """Return the seconds as (wall, CPU)."""
        wall = time.perf_counter() - self.wall
        return wall, cpu_seconds() - self.cpu

    def report(self) -> dict[str, float]:
        """Return the seconds by name, as in a report."""
        wall, cpu = self.seconds()
        return {"wall": wall, "cpu": cpu}


def memory_largest() -> int:
    """Return the peak resident bytes of this process or of its largest finished child.

    `ru_maxrss` of this process is not used, because it is inherited from the parent process.
    """
    own = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return 1024 * max(int(own[1]) if own else 0, children)
