"""Measures a process from inside: seconds of a stretch of work, and the peak of its memory.

Contenders import this and not `measuring.py`, since their own imports count where a whole
process is timed, and since some run in an interpreter that has nothing but the contender.
"""

import re
import resource
import time
from pathlib import Path


def cpu_seconds() -> float:
    """Returns the CPU seconds of this process, its threads and its finished children."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))


class Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), cpu_seconds()

    def seconds(self) -> tuple[float, float]:
        """Returns the seconds as (wall, CPU)."""
        wall = time.perf_counter() - self.wall
        return wall, cpu_seconds() - self.cpu

    def report(self) -> dict[str, float]:
        """Returns the seconds as a report spells them."""
        wall, cpu = self.seconds()
        return {"wall": wall, "cpu": cpu}


def memory_largest() -> int:
    """Returns the peak resident bytes of this process or of its largest finished child.

    Not `ru_maxrss` of this process: that one is inherited from whoever started it.
    """
    own = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return 1024 * max(int(own[1]) if own else 0, children)
