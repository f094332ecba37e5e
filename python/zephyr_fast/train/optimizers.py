"""Trainer mixin that names the option if an optimizer or learning-rate schedule cannot be built."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zephyr_fast._core import ConfigError


class OptimizerMixin:
    """Mixin to put before a subclass of transformers' `Trainer`."""

    args: Any

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Return the optimizer, or raise ConfigError for arguments that it does not accept."""
        with _named(f"`optim: {_name(self.args.optim)}`", "optim_args"):
            return super().create_optimizer(*args, **kwargs)  # type: ignore[misc]

    def create_scheduler(self, *args: Any, **kwargs: Any) -> Any:
        """Return the schedule, or raise ConfigError for arguments that it does not accept."""
        schedule = f"`lr_scheduler_type: {_name(self.args.lr_scheduler_type)}`"
        with _named(schedule, "lr_scheduler_kwargs"):
            return super().create_scheduler(*args, **kwargs)  # type: ignore[misc]


def _name(value: Any) -> str:
    return str(getattr(value, "value", value))


@contextmanager
def _named(what: str, option: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ConfigError(f"cannot build {what}: {text}; see `{option}`") from error
