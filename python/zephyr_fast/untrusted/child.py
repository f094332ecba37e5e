"""Child processes for work on untrusted data: how they start, and the rights that they give up.

A hostile file can then end its child, but not the run.
"""

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

_PACKAGES = str(Path(__file__).parents[2])
"""The directory that has this package. A checkout may not be installed."""

SAFE_PATH = "import sys\nsys.path[:] = [one for one in sys.path if one]\n"
"""First lines of a script for the `-c` of any Python: the current directory, which may be a
downloaded one, is not searched for modules. Python 3.11 and newer have `-P` for it.
"""


def command(module: str) -> list[str]:
    """Return the command that runs `main` of a module of this package in a new process. No file of
    the current directory is imported.
    """
    code = f"import sys; sys.path.append({_PACKAGES!r}); from {module} import main; main()"
    return [sys.executable, "-P", "-c", code]


def confine(memory_bytes: int, cpu_seconds: int) -> None:
    """Restrict this process to its open files, some more memory and some more CPU time. A
    restriction that the system does not support is skipped.
    """
    # Read first: one limit depends on a file, which is inaccessible later.
    limits = _limits(memory_bytes, cpu_seconds)
    with contextlib.suppress(AttributeError):  # not Linux
        libc = ctypes.CDLL(None)
        # Numbers from linux/prctl.h and signal.h.
        no_new_privileges, die_with_parent, kill = 38, 1, 9
        libc.prctl(die_with_parent, kill, 0, 0, 0)
        libc.prctl(no_new_privileges, 1, 0, 0, 0)
        _close_file_system(libc)
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def _limits(memory_bytes: int, cpu_seconds: int) -> dict[int, int]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + cpu_seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        # Only memory that is written counts: the allocator reserves far more than it uses.
        resource.RLIMIT_DATA: _bytes_used() + memory_bytes,
        # No new descriptors, so no files and no sockets.
        resource.RLIMIT_NOFILE: 0,
    }


def _bytes_used() -> int:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[5]) * resource.getpagesize()
    except OSError:
        return 0


def _close_file_system(libc: ctypes.CDLL) -> None:
    """Deny access to every path with Landlock (Linux 5.13 and newer), including renames and
    removals.
    """
    create_ruleset, restrict_self, version_flag = 444, 446, 1  # the same on every architecture
    version = libc.syscall(create_ruleset, None, 0, version_flag)
    if version < 1:
        return
    # Kinds of access to files, numbered from bit 0.
    rights = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    # And to TCP: bind, connect.
    ruleset = (ctypes.c_uint64 * 2)((1 << rights) - 1, 0b11 if version >= 4 else 0)
    handle = libc.syscall(create_ruleset, ctypes.byref(ruleset), 16 if version >= 4 else 8, 0)
    if handle >= 0:
        libc.syscall(restrict_self, handle, 0)
