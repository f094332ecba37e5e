"""Renders a canary with an unknown chat template in a process of its own, so that a hostile one ends there and not in the run.

Templates are code of others. The engine bounds steps, bytes and depth of a rendering, but values that hold themselves many times over, or
tens of thousands of lists deep, still cost minutes, gigabytes or the process. Only an operating system can stop those: hence a child.
"""

import json
import subprocess
import sys

from zephyr_fast import _core

CPU_SECONDS = 1  # Known templates take a few milliseconds.
MEMORY_BYTES = 160 << 20  # Above what the interpreter has taken when it starts; the compiler's stack is within.
COMMAND = [sys.executable, "-c", "from zephyr_fast.canary import main; main()"]
WALL_SECONDS = 60  # A busy machine; the two limits above end what is hostile.


def check(name: str, text: str) -> None:
    """Raises RecipeError if the template does not get through a canary; what the template itself refuses is left to the run to say."""
    question = json.dumps({"name": name, "text": text}).encode()
    try:
        child = subprocess.run(COMMAND, input=question, capture_output=True, timeout=WALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise _core.RecipeError(f"template `{name}` is refused: its canary took more than {WALL_SECONDS} s") from None
    if child.returncode not in (0, _core.RecipeError.exit_code):
        said = child.stderr.decode(errors="replace").strip().splitlines()
        why = f"signal {-child.returncode}" if child.returncode < 0 else (said or [f"exit code {child.returncode}"])[-1]
        limits = f"{CPU_SECONDS} s and {MEMORY_BYTES >> 20} MiB"
        raise _core.RecipeError(f"template `{name}` is refused: its canary did not end within {limits} ({why})")


def _limit() -> None:
    """Gives this process its limits, above what it has used so far. Where there are none to set, the engine's own remain."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = int(used.ru_utime + used.ru_stime) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/statm") as statm:
            used_bytes = int(statm.read().split()[5]) * resource.getpagesize()
    except OSError:
        used_bytes = 0
    # What is written to, not what is only mapped: the allocator reserves far more than it uses.
    resource.setrlimit(resource.RLIMIT_DATA, (used_bytes + MEMORY_BYTES, used_bytes + MEMORY_BYTES))


def main() -> None:
    question = json.loads(sys.stdin.buffer.read())
    _limit()
    try:
        _core.canary(question["name"], question["text"])
    except _core.RecipeError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
