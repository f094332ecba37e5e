"""Loads an unknown chat template in a child process first, because a hostile template must not
end the run.

Templates are untrusted code. The core counts steps, bytes and nesting, so it accepts or rejects
the same templates on every machine. The child's limits of time and memory are far higher, and are
only a second line of defense. The child cannot open files or connections, as far as the system
supports such a restriction.
"""

import contextlib
import ctypes
import json
import resource
import subprocess
import sys

from zephyr_fast import _core

# Known templates need a few milliseconds. The slowest harmless ones need a second or two on a slow
# machine.
CPU_SECONDS = 60
# In addition to the memory of the interpreter. It includes the stack of the template compiler.
MEMORY_BYTES = 160 << 20
COMMAND = [sys.executable, "-c", "from zephyr_fast.prepare.canary import main; main()"]
WALL_SECONDS = 600  # For a busy machine. The limits above stop hostile templates.


def check(request: str) -> None:
    """Raise ConfigError if loading the template exceeds the limits of the child process. Errors
    of the template itself are reported by the run.

    Args:
        request: The template, as JSON from `_core.unknown_template`.
    """
    name = json.loads(request)["name"]
    try:
        child = subprocess.run(
            COMMAND, input=request.encode(), capture_output=True, timeout=WALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise _core.ConfigError(
            f"template `{name}` was rejected: its trial rendering exceeded {WALL_SECONDS} s"
        ) from None
    if child.returncode not in (0, _core.ConfigError.exit_code):
        stderr_lines = child.stderr.decode(errors="replace").strip().splitlines()
        reason = (
            f"signal {-child.returncode}"
            if child.returncode < 0
            else (stderr_lines or [f"exit code {child.returncode}"])[-1]
        )
        limits = f"{CPU_SECONDS} s and {MEMORY_BYTES >> 20} MiB"
        raise _core.ConfigError(
            f"template `{name}` was rejected: its trial rendering failed within {limits} ({reason})"
        )


def confine() -> None:
    """Restrict this process to what rendering needs. A restriction that the system does not
    support is skipped.
    """
    limits = _limits()  # read first: one limit depends on a file, which is inaccessible later
    with contextlib.suppress(AttributeError):  # not Linux
        libc = ctypes.CDLL(None)
        # Numbers from linux/prctl.h and signal.h.
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
        # Only memory that is written counts: the allocator reserves far more than it uses.
        resource.RLIMIT_DATA: _bytes_used() + MEMORY_BYTES,
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


def main() -> None:
    request = sys.stdin.read()
    confine()
    try:
        _core.canary(request)
    except _core.ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
