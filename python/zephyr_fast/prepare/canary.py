"""Loads an unknown chat template in a child process first, because a hostile template must not
end the run.

Templates are untrusted code. The core counts steps, bytes and nesting, so it accepts or rejects
the same templates on every machine. The child's limits of time and memory are far higher, and are
only a second line of defense. The child cannot open files or connections, as far as the system
supports such a restriction.
"""

import json
import subprocess
import sys
from functools import lru_cache

from zephyr_fast import _core
from zephyr_fast.untrusted.child import command, confine

# Known templates need a few milliseconds. The slowest harmless ones need a second or two on a slow
# machine.
CPU_SECONDS = 60
# In addition to the memory of the interpreter. It includes the stack of the template compiler.
MEMORY_BYTES = 160 << 20
COMMAND = command(__name__)
WALL_SECONDS = 600  # For a busy machine. The limits above stop hostile templates.


@lru_cache(maxsize=8)  # The result is always the same. An exception is not kept.
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


def main() -> None:
    request = sys.stdin.read()
    confine(MEMORY_BYTES, CPU_SECONDS)
    try:
        _core.canary(request)
    except _core.ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
