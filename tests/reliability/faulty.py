"""Runs `prep` and `binarize` with faults: a process that has loaded the engine built with
failpoints forks a child for each run.

As a program it is that process: a JSON line in (verb, options, environment), a JSON line out
(exit code, what was said).
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ABORTED = -6
"""The exit code of a child that a failpoint killed: like `kill -9`, `abort` runs nothing of the
program any more.
"""


@dataclass(frozen=True)
class Done:
    """How a run ended: 0, the exit code of its error, or minus a signal; and the error's text."""

    code: int
    said: str


class Faulty:
    """The forking process, started at the first run."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self._server: subprocess.Popen[str] | None = None

    def run(self, verb: str, options: dict[str, Any], **environment: str) -> Done:
        """One run; `environment` is what `failpoints.rs` reads, without `ZEPHYR_FAST_`."""
        if self._server is None:
            around = os.environ | {"PYTHONPATH": str(self.package)}
            pipes: dict[str, Any] = {
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "text": True,
            }
            self._server = subprocess.Popen([sys.executable, __file__], env=around, **pipes)
        assert self._server.stdin and self._server.stdout
        asked = {
            "verb": verb,
            "options": options,
            "environment": {f"ZEPHYR_FAST_{name}": value for name, value in environment.items()},
        }
        self._server.stdin.write(json.dumps(asked, default=str) + "\n")
        self._server.stdin.flush()
        return Done(*json.loads(self._server.stdout.readline()))

    def stop(self) -> None:
        if self._server is not None:
            assert self._server.stdin
            self._server.stdin.close()
            self._server.wait()


def _serve() -> None:
    import zephyr_fast

    zephyr_fast.prep, zephyr_fast.binarize, zephyr_fast.verify  # noqa: B018  # loaded before the first child
    for line in sys.stdin:
        with tempfile.TemporaryFile() as said:
            child = os.fork()
            if child == 0:
                _one_run(json.loads(line), said.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said.seek(0)
            print(json.dumps([code, said.read().decode(errors="replace")]), flush=True)


def _one_run(asked: dict[str, Any], said: int) -> None:
    import zephyr_fast

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.update(asked["environment"])
    code = 0
    try:
        getattr(zephyr_fast, asked["verb"])(**asked["options"])
    except zephyr_fast.ZephyrError as error:
        os.write(said, str(error).encode())
        code = error.exit_code
    except BaseException:
        os.write(said, traceback.format_exc().encode())
        code = 99
    os._exit(code)


if __name__ == "__main__":
    _serve()
