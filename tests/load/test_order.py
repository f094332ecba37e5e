"""The order of training is a pure function: a bijection of every epoch, the same as its slow
twin, and fair to all folders of a mixture.
"""

import random
from collections import Counter

import numpy as np
import pytest

from slow_order import permuted
from zephyr_fast import ConfigError
from zephyr_fast.load.order import BLOCK, Mixed, Shuffled, shares
from zephyr_fast.load.permutation import VERSION, permute

SEED = 20231025
PINNED, PINNED_FAR = [7, 5, 8, 9, 6, 1, 0, 4, 2, 3], 137_828_183_130


def test_every_size_is_permuted_onto_itself() -> None:
    chance = random.Random(SEED)
    for size in [
        *range(1, 300),
        1023,
        1024,
        1025,
        65536,
        65537,
        *(chance.randrange(300, 200_000) for _ in range(20)),
    ]:
        landed = permute(np.arange(size), size, str(chance.random()))
        assert np.array_equal(np.sort(landed), np.arange(size)), f"size {size}, seed {SEED}"


def test_the_permutation_is_its_slow_twin_also_for_numbers_of_62_bits() -> None:
    chance = random.Random(SEED)
    for size in [1, 2, 3, 4, 5, 17, 1000, 10**6, 10**9 + 7, 2**62]:
        places = [chance.randrange(size) for _ in range(25)]
        assert permute(np.array(places), size, "a key").tolist() == [
            permuted(place, size, "a key") for place in places
        ]


def test_the_numbers_of_this_version_never_change() -> None:
    """A checkpoint of an older release must go on in the same order, or be refused: new numbers
    need a new VERSION.
    """
    assert VERSION == 1
    assert permute(np.arange(10), 10, "7, epoch 0").tolist() == PINNED
    assert int(permute(np.array([123_456_789]), 10**12, "7, epoch 0")[0]) == PINNED_FAR


def test_keys_give_orders_that_have_nothing_in_common() -> None:
    size, count = 1000, 200
    orders = [permute(np.arange(size), size, f"0, epoch {epoch}") for epoch in range(count)]
    # A place meets each row about as often as chance has it (0.2 times here), and neighbours do not
    # stay neighbours.
    places = Counter((place, int(row)) for order in orders for place, row in enumerate(order[:20]))
    assert max(places.values()) <= 6
    assert np.mean([np.mean(np.diff(order) == 1) for order in orders]) == pytest.approx(
        1 / size, abs=5e-4
    )


def test_all_orders_of_four_rows_come_equally_often() -> None:
    found = Counter(tuple(permute(np.arange(4), 4, str(key)).tolist()) for key in range(4800))
    assert len(found) == 24
    # 200 are expected of each; chi-squared with 23 degrees of freedom is above 50 once in a
    # thousand keys of that kind.
    assert sum((count - 200) ** 2 / 200 for count in found.values()) < 50


def test_a_million_rows_are_asked_for_one_place_without_the_others() -> None:
    whole, few = Shuffled(1_000_000, 3), np.array([999_999, 0, 5_000_000])
    assert whole.rows(few).tolist() == [
        permuted(int(place) % 10**6, 10**6, f"3, epoch {place // 10**6}") for place in few
    ]


def test_each_folder_of_a_mixture_reads_all_its_rows_before_it_repeats_one() -> None:
    sizes, weights = [30, 7, 100], [0.5, 0.2, 0.3]
    rows = Mixed(sizes, weights, 1).rows(np.arange(2 * BLOCK + 12345))
    starts = np.cumsum([0, *sizes])
    for start, end, size in zip(starts[:-1], starts[1:], sizes, strict=True):
        mine = rows[(rows >= start) & (rows < end)] - start
        epochs = mine[: len(mine) // size * size].reshape(-1, size)
        assert np.array_equal(np.sort(epochs, axis=1), np.tile(np.arange(size), (len(epochs), 1)))
        assert len(np.unique(epochs[:40], axis=0)) == 40 or size < 8


def test_a_mixture_holds_its_weights_at_every_place_of_the_stream() -> None:
    sizes, weights = [1000, 50, 300], [0.7, 0.05, 0.25]
    rows = Mixed(sizes, weights, 1).rows(np.arange(3 * BLOCK))
    folders = np.searchsorted(np.cumsum(sizes), rows, side="right")
    for number, weight in enumerate(weights):
        seen = np.cumsum(folders == number)
        assert np.abs(seen - weight * np.arange(1, len(seen) + 1)).max() < 4  # rows


def test_folders_of_one_size_are_not_read_in_step() -> None:
    rows = Mixed([100, 100], [1, 1], 1).rows(np.arange(200))
    assert np.mean(rows[rows < 100] == rows[rows >= 100] - 100) < 0.1


def test_weights_that_do_not_fit_the_folders_are_refused() -> None:
    for weights in ([1.0], [1.0, 0.0], [1.0, -1.0], [1.0, float("nan")], [1.0, float("inf")]):
        with pytest.raises(ConfigError, match="2 weights above 0"):
            shares(weights, 2)
    with pytest.raises(ConfigError, match="remove that dataset"):
        shares([1e9, 1.0], 2)
    assert sum(shares([1, 1, 1], 3)) == BLOCK
