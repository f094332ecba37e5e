"""Judge prompts: text files with a system and a user part, and the texts that fill them.

A file has the system message, a line `=== user ===`, and the user message. `{name}` is replaced
where `name` is one of the known fields. All other braces are text. FastChat's own file
`judge_prompts.jsonl` is read too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zephyr_fast._core import InputError
from zephyr_fast.endpoint.call import Message
from zephyr_fast.evaluate.records import digest, read_rows, text_field
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import read_bytes

BUNDLED = Path(__file__).parent / "judge_prompts"

_BYTES_MAX = 1 << 20
_BOUNDARY = "=== user ==="


@dataclass(frozen=True, slots=True)
class Prompt:
    """A judge prompt. `source` names it in results and errors."""

    source: str
    system: str
    user: str

    def filled(self, values: Mapping[str, str]) -> tuple[Message, ...]:
        """Return the messages with all fields replaced. Braces in values are not replaced."""
        fields = re.compile("|".join(rf"\{{{re.escape(name)}\}}" for name in values))

        def fill(text: str) -> str:
            return fields.sub(lambda match: values[match[0][1:-1]], text)

        user = Message("user", fill(self.user))
        return (Message("system", fill(self.system)), user) if self.system else (user,)

    def require(self, names: tuple[str, ...]) -> "Prompt":
        """Return the prompt. Raises InputError if it does not contain one of the fields."""
        for name in names:
            if f"{{{name}}}" not in self.system + self.user:
                raise InputError(f"judge prompt `{shown(self.source)}` does not contain `{{{name}}}`")
        return self


def read_prompt(path: Path) -> Prompt:
    """Read a prompt file. Raises InputError."""
    try:
        text = read_bytes(path, _BYTES_MAX).decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read the judge prompt `{shown(path)}`: {shown(reason)}") from None
    system, boundary, user = text.partition(f"{_BOUNDARY}\n")
    if not boundary or not user.strip():
        raise InputError(
            f"judge prompt `{shown(path)}` has no line `{_BOUNDARY}` with a user message behind it"
        )
    return Prompt(path.name, system.strip(), user.strip())


def read_fastchat_prompts(path: Path) -> dict[str, Prompt]:
    """Read the prompts of FastChat's `judge_prompts.jsonl` by name. Raises InputError."""
    found = {}
    for number, row in enumerate(read_rows(path), start=1):
        where = f"`{shown(path)}`: row {number}"
        name, system, user = (
            text_field(where, row, key) for key in ("name", "system_prompt", "prompt_template")
        )
        if "{{" in user or "}}" in user:
            raise InputError(f"{where}: doubled braces in a prompt are not supported")
        found[name] = Prompt(name, system, user)
    return found


def prompts_digest(prompts: Mapping[str, Prompt]) -> str:
    """Return the SHA-256 of the texts of prompts."""
    return digest({name: [one.system, one.user] for name, one in prompts.items()})
