"""Runs a command and says how it ended and what memory it held, from a small process in between.

What a process had resident when it forked counts as its child's until that starts another
program, so a test runner that has loaded torch would be measured instead.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HANGS_SECONDS = 1_200
"""A hang is told from a slow machine."""

_BETWEEN = """
import json, os, subprocess, sys
child = subprocess.Popen(json.loads(sys.argv[1]), stdin=sys.stdin, stdout=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024]))
"""


@dataclass(frozen=True)
class Measured:
    """`exit_code` is negative for a signal; `said` is stderr; `resident_bytes` the most that was
    resident at a time.
    """

    exit_code: int
    said: str
    resident_bytes: int


def measured(
    command: Sequence[str], stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> Measured:
    """Runs a command to its end."""
    line = [sys.executable, "-c", _BETWEEN, json.dumps(list(command))]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        line, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
    ) as between:
        try:
            stdout, stderr = between.communicate(stdin, timeout=HANGS_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(between.pid, signal.SIGKILL)
            raise
    exit_code, resident_bytes = json.loads(stdout)
    return Measured(exit_code, stderr.decode(errors="replace"), resident_bytes)
