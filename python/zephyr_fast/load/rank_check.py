"""Check that all ranks will read the same stream, before the first batch.

A difference raises on every rank.
"""

from collections.abc import Sequence

from zephyr_fast._core import ConfigError

RankState = dict[str, int | str]


def check_ranks(state: RankState) -> None:
    """Compare `state` over all ranks of torch's process group, if there is one.

    Raises:
        ConfigError: On all ranks, if the states differ.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return
    gathered: list[RankState] = [{} for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(gathered, state)
    compare(gathered)


def compare(gathered: Sequence[RankState]) -> None:
    """Raise ConfigError, with each difference and its ranks, unless all states are equal."""
    differences = []
    for name in sorted(set().union(*gathered)):
        values = [str(state.get(name, "unset")) for state in gathered]
        if len(set(values)) > 1:
            ranks = {
                value: ", ".join(str(rank) for rank, other in enumerate(values) if other == value)
                for value in values
            }
            differences.append(
                f"`{name}` is "
                + ", ".join(f"{value} on rank {who}" for value, who in ranks.items())
            )
    if differences:
        raise ConfigError(
            f"the ranks disagree on the data to read: {'; '.join(differences)}; start "
            "all ranks with the same data and arguments"
        )
