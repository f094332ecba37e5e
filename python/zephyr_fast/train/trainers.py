"""TRL trainers that several training methods build on, with rows in a reproducible order."""

import trl

from zephyr_fast.train.ordered import OrderedTrainerMixin


class SFTTrainer(OrderedTrainerMixin, trl.SFTTrainer):  # type: ignore[misc]  # TRL is untyped
    """TRL's trainer, with rows in a reproducible order."""
