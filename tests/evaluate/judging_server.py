"""What a test server answers as an evaluated model and as a judge: the same to the same request.

`verdict` overrides the judge's text. Ratings and letters are drawn by hash.
"""

import asyncio
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faulty_server import Action, Asked, answered


def number_of(text: str) -> int:
    """A number that depends on the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def judging(
    verdict: Callable[[str], str | None] = lambda prompt: None,
    finish: Callable[[str], str] = lambda prompt: "stop",
    version: str = "judge-v1",
) -> Action:
    """An action that judges prompts of judges, and answers all others with some words."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        fields = asked.fields
        prompt = fields["messages"][-1]["content"]
        choice: dict[str, Any] = {"finish_reason": finish(prompt)}
        text = verdict(prompt)
        if fields.get("logprobs"):
            share = (1 + number_of(prompt) % 9) / 10
            top = [("A", math.log(1 - share)), ("B", math.log(share)), ("The", -9.0)]
            listed = [{"token": token, "logprob": logprob} for token, logprob in top]
            text = "A"
            choice["logprobs"] = {
                "content": [{"token": "A", "logprob": top[0][1], "top_logprobs": listed}]
            }
        elif text is None and "[[A]]" in prompt:
            text = f"It is shorter.\n[[{'ABC'[number_of(prompt) % 3]}]]"
        elif text is None and "[[5]]" in prompt:
            text = f"It is correct.\nRating: [[{1 + number_of(prompt) % 10}]]"
        elif text is None:
            text = f"Answer {number_of(json.dumps(fields['messages'])) % 1000}"
        choice["message"] = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": len(prompt) // 4 + 1, "completion_tokens": 9}
        model = version if "judge" in fields["model"] else fields["model"]
        body = {"model": model, "choices": [choice], "usage": usage, "system_fingerprint": "fp1"}
        writer.write(answered(body))
        await writer.drain()
        return True

    return answer


def endpoints_file(folder: Path, url: str) -> Path:
    """A student and two judges behind one server."""
    lines = []
    for name in ("student", "judge", "second-judge"):
        lines += [
            f"[endpoints.{name}]",
            f'url = "{url}"',
            f'model = "{name}-chat"',
            "retry_seconds = 0.01",
        ]
    path = folder / "endpoints.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def written(path: Path, rows: object) -> Path:
    """Rows as a JSON or JSONL file, by the ending of its name."""
    if path.suffix == ".jsonl":
        assert isinstance(rows, list)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        path.write_text(json.dumps(rows), encoding="utf-8")
    return path
