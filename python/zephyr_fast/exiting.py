"""How a process ends: stdout is flushed, and the exit code is that of its outcome.

Python needs a moment to end, in which it restores the default action of SIGINT. Ctrl-C in that
moment would end the process by the signal, although the command is done and has reported it.
"""

import atexit
import os
import signal
import sys
from typing import NoReturn

from zephyr_fast._core import StorageError


def flush_stdout() -> None:
    """Flush stdout, because a full disk can still be reported now.

    Raises:
        StorageError: stdout does not accept it. A closed pipe is ignored.
    """
    if sys.stdout is None:  # it was closed before the command started
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return
    except OSError as error:
        raise StorageError(f"cannot write to stdout: {error.strerror or error}") from error


def leave(code: int | None) -> NoReturn:
    """End the process with `code`, also if Ctrl-C comes meanwhile.

    Output that stdout does not accept is dropped; otherwise Python would report it again, with
    another exit code.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # Python first waits for threads, where Ctrl-C must still work. Then it restores the default
    # actions of signals, except of ignored ones.
    signal.signal(signal.SIGINT, lambda *_: os._exit(code or 0))
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)
