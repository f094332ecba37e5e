"""Judge prompts: the bundled text files, a user's own, or those of FastChat."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from zephyr_fast._core import ConfigError, InputError
from zephyr_fast.collection.prompt_file import PromptFile
from zephyr_fast.endpoint.call import Message
from zephyr_fast.evaluate.rows import digest, read_rows, text_field
from zephyr_fast.printed import shown

BUNDLED = Path(__file__).parent / "judge_prompts"


def digest_of(prompts: Mapping[str, PromptFile]) -> str:
    """Return the SHA-256 of the texts of prompts."""
    return digest(
        {
            name: [[message.role, message.content] for message in one.messages]
            for name, one in prompts.items()
        }
    )


def fastchat_prompts(path: Path, fields: Mapping[str, Collection[str]]) -> dict[str, PromptFile]:
    """Read prompts of FastChat's `judge_prompts.jsonl`.

    Args:
        path: the file
        fields: by the name of each prompt that is needed, the fields that it must have

    Raises:
        ConfigError: a prompt or a field is missing
        InputError: the file cannot be read
    """
    rows = {}
    for number, row in enumerate(read_rows(path), start=1):
        rows[text_field(f"`{shown(path)}`: row {number}", row, "name")] = row
    found = {}
    for name, required in fields.items():
        if name not in rows:
            raise ConfigError(f"`{shown(path)}` has no prompt `{name}`")
        where = f"`{shown(path)}`: prompt `{name}`"
        system = text_field(where, rows[name], "system_prompt")
        user = text_field(where, rows[name], "prompt_template")
        found[name] = _fastchat_prompt(where, system, user, required)
    return found


def _fastchat_prompt(where: str, system: str, user: str, required: Collection[str]) -> PromptFile:
    if "{{" in user or "}}" in user:
        raise InputError(f"{where}: doubled braces are not supported")
    for name in required:
        if f"{{{name}}}" not in user:
            raise ConfigError(f"{where} does not use `{{{name}}}`")
    pattern = "|".join(map(re.escape, required))
    user = re.sub(rf"\{{({pattern})\}}", r"{{\1}}", user)
    text = json.dumps([system, user])
    # FastChat fills in the user message only, so braces of the system message stay.
    messages = (Message("system", system), Message("user", user))
    return PromptFile(messages, hashlib.sha256(text.encode()).hexdigest())
