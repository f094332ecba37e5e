"""Errors of training with their own exit code."""

from zephyr_fast._core import ZephyrError


class DivergedError(ZephyrError):
    """The loss, gradient or weights of a run are NaN or infinite; they were not saved."""

    exit_code = 12


REMEDIES = {
    DivergedError: "Lower `learning_rate`, or look at the rows that the message names.",
}
"""What to do about each error, for the reference."""
