"""What a `finish_reason` says about a text. Servers differ in their words and in upper case.

>>> is_cut("MAX_TOKENS"), is_broken("abort"), is_cut("stop")
(True, True, False)
"""

_CUT = frozenset(
    {
        "error_limit",
        "length",
        "max_length",
        "max_output_tokens",
        "max_tokens",
        "max_tokens_reached",
        "model_context_window_exceeded",
        "model_length",
        "token_limit",
    }
)
_BROKEN = frozenset(
    {
        "abort",
        "aborted",
        "canceled",
        "cancelled",
        "error",
        "insufficient_system_resource",
        "incomplete",
        "load",  # a server that had only loaded the model
        "malformed_function_call",
        "network_error",
        "pause_turn",
        "timeout",
        "unload",
        "user_cancel",
    }
)
_REFUSED = frozenset(
    {
        "blocklist",
        "content_filter",
        "content_filtered",
        "error_toxic",
        "guardrail_intervened",
        "image_safety",
        "model_armor",
        "prohibited_content",
        "recitation",
        "refusal",
        "safety",
        "sensitive",
        "spii",
    }
)
_TOOL = frozenset({"function_call", "tool_call", "tool_calls", "tool_use", "unexpected_tool_call"})


def is_cut(finish: str | None) -> bool:
    """Whether the text reached a maximum number of tokens."""
    return _word(finish) in _CUT


def is_broken(finish: str | None) -> bool:
    """Whether the server gave up, so that the text is incomplete. Another attempt may succeed."""
    return _word(finish) in _BROKEN


def is_refused(finish: str | None) -> bool:
    """Whether a filter stopped the text."""
    return _word(finish) in _REFUSED


def is_tool_call(finish: str | None) -> bool:
    """Whether the model stopped to call a tool. No call offers one."""
    return _word(finish) in _TOOL


def _word(finish: str | None) -> str:
    return (finish or "").lower()
