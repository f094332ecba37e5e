"""Errors of calls to language models. Each has its own exit code."""

from zephyr_fast._core import ZephyrError


class BudgetError(ZephyrError):
    """The next call might cost more than the budget has left. A rerun with a higher one resumes."""

    exit_code = 10


class EndpointError(ZephyrError):
    """Calls were left without an answer: an endpoint was switched off, or retries ran out."""

    exit_code = 11
