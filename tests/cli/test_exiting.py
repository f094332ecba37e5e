"""Ctrl-C while Python ends changes no outcome, and does not have to wait for threads."""

import subprocess
import sys

import pytest

from shell import HANGS_SECONDS, PACKAGE, popen

INTERRUPTED_LATE = """
import os, runpy, signal, sys

class Late:
    def __del__(self, kill=os.kill, process=os.getpid(), sent=signal.SIGINT):
        kill(process, sent)

late = Late()
sys.argv[:] = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
"""Runs a module, and sends SIGINT when Python drops the objects of the program, at its very end."""

INTERRUPTED_WHILE_A_THREAD_RUNS = """
import os, signal, threading, time
from zephyr_fast.exiting import leave

def run():
    while threading.main_thread().is_alive():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()

threading.Thread(target=run).start()
leave(9)
"""


def ended(program: str, *words: str) -> tuple[int, str]:
    """The exit code of a program, and what it wrote to stderr."""
    running = popen(
        [sys.executable, "-c", program, *words],
        {"PYTHONPATH": str(PACKAGE), "HF_HUB_OFFLINE": "1"},
    )
    told = running.communicate(timeout=HANGS_SECONDS)[1]
    return running.returncode, told


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["zephyr_fast", "--version"], 0),
        (["zephyr_fast", "prep", "--no-such-option"], 2),
        (["zephyr_fast.train", "--help"], 0),
    ],
    ids=["done", "refused", "train"],
)
def test_ctrl_c_in_the_last_moment_of_python_changes_no_exit_code(
    words: list[str], code: int
) -> None:
    left, told = ended(INTERRUPTED_LATE, *words)
    assert (left, "Traceback" in told) == (code, False), told


def test_ctrl_c_ends_a_process_that_waits_for_a_thread() -> None:
    assert ended(INTERRUPTED_WHILE_A_THREAD_RUNS) == (9, "")


def test_what_stdout_refuses_at_the_end_changes_no_exit_code() -> None:
    program = "from zephyr_fast.exiting import leave; print('lost'); leave(9)"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": str(PACKAGE)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (9, "")
