"""Bounds of numbers that a user may pass. They are checked before any allocation."""

from zephyr_fast._core import ConfigError
from zephyr_fast.printed import brief

COUNT_MAX = 2**63 - 1
"""Maximum of rows, bytes and other counts, in Python and in the core."""

THREADS_MAX = 4_096
"""Maximum threads: more than any machine has cores, but few enough to start."""


def check_count(name: str, given: int | None, least: int = 0, most: int = COUNT_MAX) -> None:
    """ConfigError unless the value is None or a whole number from `least` to `most`."""
    if given is not None and (
        isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most
    ):
        raise ConfigError(
            f"`{name}` must be a whole number from {least} to {most:,}, not {brief(given)}"
        )
