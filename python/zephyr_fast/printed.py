"""All output to the terminal. Untrusted text is escaped, and credentials are removed from URLs.

A name, a row or a server's answer may contain escape sequences, right-to-left overrides, markup
or megabytes of text. `shown` returns one line of printable characters of bounded length.
"""

import errno
import json
import os
import re
import stat
import sys
import time
from collections.abc import Iterable
from typing import IO

import click

from zephyr_fast._core import StorageError

CHARACTERS_MAX = 4_000
"""Maximum characters of a printed line: longer than any path, shorter than a screen."""

_LOG_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_MARKS = re.compile(r"[\\`*\[\]<>|&~]")  # of Markdown and HTML

_TAIL = 1_000  # An error ends with its remedy, so a long line is shortened in the middle.

_READ_MAX = 1 << 20  # Characters of an error that are searched for secrets.

_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,30}:/{1,2})([^\s'\"`<>]+)")
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
_SECRET = re.compile(
    r"(?i)\b((?:bearer|basic)\s+|(?:authorization|token|password|secret|api[_-]?key)['\"]?\s*[:=]\s*['\"]?)[^\s'\"`,;]{8,}"
)


def shown(text: object, characters_max: int = CHARACTERS_MAX) -> str:
    """Return the text as one line. Characters that are not printable become escapes, and a long
    text is shortened in the middle.

    Escaped are control characters (including ESC, C1 and line ends), direction marks, unusual
    spaces, and bytes of a file name that is not UTF-8.
    """
    try:
        line = str(text)
    except (RecursionError, ValueError):  # nested lists, integers of thousands of digits
        return f"a value of type {type(text).__name__}"
    if len(line) > characters_max:
        tail = min(_TAIL, characters_max // 2)
        line = f"{line[: characters_max - tail]} … {line[-tail:]}"
    if line.isprintable():
        return line
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in line
    )


def in_markdown(text: object, characters_max: int = 200) -> str:
    """Return the text as part of a line or a table cell of Markdown, without links, code or HTML.

    Other punctuation is unchanged, so common names are readable in a terminal, too.
    """
    return _MARKS.sub(r"\\\g<0>", shown(text, characters_max)).replace("://", "\\://")


def brief(value: object) -> str:
    """Return a short form of a value, for an error that rejects it."""
    try:
        return shown(repr(value), 80)
    except (ValueError, RecursionError):  # an integer of too many digits, lists that are too deep
        return f"a value of type {type(value).__name__}"


def without_secrets(text: object) -> str:
    """Remove user info and query from every URL in the text, and everything that looks like a
    token.
    """
    return _SECRET.sub(r"\1…", _HUB_TOKEN.sub("hf_…", _URL.sub(_bare, str(text))))


def said(error: BaseException) -> str:
    """Return an error's message as one line that is safe to print."""
    return shown(without_secrets(str(error)[:_READ_MAX]))


class Channel:
    """Messages of a command other than its results, which are also written to a log file."""

    def __init__(self) -> None:
        self.quiet = self.verbose = False
        self._log: IO[str] | None = None

    def open(self, *, quiet: bool, verbose: bool, log_file: str | None) -> None:
        """Set the levels, and append to `log_file` from now on. Raises StorageError."""
        self.quiet, self.verbose = quiet, verbose
        if log_file is None:
            return
        try:
            handle = os.open(log_file, _LOG_FLAGS, 0o666)
            self._log = open(handle, "a", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
        except (OSError, ValueError) as error:
            self._log = None
            reason = getattr(error, "strerror", None) or error
            raise StorageError(f"cannot write the log file `{log_file}`: {reason}") from error

    def log(self, line: str) -> None:
        """Append a line with the time to the log file, if there is one. If that fails, the command
        goes on, and a warning says so.
        """
        if self._log is None:
            return
        try:
            self._log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
            self._log.flush()
        except OSError as error:
            self._log = None
            warn(f"warning: the log file is not written any more: {error.strerror}")


channel = Channel()
"""The levels of this process: those of a library call unless the command line sets others."""


def say(line: str) -> None:
    """Print a line of results on stdout. Raises StorageError if that fails."""
    channel.log(line)
    try:
        click.echo(line)
    except BrokenPipeError:
        raise  # the reader has closed the pipe: click ends the command
    except OSError as error:
        raise StorageError(f"cannot write to stdout: {error.strerror or error}") from error


def say_part(text: str) -> None:
    """Print a part of a text on stdout at once. Line ends and tabs are kept. Raises StorageError if
    that fails.
    """
    try:
        click.echo("".join(one if one in "\n\t" else shown(one) for one in text), nl=False)
    except BrokenPipeError:
        raise  # as in `say`
    except OSError as error:
        raise StorageError(f"cannot write to stdout: {error.strerror or error}") from error


def warn(line: str) -> None:
    """Print an error or a warning on stderr. A closed stderr is ignored."""
    channel.log(line)
    try:
        click.echo(line, err=True)
    except OSError:
        return


def note(line: str) -> None:
    """Print a status line on stderr, unless the command runs with `--quiet`."""
    if channel.quiet:
        channel.log(line)
    else:
        warn(line)


def detail(line: str) -> None:
    """Print a line on stderr if the command runs with `--verbose`."""
    if channel.verbose:
        warn(line)
    else:
        channel.log(line)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean `…`?" with the known word closest to `word`, or an empty text."""
    from difflib import get_close_matches

    names = {name.lstrip("-"): name for name in known}  # dashes must not count as a similarity
    closest = get_close_matches(word[:100].lstrip("-"), list(names), n=1, cutoff=0.6)
    return f"; did you mean `{names[closest[0]]}`?" if closest else ""


def say_json(text: str) -> None:
    """Print JSON unchanged, except that characters which the terminal would interpret or the
    encoding cannot represent become JSON escapes.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    say(
        "".join(_json_char(char, encoding, is_terminal) for char in text)
        if is_terminal or not _fits(text, encoding)
        else text
    )


def never_fail_to_encode() -> None:
    """Make stdout and stderr escape characters that their encoding cannot represent, because
    printing a name must not fail a command that has succeeded.
    """
    for stream in (sys.stdout, sys.stderr):
        _escape_unencodable(stream)


def _escape_unencodable(stream: IO[str] | None) -> None:
    reconfigure = getattr(stream, "reconfigure", None)  # a test may have replaced it
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _bare(found: re.Match[str]) -> str:
    scheme, rest = found[1], re.split(r"[?#]", found[2], maxsplit=1)[0]
    first, _, _ = rest.partition("/")
    # A password may contain a slash, but a port has only digits. A path may contain an `@`, for
    # example before a revision.
    has_user = "@" in first or (
        ":" in first and not re.fullmatch(r"[^:]*:\d{1,5}|\[[^]]*\](:\d{1,5})?", first)
    )
    return scheme + (rest.rpartition("@")[2] if has_user else rest)


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _json_char(char: str, encoding: str, is_terminal: bool) -> str:
    if char == "\n" or (_fits(char, encoding) and (char.isprintable() or not is_terminal)):
        return char
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"
