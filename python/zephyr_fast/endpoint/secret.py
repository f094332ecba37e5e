"""An API key that is never printed: not by `repr`, in an error or in the log."""

import os
import re
from pathlib import Path

from zephyr_fast._core import InputError
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import read_bytes

CHARACTERS_MAX = 4_096
"""Maximum key length. A signed token has about 1,500 characters."""

SECRET_CHARACTERS_MIN = 8
"""Shorter keys are placeholders such as `EMPTY`, which local servers require. An answer may contain
such a word.
"""


_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


class Secret:
    """A key. Only `reveal` returns it, for the HTTP header. `source` describes where the key was
    read.
    """

    __slots__ = ("_value", "source")

    def __init__(self, value: str, source: str = "") -> None:
        if not value or len(value) > CHARACTERS_MAX or not value.isascii() or " " in value:
            raise InputError("an API key is one word of ASCII characters")
        if not value.isprintable():
            raise InputError("an API key holds no control characters")
        self._value, self.source = value, source

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> str:
        raise TypeError("a key is not pickled")

    def reveal(self) -> str:
        """Return the key itself."""
        return self._value

    def is_in(self, text: str) -> bool:
        """Whether a text contains the key. Placeholders are not secret."""
        return len(self._value) >= SECRET_CHARACTERS_MIN and self._value in text

    def hidden_in(self, text: str) -> str:
        """Return the text without the key."""
        return text.replace(self._value, "…") if self.is_in(text) else text


def from_environment(variable: str) -> Secret:
    """Return the key in an environment variable. InputError if it is unset. A text that is hardly
    a name is not repeated, because it could be the key itself.
    """
    value = os.environ.get(variable, "").strip()
    if value:
        return _named(value, f"the environment variable `{shown(variable)}`")
    if not _VARIABLE.fullmatch(variable):
        raise InputError("the variable that `key_env` names is not set; is it the key itself?")
    raise InputError(f"the environment variable `{variable}` is not set")


def from_file(path: Path) -> Secret:
    """Return the key in a file, without the line end. InputError if the file cannot be read. The
    path is then not repeated, because it could be the key itself.
    """
    try:
        value = read_bytes(path, CHARACTERS_MAX).decode("ascii").strip()
    except UnicodeDecodeError:  # its text could hold the key
        raise InputError("cannot read an API key from `key_file`: it is not ASCII") from None
    except OSError as error:
        raise InputError(f"cannot read an API key from `key_file`: {error.strerror}") from None
    return _named(value, f"`{shown(path)}`")


def _named(value: str, source: str) -> Secret:
    try:
        return Secret(value, source)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
