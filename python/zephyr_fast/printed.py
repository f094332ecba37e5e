"""The one door to the terminal: names and texts of others are shown, never sent, and no
credential of a URL is printed.

A name, a row or a server's answer may hold escape sequences, right-to-left overrides, markup or
megabytes. What passes `shown` is one line of printable characters of bounded length.
"""

import json
import re
import sys
from typing import IO

import click

from zephyr_fast._core import StorageError

CHARACTERS_MAX = 4_000
"""Characters of a line that are shown: longer than any path, shorter than a screen."""

_TAIL = 1_000  # An error ends with the way out, so a line that is too long loses its middle.

_READ_MAX = 1 << 20  # Characters of an error that are looked through for secrets.

_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,30}:/{1,2})([^\s'\"`<>]+)")
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
_SECRET = re.compile(
    r"(?i)\b((?:bearer|basic)\s+|(?:authorization|token|password|secret|api[_-]?key)['\"]?\s*[:=]\s*['\"]?)[^\s'\"`,;]{8,}"
)


def shown(text: object, characters_max: int = CHARACTERS_MAX) -> str:
    """One line: every character that is not printable is written as its escape, and a text that
    is too long loses its middle.

    Escaped are control characters (ESC, C1 and line ends too), marks that turn the direction of
    text, spaces that are no space, and what is no character at all, as in a file name that is
    not UTF-8.
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


def brief(value: object) -> str:
    """A value of a config or a call in a few words, for an error that refuses it."""
    try:
        return shown(repr(value), 80)
    except (ValueError, RecursionError):  # an integer of too many digits, lists that are too deep
        return f"such a {type(value).__name__}"


def without_secrets(text: object) -> str:
    """The text without user info and query of any URL in it, and without what looks like a
    token.
    """
    return _SECRET.sub(r"\1…", _HUB_TOKEN.sub("hf_…", _URL.sub(_bare, str(text))))


def said(error: BaseException) -> str:
    """What an error says, as one line that may be printed."""
    return shown(without_secrets(str(error)[:_READ_MAX]))


def say(line: str) -> None:
    """Prints a line of results. StorageError where stdout does not take it."""
    try:
        click.echo(line)
    except BrokenPipeError:
        raise  # the reader has seen enough: click ends the command
    except OSError as error:
        raise StorageError(f"cannot print: {error.strerror or error}") from error


def warn(line: str) -> None:
    """Prints a line on stderr; where that is gone, there is nobody left to tell."""
    try:
        click.echo(line, err=True)
    except OSError:
        return


def say_json(text: str) -> None:
    """Prints JSON as it is; what the terminal would obey or the encoding cannot hold is written
    as JSON's own escapes.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    say(
        "".join(_json_char(char, encoding, is_terminal) for char in text)
        if is_terminal or not _fits(text, encoding)
        else text
    )


def never_fail_to_encode() -> None:
    """Has stdout and stderr escape what their encoding cannot hold, so that a name never ends a
    command that has done its work.
    """
    for stream in (sys.stdout, sys.stderr):
        _escape_unencodable(stream)


def _escape_unencodable(stream: IO[str] | None) -> None:
    reconfigure = getattr(stream, "reconfigure", None)  # a test may have put another object there
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def _bare(found: re.Match[str]) -> str:
    scheme, rest = found[1], re.split(r"[?#]", found[2], maxsplit=1)[0]
    first, _, _ = rest.partition("/")
    # A password may hold a slash, but no port is anything but digits; a path may hold an `@`, as
    # before a revision.
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
