"""What a test server answers as models and as judges: the same to the same request.

It recognizes the bundled prompts of judges by their last line, and rates by hash. `ignores_form`
lets every so many judgements miss the form, in one of several ways.
"""

import asyncio
import hashlib
import math
import re
from typing import Any

from faulty_server import Action, Asked, answered

WORDS = [
    "lake",
    "tower",
    "garden",
    "old",
    "bright",
    "river",
    "where",
    "nobody",
    "goes",
    "today",
    "stone",
    "apple",
]


def digest_of(*texts: object) -> int:
    """A number that depends on the texts."""
    joined = "\0".join(map(str, texts))
    return int.from_bytes(hashlib.sha256(joined.encode()).digest()[:6], "big")


def answering(delay: float = 0.0, ignores_form: int = 0) -> Action:
    """An action that answers as a model or as a judge."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        if delay:
            await asyncio.sleep(delay * (1 + digest_of(asked.body) % 8))
        writer.write(answered(completion(asked.fields, ignores_form)))
        await writer.drain()
        return True

    return answer


def completion(fields: dict[str, Any], ignores_form: int = 0) -> dict[str, Any]:
    """The fields of an answer."""
    prompt, chance = fields["messages"][-1]["content"], digest_of(fields)
    choice: dict[str, Any] = {"finish_reason": "stop"}
    if fields.get("logprobs"):
        digits = [str(digit) for digit in range(10)] if "0 (worst)" in prompt else list("12345")
        likely = digits[chance % len(digits)]
        top = [
            {"token": digit, "logprob": math.log(0.6 if digit == likely else 0.02)}
            for digit in digits
        ]
        text = likely
        choice["logprobs"] = {
            "content": [{"token": likely, "logprob": math.log(0.6), "top_logprobs": top}]
        }
    elif "### Answer 1" in prompt:
        text = ratings(prompt, chance)
    elif "Overall Score:" in prompt:
        text = f"Clear, but short.\n\nOverall Score: {1 + chance % 10}"
    else:
        text = " ".join(WORDS[chance // 7**n % len(WORDS)] for n in range(5 + chance % 20))
    if ignores_form and re.search("Rating:|Overall Score:", prompt) and chance % ignores_form == 0:
        kind = chance // ignores_form
        text = ["I cannot rate this.", "Overall Score: 5\nOverall Score: 2"][kind % 2]
        text += "\n### Answer 9\nRating: 3" * (kind // 2 % 2)
    choice["message"] = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": len(prompt) // 4 + 1, "completion_tokens": len(text.split())}
    return {"model": fields["model"], "choices": [choice], "usage": usage}


def ratings(prompt: str, chance: int) -> str:
    """One section for each answer in the prompt; its rating depends on its text."""
    found = re.findall(r'<answer number="(\d+)">\n(.*?)\n</answer>', prompt, re.DOTALL)
    return "\n\n".join(
        f"### Answer {number}\nRationale: 3 claims, 2 of them good\n"
        f"Rating: {1 + digest_of(text, prompt[:400]) % 5}"
        for number, text in found
    )
