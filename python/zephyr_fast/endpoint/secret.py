"""An API key that no text shows: not `repr`, not an error, not the log."""

import os
from pathlib import Path

from zephyr_fast._core import InputError
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import read_bytes

CHARACTERS_MAX = 4_096
"""Longest key that is read; a signed token has about 1,500 characters."""

SECRET_CHARACTERS_MIN = 8
"""Shorter keys are placeholders such as `EMPTY`, which local servers ask for; an answer may hold
such a word.
"""


class Secret:
    """A key. Only `reveal` gives it away, and only the HTTP header asks for it. `source` says where
    the key is from.
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
        """The key itself."""
        return self._value

    def is_in(self, text: str) -> bool:
        """Whether a text gives the key away; placeholders are no secret."""
        return len(self._value) >= SECRET_CHARACTERS_MIN and self._value in text

    def hidden_in(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self._value, "…") if self.is_in(text) else text


def from_environment(variable: str) -> Secret:
    """The key in an environment variable. InputError, which names the variable, if it is unset."""
    value = os.environ.get(variable, "").strip()
    if not value:
        raise InputError(f"the environment variable `{shown(variable)}` is not set")
    return _named(value, f"the environment variable `{shown(variable)}`")


def from_file(path: Path) -> Secret:
    """The key in a file, without the line end. InputError if it cannot be read."""
    try:
        value = read_bytes(path, CHARACTERS_MAX).decode("ascii").strip()
    except (OSError, UnicodeDecodeError):  # its text could hold the key
        raise InputError(f"cannot read an API key from `{shown(path)}`") from None
    return _named(value, f"`{shown(path)}`")


def _named(value: str, source: str) -> Secret:
    try:
        return Secret(value, source)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
