"""Turns everything that can go wrong into an exit code and a line on stderr, never a traceback."""

import os
import sys
import traceback
from collections.abc import Callable

import click

from zephyr_fast._core import InputError, InternalError, StorageError, ZephyrError
from zephyr_fast.printed import said, shown, warn, without_secrets


def exit_code(command: Callable[[], int | None]) -> int | None:
    """Runs `command` and returns its exit code. Failures print one line on stderr."""
    try:
        code = command()
        _flush()  # here, where a full disk can still be reported
    except click.ClickException as error:
        code = _misused(error)
    except ZephyrError as error:
        warn(f"error: {said(error)}")
        if isinstance(error, InternalError):
            warn("please report this, with the command and, if you may, the row")
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        warn("interrupted; nothing that looks complete was left. Type the same command again")
        code = 130
    except OSError as error:
        warn(f"error: {said(error)}")
        code = InputError.exit_code
    except Exception as error:
        code = _unforeseen(error)
    return code


def _misused(error: click.ClickException) -> int:
    """Says, as click does, how a command is used; what was typed is shown, not sent."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        warn(error.format_message())  # the help, all of it ours
        return error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        warn(f"{context.get_usage()}\nTry '{shown(context.command_path)} --help' for help.\n")
    warn(f"Error: {shown(without_secrets(error.format_message()))}")
    return error.exit_code


def _unforeseen(error: Exception) -> int:
    """The exit code of a bug: an error that nobody gave a kind. Its traceback is for those who
    look for it.
    """
    if os.environ.get("ZEPHYR_FAST_TRACEBACK"):
        warn("".join(traceback.format_exception(error)))
    warn(f"error: a bug in zephyr-fast: {type(error).__name__}: {said(error)}")
    warn("please report this, with the command; with ZEPHYR_FAST_TRACEBACK=1 set, it says where")
    return int(InternalError.exit_code)


def _flush() -> None:
    if sys.stdout is None:  # it was closed before the command began
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return
    except OSError as error:
        raise StorageError(f"cannot print: {error.strerror or error}") from error


def leave(code: int | None) -> None:
    """Ends the process. What stdout could not take is dropped, or Python would complain of it
    once more.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
