"""Check the step intervals of a training config, before transformers replaces them.

It evaluates every `logging_steps` if `eval_steps` is 0, takes negative intervals as positive ones,
and ignores `save_steps: 100` with `save_strategy: epoch`.
"""

from collections.abc import Set
from typing import Any

from zephyr_fast._core import ConfigError
from zephyr_fast.printed import brief
from zephyr_fast.train.ranges import WHOLE_MAX

ACTIONS = {"eval": "evaluate", "save": "save", "logging": "log"}
"""The actions of a run that have a strategy and an interval, and their verbs."""


def check_intervals(given: Any, chosen: Set[str], where: str) -> None:
    """Raise ConfigError for an interval of 0 steps or fewer, or for one that has no effect.

    An interval next to an explicit strategy `no` is allowed, since it is switched off on purpose.

    Args:
        given: The arguments of the user, not as TRL's config completes them.
        chosen: The keys that the user set.
        where: The config file and a colon, or nothing.
    """
    for action, verb in ACTIONS.items():
        key, strategy_key = f"{action}_steps", f"{action}_strategy"
        steps, strategy = getattr(given, key), getattr(given, strategy_key)
        strategy = str(getattr(strategy, "value", strategy))
        if key not in chosen or steps is None or (strategy == "no" and strategy_key in chosen):
            continue
        if strategy != "steps":
            raise ConfigError(
                f"{where}`{key}` has no effect without `{strategy_key}: steps`; it is `{strategy}`"
            )
        if not 0 < float(steps) <= WHOLE_MAX:  # also if it is NaN
            raise ConfigError(
                f"{where}`{key}` must be above 0 and finite, not {brief(steps)}; to never {verb}, "
                f"set `{strategy_key}: no`"
            )
