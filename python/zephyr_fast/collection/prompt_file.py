"""Reads the messages of a prompt from a text file, with placeholders in double braces.

    === system
    You compare answers.
    === user
    Question: {{instruction}}

Several turns of user and assistant are examples for the model. Values are inserted once, so braces
in them are kept.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from zephyr_fast._core import ConfigError, InputError
from zephyr_fast.endpoint.call import Message
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import read_bytes

FILE_BYTES_MAX = 1 << 20

_ROLES = ("system", "user", "assistant")
_HEAD = re.compile(r"^=== *(.*?) *$", re.MULTILINE)
_NAME = re.compile(r"\{\{ *([A-Za-z_][A-Za-z_0-9]*) *\}\}")


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A prompt that can be filled in. `digest` is the SHA-256 of the file."""

    messages: tuple[Message, ...]
    digest: str

    def filled(self, values: Mapping[str, str]) -> tuple[Message, ...]:
        """Return the messages with every name replaced by its value."""
        return tuple(
            Message(message.role, _NAME.sub(lambda name: values[name[1]], message.content))
            for message in self.messages
        )


def load(
    path: Path, required: Collection[str], optional: Collection[str] = (), *, last: str = "user"
) -> PromptFile:
    """Read a prompt file. `required` and `optional` are the names that it must and may have, and
    `last` is the role of its last message.

    Raises:
        InputError: The file cannot be read.
        ConfigError: A role or a name is unknown, or one is missing. Names file and line.
    """
    content = read_text(path)
    heads = list(_HEAD.finditer(content))
    if not heads or content[: heads[0].start()].strip():
        raise ConfigError(f"`{shown(path)}`:1: the first line must be `=== system` or `=== user`")
    messages = []
    for head, end in zip(heads, [*(one.start() for one in heads[1:]), len(content)], strict=True):
        where = f"`{shown(path)}`:{content.count(chr(10), 0, head.start()) + 1}"
        text = content[head.end() : end].strip()
        if head[1] not in _ROLES:
            raise ConfigError(
                f"{where}: unknown role `{shown(head[1])}`; known: {', '.join(_ROLES)}"
            )
        if not text:
            raise ConfigError(f"{where}: the message is empty")
        messages.append(Message(head[1], text))
    used = set(_NAME.findall(content))
    known = {*required, *optional}
    if unknown := sorted(used - known):
        listed = ", ".join(sorted(known))
        raise ConfigError(f"`{shown(path)}`: unknown name `{{{{{unknown[0]}}}}}`; known: {listed}")
    if missing := sorted(set(required) - used):
        raise ConfigError(f"`{shown(path)}`: the prompt does not use `{{{{{missing[0]}}}}}`")
    if messages[-1].role != last:
        raise ConfigError(f"`{shown(path)}`: the last message must be of the role `{last}`")
    return PromptFile(tuple(messages), hashlib.sha256(content.encode()).hexdigest())


def read_text(path: Path) -> str:
    """Return a small text file. InputError if it cannot be read or is not UTF-8."""
    try:
        return read_bytes(path, FILE_BYTES_MAX).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read `{shown(path)}`: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"`{shown(path)}` is not UTF-8: {error}") from None


def lines(path: Path) -> list[str]:
    """Return the lines of a text file without empty lines and comments (`#`). InputError if no
    lines remain.
    """
    # Not `splitlines`, which also splits at U+2028 and the like, within a text.
    found = [line.strip() for line in re.split(r"\r\n|\n|\r", read_text(path))]
    found = [line for line in found if line and not line.startswith("#")]
    if not found:
        raise InputError(f"`{shown(path)}` has no lines")
    return found
