"""Turns the bytes of a reply into an answer or a failure. No network, no clock.

A server that ignores part of a request still answers with status 200. The reply is therefore
checked against the request: the number of choices, a text in each, and log-probs if requested.
"""

import json
import math
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from zephyr_fast.endpoint import finish
from zephyr_fast.endpoint.call import (
    Answer,
    Call,
    Choice,
    Failure,
    Outcome,
    Request,
    TokenLogprob,
    Usage,
)
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.reasoning import concluded
from zephyr_fast.endpoint.reasons import Reason
from zephyr_fast.untrusted.bounded import is_unicode, parse_json

DETAIL_CHARACTERS_MAX = 2_000
"""Characters of a server's text that are kept in a failure."""

_RETRIED_STATUSES = frozenset({408, 409, 425, 429})
_BILLED_STATUSES = frozenset({408, 500, 502, 504, 524})
"""With these statuses, a server may have processed the request, or a proxy stopped waiting for it.
"""

_QUOTA = re.compile(
    r"insufficient_quota|billing_hard_limit|billing_not_active|credit balance", re.I
)
_TOO_LONG = re.compile(
    r"context_length_exceeded|context length|context window|maximum context|too many tokens"
    r"|prompt is too long|string_above_max_length",
    re.I,
)
_REFUSED = re.compile(
    r"content_filter|content_policy|content management policy|ResponsibleAI", re.I
)


_TOKENS_MAX = 100_000_000
"""More tokens than any model reads or writes at once. A larger count is not one of tokens."""

_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and symbols that show nothing

_LOGPROB_MAX, _MASS_MAX = 0.01, 1.05


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP reply. `retry_after`: seconds that the server asked to wait."""

    status: int
    body: bytes
    retry_after: float | None = None


class _Unusable(Exception):
    """Raised for a reply that is not a usable answer, with the reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason, self.detail = reason, detail


def read(request: Request, endpoint: Endpoint, reply: Reply) -> Outcome:
    """Return the answer in a reply, or the failure."""
    outcome = _outcome(request.call, endpoint, reply)
    return _without_key(outcome, endpoint)


def _outcome(call: Call, endpoint: Endpoint, reply: Reply) -> Outcome:
    if reply.status != 200:
        return _refusal(endpoint, reply)
    usage: Usage | None = None
    try:
        content = _parsed(endpoint, reply.body)
        usage = _usage(content.get("usage"))
        if content.get("error") or content.get("object") == "error":
            return _error_in_200(endpoint, reply, content)
        return _answer(call, endpoint, content, usage)
    except _Unusable as unusable:
        return Failure(unusable.reason, unusable.detail, 200, usage, may_be_billed=True)


def _parsed(endpoint: Endpoint, body: bytes) -> dict[str, Any]:
    try:
        text = body.decode("utf-8-sig")
        content = parse_json(text, parse_constant=_no_number)
    except ValueError as error:
        excerpt = endpoint.without_key(body.decode(errors="backslashreplace"))[:200]
        raise _Unusable(Reason.INVALID_JSON, f"{error}: {excerpt}") from None
    if not isinstance(content, dict):
        raise _Unusable(Reason.INVALID_JSON, "the reply is not a JSON object")
    return content


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is not JSON")


def _answer(call: Call, endpoint: Endpoint, content: dict[str, Any], usage: Usage | None) -> Answer:
    given = content.get("choices")
    if not isinstance(given, list) or not given:
        excerpt = endpoint.without_key(json.dumps(content, ensure_ascii=False))[:200]
        raise _Unusable(Reason.NO_CHOICES, f"the reply has no choices: {excerpt}")
    if len(given) != call.n:
        detail = f"requested {call.n} choices, received {len(given)}"
        raise _Unusable(Reason.UNSUPPORTED_N, detail)
    model = _text_or_none(content.get("model"))
    if endpoint.strict_model and model != endpoint.model:
        raise _Unusable(Reason.WRONG_MODEL, f"requested {endpoint.model}, received {model}")
    choices = tuple(_choice(call, choice, usage) for choice in given)
    if usage is not None and not usage.output_tokens:
        usage = None  # a text has tokens, so the count is wrong
    return Answer(choices, model, _text_or_none(content.get("system_fingerprint")), usage)


