"""What a server answers that honors every part of a request, and ones that ignore a part of it."""

import asyncio
import hashlib
import json
from collections.abc import Collection
from typing import Any

from faulty_server import Action, Asked, answered

WORDS = ["lake", "tower", "garden", "old", "bright", "stands", "where", "nobody", "goes", "today"]


def honest(ignored: Collection[str] = ()) -> Action:
    """An action that reads the request and obeys it, except for the fields that it ignores."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        fields = {key: value for key, value in asked.fields.items() if key not in ignored}
        writer.write(answered(_completion(fields, asked)))
        await writer.drain()
        return True

    return answer


_served: list[int] = []


def _completion(fields: dict[str, Any], asked: Asked) -> dict[str, Any]:
    _served.append(1)
    choices = []
    for index in range(fields.get("n", 1)):
        # Without a seed each answer differs; at temperature 0, and with a seed, they repeat.
        chance = fields.get("seed", -len(_served)) if fields.get("temperature") else 0
        drawn = hashlib.sha256(f"{chance} {index} {fields['messages']}".encode()).digest()
        words = [WORDS[byte % len(WORDS)] for byte in drawn][: fields.get("max_tokens", 32)]
        text = " ".join(words)
        if fields.get("response_format"):
            text = json.dumps({"answer": words[0]})
        choice: dict[str, Any] = {
            "message": {"role": "assistant", "content": text},
            "finish_reason": "length" if len(words) < 32 else "stop",
        }
        if fields.get("logprobs"):
            top = [{"token": word, "logprob": -2.0} for word in WORDS[: fields["top_logprobs"]]]
            choice["logprobs"] = {
                "content": [{"token": word, "logprob": -2.0, "top_logprobs": top} for word in words]
            }
        choices.append(choice)
    prompt = sum(len(message["content"]) for message in fields["messages"]) // 5
    output = sum(len(choice["message"]["content"].split()) for choice in choices)
    usage = {"prompt_tokens": prompt, "completion_tokens": output}
    return {"model": asked.fields["model"], "choices": choices, "usage": usage}
