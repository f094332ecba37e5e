"""Bounds of the numbers that a user may give: what no machine has is refused before anything is
sized by it.
"""

from zephyr_fast._core import ConfigError
from zephyr_fast.printed import brief

COUNT_MAX = 2**63 - 1
"""Rows, bytes and other counts, here and in the engine."""

THREADS_MAX = 4_096
"""Threads: more than any machine has cores, fewer than a system refuses to start."""


def check_count(name: str, given: int | None, least: int = 0, most: int = COUNT_MAX) -> None:
    """ConfigError for what is not a whole number from `least` to `most`; None is no limit."""
    if given is not None and (
        isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most
    ):
        raise ConfigError(
            f"`{name}` must be a whole number from {least} to {most:,}, not {brief(given)}"
        )
