"""The reasons why a call can fail, and the consequence of each.

There are four consequences. A *retried* reason is retried until the call runs out of attempts or
time. A *final* reason would occur again, so a rerun takes it from the log. An *off* reason would
affect every other call to the endpoint, so it switches the endpoint off. Other reasons leave the
call open, so a rerun sends it again.
"""

from enum import StrEnum


class Reason(StrEnum):
    """The reason why a call has no answer."""

    # Retried.
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    UNREACHABLE = "unreachable"
    BAD_RESPONSE = "bad_response"
    INVALID_JSON = "invalid_json"
    NO_CHOICES = "no_choices"
    # Final.
    REFUSED = "refused"
    TOO_LONG = "too_long"
    EMPTY = "empty"
    TOOL_CALL = "tool_call"
    NOT_JSON = "not_json"
    INVALID_UNICODE = "invalid_unicode"
    # These switch the endpoint off.
    AUTH = "auth"
    QUOTA = "quota"
    NOT_FOUND = "not_found"
    TLS = "tls"
    UNSUPPORTED_N = "unsupported_n"
    UNSUPPORTED_LOGPROBS = "unsupported_logprobs"
    WRONG_MODEL = "wrong_model"
    # Left open.
    BAD_REQUEST = "bad_request"
    REDIRECTED = "redirected"
    TOO_LARGE = "too_large"
    KEY_ECHOED = "key_echoed"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_retried(self) -> bool:
        """Whether another attempt may get an answer."""
        return self in _RETRIED

    @property
    def is_final(self) -> bool:
        """Whether a rerun would fail in the same way, so that it does not send the call again."""
        return self in _FINAL

    @property
    def switches_off(self) -> bool:
        """Whether every other call to the endpoint would fail in the same way."""
        return self in _OFF


_RETRIED = frozenset(
    {
        Reason.RATE_LIMITED,
        Reason.SERVER_ERROR,
        Reason.TIMEOUT,
        Reason.DISCONNECTED,
        Reason.UNREACHABLE,
        Reason.BAD_RESPONSE,
        Reason.INVALID_JSON,
        Reason.NO_CHOICES,
    }
)
_FINAL = frozenset(
    {
        Reason.REFUSED,
        Reason.TOO_LONG,
        Reason.EMPTY,
        Reason.TOOL_CALL,
        Reason.NOT_JSON,
        Reason.INVALID_UNICODE,
    }
)
_OFF = frozenset(
    {
        Reason.AUTH,
        Reason.QUOTA,
        Reason.NOT_FOUND,
        Reason.TLS,
        Reason.UNSUPPORTED_N,
        Reason.UNSUPPORTED_LOGPROBS,
        Reason.WRONG_MODEL,
    }
)
