"""Formats lines of the call log. A scan reads only the head of a line, and a replay also its body.

{"sent":KEY,"attempt":1,"endpoint":NAME,"nanousd":RESERVED,"tokens":RESERVED}
{"answer":KEY,"attempt":1,"endpoint":NAME,"nanousd":COST,"tokens":USED,"choices":…}
{"failure":KEY,"attempt":1,"endpoint":NAME,"nanousd":COST,"tokens":USED,"final":false,"reason":…}
"""

import json
import re
from binascii import unhexlify
from typing import Any, NamedTuple

from zephyr_fast.endpoint.budget import Cost
from zephyr_fast.endpoint.call import Answer, Choice, Failure, Outcome, TokenLogprob, Usage
from zephyr_fast.endpoint.reasons import Reason

_HEAD = re.compile(
    rb'\{"(sent|answer|failure)":"([0-9a-f]{64})","attempt":(\d{1,9}),'
    rb'"endpoint":"[A-Za-z0-9._-]{1,64}","nanousd":(\d{1,30}),"tokens":(\d{1,30})'
    rb'(?:,"batch":"([^"\\]*)")?(,"final":true)?'
)
_CLOSING = ord("}")


class Head(NamedTuple):
    """The fields of a line's head that a scan uses. `key` is its bytes, and `batch` the name of the
    file that a call was exported to.
    """

    is_sent: bool
    key: bytes
    attempt: int
    nanousd: int
    tokens: int
    batch: str | None
    is_final: bool


def head_of(block: bytes, start: int, end: int) -> Head | None:
    """Return the head of the line in `block[start:end]`, or None if it is not a line of a log.

    The line is not copied, since a scan reads hundreds of thousands.
    """
    found = _HEAD.match(block, start, end)
    if found is None or block[end - 1] != _CLOSING:
        return None
    if block.startswith(b',"batch":', found.end(), end):  # a name that the head does not support
        return None
    kind, key, attempt, nanousd, tokens, batch, final = found.groups()
    try:
        name = batch.decode() if batch is not None else None
    except UnicodeDecodeError:
        return None
    return Head(
        kind == b"sent",
        unhexlify(key),
        int(attempt),
        int(nanousd),
        int(tokens),
        name,
        kind == b"answer" or final is not None,
    )


def sent(key: str, attempt: int, endpoint: str, reserved: Cost, batch: str | None) -> bytes:
    """Return the line of a call that is about to be sent."""
    fields = _head("sent", key, attempt, endpoint, reserved)
    return _line(fields if batch is None else fields | {"batch": batch})


def ended(
    key: str, attempt: int, endpoint: str, cost: Cost, outcome: Outcome, *, is_final: bool
) -> bytes:
    """Return the line of a call that has ended."""
    usage = outcome.usage and [outcome.usage.input_tokens, outcome.usage.output_tokens]
    if isinstance(outcome, Answer):
        return _line(
            _head("answer", key, attempt, endpoint, cost)
            | {
                "choices": [_choice_fields(choice) for choice in outcome.choices],
                "model": outcome.model,
                "fingerprint": outcome.fingerprint,
                "usage": usage,
            }
        )
    return _line(
        _head("failure", key, attempt, endpoint, cost)
        | {
            "final": is_final,
            "reason": outcome.reason.value,
            "status": outcome.status,
            "detail": outcome.detail,
            "usage": usage,
        }
    )


def outcome_of(line: bytes) -> Outcome:
    """Return the outcome in a line of an answer or a failure. ValueError if there is none."""
    try:
        fields = json.loads(line)
        usage = Usage(*fields["usage"]) if fields["usage"] is not None else None
        if "answer" in fields:
            choices = tuple(_choice_of(given) for given in fields["choices"])
            return Answer(choices, fields["model"], fields["fingerprint"], usage)
        return Failure(Reason(fields["reason"]), fields["detail"], fields["status"], usage)
    except (KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _head(kind: str, key: str, attempt: int, endpoint: str, cost: Cost) -> dict[str, Any]:
    return {
        kind: key,
        "attempt": attempt,
        "endpoint": endpoint,
        "nanousd": cost.nanousd or 0,
        "tokens": cost.tokens or 0,
    }


def _choice_fields(choice: Choice) -> dict[str, Any]:
    fields: dict[str, Any] = {"text": choice.text, "finish": choice.finish}
    if choice.logprobs is not None:
        fields["logprobs"] = [
            [token.token, token.logprob, [list(other) for other in token.top]]
            for token in choice.logprobs
        ]
    return fields


def _choice_of(fields: dict[str, Any]) -> Choice:
    logprobs = fields.get("logprobs")
    if logprobs is not None:
        logprobs = tuple(
            TokenLogprob(token, logprob, tuple((other, value) for other, value in top))
            for token, logprob, top in logprobs
        )
    return Choice(fields["text"], fields["finish"], logprobs)


_PLAIN = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def _line(fields: dict[str, Any]) -> bytes:
    try:
        return _PLAIN.encode(fields).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, in a failure's detail or a token
        return json.dumps(fields, separators=(",", ":")).encode() + b"\n"
