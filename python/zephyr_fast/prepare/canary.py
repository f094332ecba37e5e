"""Loads an unknown chat template in a process of its own first, so that a hostile one ends there
and not in the run.

Templates are code of others. What decides is counted, in the engine: steps, bytes and values
within values. So the same template is taken or refused on every machine. The child's own limits
of time and memory stand far above that, for what nobody has thought of. It opens no file and no
connection, as far as the system lets a process give that up.
"""

import contextlib
import ctypes
import json
import resource
import subprocess
import sys

from zephyr_fast import _core

# Known templates take a few milliseconds, the longest harmless ones a second or two on a slow
# machine.
CPU_SECONDS = 60
# Above what the interpreter has taken when it starts; the compiler's stack is within.
MEMORY_BYTES = 160 << 20
COMMAND = [sys.executable, "-c", "from zephyr_fast.prepare.canary import main; main()"]
WALL_SECONDS = 600  # A busy machine; the limits above end what is hostile.


def check(stranger: str) -> None:
    """Raises ConfigError if the template does not get through a canary; what the template itself
    refuses is left to the run to say.

    `stranger`: what `_core.unknown_template` gave.
    """
    name = json.loads(stranger)["name"]
    try:
        child = subprocess.run(
            COMMAND, input=stranger.encode(), capture_output=True, timeout=WALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _core.ConfigError(
            f"template `{name}` is refused: its canary took more than {WALL_SECONDS} s"
        ) from None
    if child.returncode not in (0, _core.ConfigError.exit_code):
        said = child.stderr.decode(errors="replace").strip().splitlines()
        why = (
            f"signal {-child.returncode}"
            if child.returncode < 0
            else (said or [f"exit code {child.returncode}"])[-1]
        )
        limits = f"{CPU_SECONDS} s and {MEMORY_BYTES >> 20} MiB"
        raise _core.ConfigError(
            f"template `{name}` is refused: its canary did not end within {limits} ({why})"
        )


def confine() -> None:
    """Takes from this process what rendering does not need. Where the system has no means for
    one of these, the others remain.
    """
    limits = _limits()  # before the file system closes: one of them is read from it
    with contextlib.suppress(AttributeError):  # not Linux
        libc = ctypes.CDLL(None)
        # As linux/prctl.h and signal.h number them.
        no_new_privileges, die_with_parent, kill = 38, 1, 9
        libc.prctl(die_with_parent, kill, 0, 0, 0)
        libc.prctl(no_new_privileges, 1, 0, 0, 0)
        _close_file_system(libc)
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def _limits() -> dict[int, int]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + CPU_SECONDS,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        # What is written to, not what is only mapped: the allocator reserves far more than it uses.
        resource.RLIMIT_DATA: _bytes_used() + MEMORY_BYTES,
        # No more descriptors: no file is opened, and no socket made.
        resource.RLIMIT_NOFILE: 0,
    }


def _bytes_used() -> int:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[5]) * resource.getpagesize()
    except OSError:
        return 0


def _close_file_system(libc: ctypes.CDLL) -> None:
    """Landlock (Linux 5.13 and newer): no access to any path, so that none can be renamed or
    removed either.
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


def main() -> None:
    stranger = sys.stdin.read()
    confine()
    try:
        _core.canary(stranger)
    except _core.ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
