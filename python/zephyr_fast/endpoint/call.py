"""Calls, their outcomes, and the permanent key that identifies a call."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.endpoint import finish
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.reasons import Reason


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a prompt."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Call:
    """One question to one endpoint. Fields that are None are left to the server.

    `max_tokens` is required, because the cost must have an upper bound. `top_logprobs` above 0
    requests the log-probs of that many tokens at each position. `sample` distinguishes calls that
    ask the same thing repeatedly.
    """

    endpoint: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    top_logprobs: int = 0
    json_object: bool = False
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that the server counted."""

    input_tokens: int
    output_tokens: int

    @property
    def tokens(self) -> int:
        """Return input and output tokens together, as budgets and limits count them."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of an answer with its log-prob, and the most likely tokens at its position."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One text of an answer. `finish` is the server's reason for its end, such as `stop`."""

    text: str
    finish: str | None
    logprobs: tuple[TokenLogprob, ...] | None = None

    @property
    def is_cut(self) -> bool:
        """Whether the text ends because it reached the maximum number of tokens."""
        return finish.is_cut(self.finish)


@dataclass(frozen=True, slots=True)
class Answer:
    """As many choices as requested. None of them is empty."""

    choices: tuple[Choice, ...]
    model: str | None
    fingerprint: str | None
    usage: Usage | None

    @property
    def text(self) -> str:
        """Return the text of the first choice."""
        return self.choices[0].text


@dataclass(frozen=True, slots=True)
class Failure:
    """The outcome of a call without an answer. `detail` is the text of the server or of the error,
    without keys.

    `may_be_billed`: The server may have processed the call and charged an unknown amount for it.
    `retry_after`: Seconds to wait before a retry, as requested by the server.
    """

    reason: Reason
    detail: str = ""
    status: int | None = None
    usage: Usage | None = None
    may_be_billed: bool = False
    retry_after: float | None = field(default=None, compare=False)


Outcome = Answer | Failure


@dataclass(frozen=True, slots=True)
class Request:
    """A call ready to be sent: its body, its key, and its maximum number of tokens."""

    call: Call
    body: bytes
    key: str
    input_tokens_max: int

    @property
    def output_tokens_max(self) -> int:
        """Return the maximum number of tokens that the server may write."""
        return self.call.max_tokens * self.call.n

    @property
    def tokens_max(self) -> int:
        """Return the maximum number of tokens of the call, input and output."""
        return self.input_tokens_max + self.output_tokens_max


_TOKENS_PER_MESSAGE = 16  # Added by a chat template per message: 4 to 11 in known templates.


def request_of(call: Call, endpoint: Endpoint) -> Request:
    """Return the request of a call. InputError for a call that cannot be sent.

    The key is the SHA-256 of the body, the endpoint's name and the sample's number. The body is
    canonical JSON, so equal calls have equal keys. The name is included because servers of
    different models often call them all `default`.
    """
    if call.max_tokens < 1 or call.n < 1 or call.top_logprobs < 0 or not call.messages:
        raise InputError("a call needs messages, `max_tokens` and `n` of at least 1")
    try:
        body = canonical(_fields(call, endpoint))
    except (UnicodeEncodeError, ValueError) as error:
        raise InputError(f"a call cannot be written as JSON: {error}") from error
    named = b"\n".join((body, endpoint.name.encode(), str(call.sample).encode()))
    # A byte-level tokenizer produces at most one token per byte, so this is an upper bound.
    bound = sum(
        len(message.content.encode()) + len(message.role) + _TOKENS_PER_MESSAGE
        for message in call.messages
    )
    return Request(call, body, hashlib.sha256(named).hexdigest(), bound)


_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical(value: object) -> bytes:
    """Return JSON with sorted keys and no spaces, in UTF-8."""
    return _CANONICAL.encode(value).encode()


def _fields(call: Call, endpoint: Endpoint) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "model": endpoint.model,
        "messages": [
            {"role": message.role, "content": message.content} for message in call.messages
        ],
        endpoint.max_tokens_field: call.max_tokens,
    }
    optional = {"temperature": call.temperature, "top_p": call.top_p, "seed": call.seed}
    fields.update({name: value for name, value in optional.items() if value is not None})
    if call.stop:
        fields["stop"] = list(call.stop)
    if call.n > 1:
        fields["n"] = call.n
    if call.top_logprobs:
        fields |= {"logprobs": True, "top_logprobs": call.top_logprobs}
    if call.json_object:
        fields["response_format"] = {"type": "json_object"}
    if clash := sorted(fields.keys() & endpoint.body.keys()):
        raise InputError(
            f"endpoint `{endpoint.name}`: `body` may not set `{clash[0]}`, which each call sets"
        )
    return {**fields, **endpoint.body}
