"""Packing: every sample in one window, none too full, and never more windows than TRL's best fit
on the same lengths.
"""

import random

import pytest
from datasets import Dataset
from trl.data_utils import pack_dataset

from zephyr_fast import ConfigError, _core

SEED = 7


def trl_windows(lengths: list[int], seq_len: int) -> int:
    """How many rows TRL's `bfd` makes when it sees all samples at once, and not 1,000 at a time
    as it does by itself.
    """
    dataset = Dataset.from_dict({"input_ids": [[0] * length for length in lengths]})
    return len(pack_dataset(dataset, seq_len, "bfd", map_kwargs={"batch_size": len(lengths)}))


def lengths_like(kind: str, count: int, seq_len: int) -> list[int]:
    draw = random.Random(SEED)
    if kind == "uniform":
        return [draw.randint(1, seq_len) for _ in range(count)]
    if kind == "chat":
        return [min(seq_len, max(8, int(draw.lognormvariate(6.2, 0.8)))) for _ in range(count)]
    if kind == "halves":
        return [seq_len // 2 + draw.choice((-1, 0, 1)) for _ in range(count)]
    return [draw.choice((1, seq_len)) for _ in range(count)]


@pytest.mark.parametrize("kind", ["uniform", "chat", "halves", "extremes"])
def test_there_are_never_more_windows_than_trls(kind: str) -> None:
    lengths = lengths_like(kind, 3000, 2048)
    windows = _core.pack(lengths, 2048)
    assert sorted(sample for window in windows for sample in window) == list(range(len(lengths))), (
        f"seed {SEED}"
    )
    assert all(sum(lengths[sample] for sample in window) <= 2048 for window in windows)
    assert len(windows) <= trl_windows(lengths, 2048)


def test_the_same_lengths_give_the_same_windows() -> None:
    lengths = lengths_like("chat", 2000, 2048)
    assert _core.pack(lengths, 2048) == _core.pack(lengths, 2048)


def test_a_sample_that_fits_no_window_is_refused() -> None:
    for length in (0, 2049):
        with pytest.raises(ConfigError, match=f"a sample of {length} tokens"):
            _core.pack([5, length], 2048)
