"""Errors of evaluations that have an exit code of their own."""

from zephyr_fast._core import ZephyrError


class HolesError(ZephyrError):
    """An evaluation has answers or judgements without a usable score, so it has no mean."""

    exit_code = 3