def _choice(call: Call, given: object, usage: Usage | None) -> Choice:
    if isinstance(given, dict) and given.get("error"):  # of a provider behind a router
        raise _Unusable(Reason.SERVER_ERROR, f"a choice has an error: {given['error']}")
    if not isinstance(given, dict) or not isinstance(given.get("message"), dict):
        raise _Unusable(Reason.INVALID_JSON, "a choice has no message")
    message = given["message"]
    ended = _ended(call, given.get("finish_reason"), usage)
    text = message.get("content")
    if finish.is_refused(ended) or message.get("refusal"):
        raise _Unusable(Reason.REFUSED, str(message.get("refusal") or text or ended))
    if finish.is_broken(ended):
        raise _Unusable(Reason.SERVER_ERROR, f"the server gave up (finish_reason: {ended})")
    calls = message.get("tool_calls") or message.get("function_call")
    if finish.is_tool_call(ended) or calls:
        raise _Unusable(Reason.TOOL_CALL, "the model called a tool, and no tool was offered")
    if text is None or text == "" or _is_blank(call, text):
        has_reasoning = message.get("reasoning_content") or message.get("reasoning")
        what = "only reasoning" if has_reasoning or _is_visible(text) else "no text"
        raise _Unusable(Reason.EMPTY, f"a choice has {what} (finish_reason: {ended})")
    if not isinstance(text, str):
        raise _Unusable(Reason.INVALID_JSON, "a choice's content is not a text")
    if not is_unicode(text):
        escaped = text.encode("unicode_escape").decode()
        raise _Unusable(Reason.INVALID_UNICODE, f"a lone surrogate in: {escaped}")
    if call.json_object and not finish.is_cut(ended) and not _is_json_object(text):
        raise _Unusable(Reason.NOT_JSON, text)
    return Choice(text, ended, _logprobs(given) if call.top_logprobs else None)


def _ended(call: Call, given: object, usage: Usage | None) -> str | None:
    """Return the reason why a text ended. For a server without such a reason, its usage shows
    whether the text was cut.
    """
    if isinstance(given, dict):  # `{"type": "length", "length": 256}`
        given = given.get("type")
    if isinstance(given, str):
        return _text_or_none(given)
    used_all = usage is not None and usage.output_tokens >= call.max_tokens
    return "length" if used_all and call.n == 1 else None


def _is_blank(call: Call, text: object) -> bool:
    """Whether a text has nothing to see after its reasoning. With log-probs, a space can be the one
    token to read.
    """
    return isinstance(text, str) and not call.top_logprobs and not _is_visible(concluded(text))


def _is_visible(text: object) -> bool:
    """Whether a text has more than spaces, controls and marks without a width."""
    return isinstance(text, str) and any(
        unicodedata.category(char) not in _INVISIBLE and char not in _BLANKS for char in text
    )


