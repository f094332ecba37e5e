"""Makes sure that all ranks are about to read the same stream, before the first batch: a
difference raises on every one.
"""

from collections.abc import Sequence

from zephyr_fast._core import ConfigError

Facts = dict[str, int | str]


def agree(facts: Facts) -> None:
    """Compares `facts` over all ranks of torch's process group, if there is one; ConfigError on
    all of them if they differ.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return
    gathered: list[Facts] = [{} for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(gathered, facts)
    compare(gathered)


def compare(gathered: Sequence[Facts]) -> None:
    """ConfigError, naming each fact that differs and who says what, unless all ranks say the
    same.
    """
    differences = []
    for name in sorted(set().union(*gathered)):
        said = [str(facts.get(name, "nothing")) for facts in gathered]
        if len(set(said)) > 1:
            ranks = {
                value: ", ".join(str(rank) for rank, other in enumerate(said) if other == value)
                for value in said
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
