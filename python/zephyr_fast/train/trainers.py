"""The trainers of TRL that more than one act builds on, reading shards in our order."""

import trl

from zephyr_fast.train.ordered import OrderedTrainerMixin


class SFTTrainer(OrderedTrainerMixin, trl.SFTTrainer):  # type: ignore[misc]  # TRL is untyped
    """TRL's trainer; rows come in our order."""
