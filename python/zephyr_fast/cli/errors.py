"""Turns every failure into an exit code and one line on stderr, never a traceback."""

import errno
import os
import traceback
from collections.abc import Callable

import click

from zephyr_fast._core import (
    InputError,
    InternalError,
    MemoryLimitError,
    ZephyrError,
)
from zephyr_fast.exiting import flush_stdout
from zephyr_fast.printed import did_you_mean, said, shown, warn, without_secrets


def exit_code(command: Callable[[], int | None]) -> int | None:
    """Run `command` and return its exit code. A failure prints one line on stderr."""
    try:
        code = command()
        flush_stdout()
    except click.ClickException as error:
        code = _misused(error)
    except ZephyrError as error:
        warn(f"error: {said(error)}")
        if isinstance(error, InternalError):
            warn(
                "This is a bug in zephyr-fast. Please report it with the command and, if possible, "
                "the row that caused it"
            )
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        warn("interrupted; run the same command again")
        code = 130
    except Exception as error:
        try:
            code = _other(error)
        except MemoryError:  # not even a line could be composed
            os.write(2, _OUT_OF_MEMORY)
            code = MemoryLimitError.exit_code
    return code


_OUT_OF_MEMORY = b"error: out of memory; split the input, or raise the limit\n"


# How glibc reports a library that finds no room, and how Python reports a thread.
_NO_ROOM = ("failed to map segment", "cannot allocate memory", "can't start new thread")


def _memory_refused(error: Exception) -> bool:
    """Whether the system refused memory, a thread, or room for a library that an import loads."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    text = str(error).lower()
    return isinstance(error, (ImportError, RuntimeError)) and any(one in text for one in _NO_ROOM)


def _other(error: Exception) -> int:
    """Report an error of the system, or a bug, and return its exit code."""
    if _memory_refused(error):
        warn(_OUT_OF_MEMORY.decode().rstrip())
        return int(MemoryLimitError.exit_code)
    if isinstance(error, OSError):
        warn(f"error: {said(error)}")
        return int(InputError.exit_code)
    return _unexpected(error)


def _misused(error: click.ClickException) -> int:
    """Report a wrong command or option in one line, as every other error is reported."""
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        warn(error.format_message())  # the help, which is our own text
        return error.exit_code
    warn(f"error: {shown(without_secrets(_problem(error)))}{_help_hint(error)}")
    return error.exit_code


def _problem(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, click.NoSuchOption):
        options = context.command.params if context else []
        known = [name for option in options for name in option.opts if name.startswith("--")]
        return f"unknown option `{error.option_name}`{did_you_mean(error.option_name, known)}"
    command = getattr(error, "command_name", None)  # of click 8.2 and later
    if command is not None and context is not None:
        known = context.command.list_commands(context)  # type: ignore[attr-defined]
        return f"unknown command `{command}`{did_you_mean(command, known)}"
    message = error.format_message().rstrip(".")
    return message[:1].lower() + message[1:]


def _help_hint(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f" (see `{shown(context.command_path)} --help`)" if context else ""


def _unexpected(error: Exception) -> int:
    """Report an error that no code expects, which is a bug. Its traceback is printed on request."""
    if os.environ.get("ZEPHYR_FAST_TRACEBACK"):
        warn("".join(traceback.format_exception(error)))
    warn(f"error: a bug in zephyr-fast: {type(error).__name__}: {said(error)}")
    warn("Please report it with the command. Set ZEPHYR_FAST_TRACEBACK=1 to print the traceback")
    return int(InternalError.exit_code)