def _logprobs(given: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    held = given.get("logprobs")
    tokens = held.get("content") if isinstance(held, dict) else None
    if not isinstance(tokens, list) or not tokens:
        raise _Unusable(Reason.UNSUPPORTED_LOGPROBS, "requested log-probs, received none")
    found = tuple(_token(token) for token in tokens)
    for token in found:
        _check_logprobs(token)
    return found


def _check_logprobs(token: TokenLogprob) -> None:
    """Raise _Unusable for numbers that are not logarithms of probabilities, such as raw scores, or
    a 0 for each token. Rounded ones may add up to a little more than 1.
    """
    values = ({token.token: token.logprob} | dict(token.top)).values()
    mass = sum(math.exp(min(value, _LOGPROB_MAX)) for value in values)
    if max(values) > _LOGPROB_MAX or mass > _MASS_MAX:
        detail = f"the log-probs of {json.dumps(token.token)} are not those of probabilities"
        raise _Unusable(Reason.UNSUPPORTED_LOGPROBS, f"{detail} (their sum is {mass:.3f})")


def _token(given: object) -> TokenLogprob:
    try:
        token, logprob = _scored(given)
        top = given.get("top_logprobs") if isinstance(given, dict) else None
        if not isinstance(top, list) or not top:
            raise ValueError
        return TokenLogprob(token, logprob, tuple(_scored(other) for other in top))
    except (ValueError, OverflowError):  # an integer can be too large for a float
        raise _Unusable(Reason.UNSUPPORTED_LOGPROBS, "a token has no log-probs") from None


def _scored(given: object) -> tuple[str, float]:
    if not isinstance(given, dict):
        raise ValueError
    token, logprob = given.get("token"), given.get("logprob")
    if not isinstance(token, str) or isinstance(logprob, bool):
        raise ValueError
    if not isinstance(logprob, int | float) or not math.isfinite(logprob):
        raise ValueError
    return token, float(logprob)


def _usage(given: object) -> Usage | None:
    """Return the server's token counts, or None if they are impossible, since every prompt has a
    token. Tokens that only the total includes, such as hidden reasoning, count as output.
    """
    if not isinstance(given, dict):
        return None
    prompt, completion = _count(given, "prompt_tokens"), _count(given, "completion_tokens")
    if not prompt or completion is None:
        return None
    total = _count(given, "total_tokens") or 0
    return Usage(prompt, max(completion, total - prompt))


def _count(given: dict[str, Any], name: str) -> int | None:
    count = given.get(name)
    return count if type(count) is int and 0 <= count <= _TOKENS_MAX else None


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(parse_json(text, parse_constant=_no_number), dict)
    except ValueError:
        return False


def _text_or_none(value: object) -> str | None:
    """Return a short text, such as a model's name. A long one is dropped, not truncated, because it
    could then end in half a key.
    """
    if not isinstance(value, str):
        return None
    if not is_unicode(value):  # it could not be written into a row
        value = value.encode("unicode_escape").decode()
    return value if len(value) <= 200 else f"({len(value):,} characters)"


def _error_in_200(endpoint: Endpoint, reply: Reply, content: dict[str, Any]) -> Failure:
    """Return the failure for an error with status 200. The body often contains the correct status.
    It may be billed like an answer.
    """
    error = content.get("error")
    code = error.get("code") if isinstance(error, dict) else content.get("code")
    status = code if type(code) is int and 400 <= code < 600 else 500
    refusal = _refusal(endpoint, Reply(status, reply.body, reply.retry_after))
    return replace(refusal, may_be_billed=True)


def _refusal(endpoint: Endpoint, reply: Reply) -> Failure:
    content = _object_or_empty(reply.body)
    code, detail = _complaint(endpoint, reply.body, content)
    said = f"{code} {detail}"
    status = reply.status
    if status == 402 or (status in (429, 403) and _QUOTA.search(said)):
        reason = Reason.QUOTA
    elif status in (401, 403):
        reason = Reason.AUTH
    elif status == 404:
        reason = Reason.NOT_FOUND
    elif status == 429:
        reason = Reason.RATE_LIMITED
    elif status in _RETRIED_STATUSES or status >= 500:
        reason = Reason.SERVER_ERROR
    elif 300 <= status < 400:
        reason = Reason.REDIRECTED
    elif status < 300:
        reason = Reason.BAD_RESPONSE
    elif status == 413 or _TOO_LONG.search(said):
        reason = Reason.TOO_LONG
    elif _REFUSED.search(said):
        reason = Reason.REFUSED
    else:
        reason = Reason.BAD_REQUEST
    billed = status in _BILLED_STATUSES or reason is Reason.REFUSED
    usage = _usage(content.get("usage"))
    return Failure(reason, detail, status, usage, billed, reply.retry_after)


def _object_or_empty(body: bytes) -> dict[str, Any]:
    try:
        content = parse_json(body.decode())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _complaint(endpoint: Endpoint, body: bytes, content: dict[str, Any]) -> tuple[str, str]:
    """Return code and text of an error in a common form, or else the start of the body."""
    start = endpoint.without_key(body.decode(errors="backslashreplace"))[:DETAIL_CHARACTERS_MAX]
    error = content.get("error", content)
    if not isinstance(error, dict):
        return "", str(error)
    code = f"{error.get('code', '')} {error.get('type', '')}"
    text = error.get("message") or error.get("detail")
    return code, str(text) if text else start


def _without_key(outcome: Outcome, endpoint: Endpoint) -> Outcome:
    """Return the outcome if the reply does not contain the API key. A key in an answer makes the
    answer a failure. It is not removed, because answers are never changed.
    """
    if isinstance(outcome, Failure):
        detail = endpoint.without_key(outcome.detail)
        if len(detail) > DETAIL_CHARACTERS_MAX:
            detail = detail[:DETAIL_CHARACTERS_MAX] + " …"
        return Failure(
            outcome.reason,
            detail,
            outcome.status,
            outcome.usage,
            outcome.may_be_billed,
            outcome.retry_after,
        )
    if endpoint.key is None:
        return outcome
    texts = [outcome.model or "", outcome.fingerprint or ""]
    for choice in outcome.choices:
        texts += [choice.text, choice.finish or ""]
        tokens = choice.logprobs or ()
        texts.append("".join(token.token for token in tokens))
        texts += [other for token in tokens for other, _ in token.top]
    if any(endpoint.without_key(text) != text for text in texts):
        detail = "the reply holds the API key"
        return Failure(Reason.KEY_ECHOED, detail, 200, outcome.usage, may_be_billed=True)
    return outcome
