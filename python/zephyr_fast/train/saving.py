"""Trainer mixin that saves models which are ready to generate, in checkpoints and at the end."""

from typing import Any


class SavingMixin:
    """Mixin to put before a subclass of transformers' `Trainer`."""

    accelerator: Any
    model: Any

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """Save the model, with its KV cache switched on.

        In training it is off: a cache would break the isolation of packed documents.

        Raises:
            DivergedError: If weights are NaN or infinite.
        """
        self.check_weights()  # type: ignore[attr-defined]  # of DivergenceMixin
        config = self.accelerator.unwrap_model(self.model).config
        before, config.use_cache = config.use_cache, True
        try:
            super().save_model(*args, **kwargs)  # type: ignore[misc]
        finally:
            config.use_cache = before
