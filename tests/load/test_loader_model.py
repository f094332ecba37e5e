"""Any number of ranks, workers, device batches and kills: training gets the rows of the
uninterrupted run, once each, in its order.

Index level: real batch samplers and loaders, but rows are their own numbers and workers are a
queue in this process. `ZEPHYR_FAST_LONG=1` runs ten times as many cases; `ZEPHYR_FAST_SEED=n`
replays the cases of a printed seed.
"""

import os
import random
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import pytest

import slow_order
from zephyr_fast import ConfigError, IntegrityError
from zephyr_fast.load.loader import Batches, Loader, Part, Workers
from zephyr_fast.load.order import Shuffled
from zephyr_fast.load.stream import PADDING, LoaderState, Remainder, Stream

SEED = int(os.environ.get("ZEPHYR_FAST_SEED", random.randrange(10**6)))
CASES = 100_000 if os.environ.get("ZEPHYR_FAST_LONG") else 10_000
slow_order.epoch_of = cache(slow_order.epoch_of)


class Numbers:
    """Rows that are their own numbers."""

    def samples(self, rows: Sequence[int]) -> list[Any]:
        return list(rows)


class Queued(Loader):
    """The loader, with torch's workers replaced by a queue that fetches as far ahead as they
    would.
    """

    def _torch_loader(self, batches: Batches) -> Iterator[Any]:  # type: ignore[override]
        return self._queue(batches)

    def _plain_loader(self, batches: Batches) -> Iterator[Any]:
        return self._queue(batches)

    def _queue(self, batches: Batches) -> Iterator[Any]:
        queue: deque[list[int]] = deque()
        for rows in batches:
            queue.append(rows)
            self.prefetched()
            if len(queue) > 2 * self.workers.count:
                yield queue.popleft()
        yield from queue

    def prefetched(self) -> None:
        """A batch went into the queue."""


class CountsPrefetched(Queued):
    """Sabotage: what is in the queue counts as delivered."""

    ahead = 0

    def prefetched(self) -> None:
        self.ahead += 1

    def state(self) -> LoaderState:
        return self.state_after(self.batches.done + self.ahead // self.batches.part.micro_batches)


class ForgetsRank(Part):
    """Sabotage: every rank reads the first rank's part."""

    def offsets(self) -> Any:
        return Part(0, self.world_size, self.device_batch, self.micro_batches).offsets()


@dataclass(frozen=True)
class Layout:
    """The machines of one attempt."""

    world: int
    device_batch: int
    micro: int
    workers: int


@dataclass(frozen=True)
class Case:
    """A run over `epochs`, broken off after so many micro batches of each attempt, which has
    machines of its own.
    """

    size: int
    seed: int
    remainder: Remainder
    epochs: int
    attempts: tuple[tuple[Layout, int], ...]


def layout(chance: random.Random, batch: int | None) -> Layout:
    """Machines for a step of `batch` samples, or of any number."""
    workers = chance.randrange(5)
    if batch is None:
        return Layout(
            min(chance.randint(1, 16), chance.randint(1, 16)),
            chance.randint(1, 3),
            chance.randint(1, 3),
            workers,
        )
    world = chance.choice([number for number in range(1, 17) if batch % number == 0])
    micro = chance.choice([number for number in range(1, 4) if batch // world % number == 0])
    return Layout(world, batch // world // micro, micro, workers)


def draw(chance: random.Random) -> Case:
    first = layout(chance, None)
    batch = first.world * first.device_batch * first.micro
    tail = chance.choice(["carry", "carry", "pad", "drop"])
    size = chance.randint(1, 60) + (batch if tail == "drop" else 0)
    fixed = batch if chance.random() < 0.7 or tail == "drop" else None
    attempts = [(first, chance.randrange(0, 9))]
    attempts += [
        (layout(chance, fixed), chance.randrange(0, 9)) for _ in range(chance.randint(3, 5))
    ]
    attempts.append((layout(chance, fixed), 10**9))  # and this one runs to the end
    return Case(size, chance.randrange(3), tail, chance.randint(1, 3), tuple(attempts))


def run(case: Case, kind: type[Queued] = Queued, part_of: type[Part] = Part) -> list[list[int]]:
    """The rows that each finished step trained on, rank after rank within each micro batch."""
    state = LoaderState("", case.seed, 0, 0)
    trained: list[list[int]] = []
    order = Shuffled(case.size, case.seed)
    for machines, kill in case.attempts:
        parts = [
            part_of(rank, machines.world, machines.device_batch, machines.micro)
            for rank in range(machines.world)
        ]
        stream = Stream(
            order, parts[0].batch, case.remainder, state.epoch * case.size + state.index_in_epoch
        )
        steps = stream.steps_to(case.epochs * case.size)
        loaders = [
            kind(
                Numbers(),
                Batches(stream, part, 0, steps),
                list,
                "",
                case.seed,
                Workers(machines.workers),
            )
            for part in parts
        ]
        read = [list(islice(loader, kill)) for loader in loaders]
        assert len({len(batches) for batches in read}) == 1, "all ranks make as many steps"
        for step in range(len(read[0]) // machines.micro):
            turns = range(step * machines.micro, (step + 1) * machines.micro)
            trained.append([row for turn in turns for batches in read for row in batches[turn]])
        (state,) = {LoaderState.from_json(loader.state().to_json()) for loader in loaders}
    return trained


def check(case: Case, trained: list[list[int]]) -> None:
    """`trained` against the slow twin."""
    assert trained
    batches = {
        machines.world * machines.device_batch * machines.micro for machines, _ in case.attempts
    }
    if len(batches) == 1:
        wanted = list(
            islice(
                slow_order.steps(case.size, case.seed, batches.pop(), case.remainder), len(trained)
            )
        )
        assert trained == wanted
    rows = [row for step in trained for row in step if row != PADDING]
    epochs = range(len(rows) // case.size + 1)
    whole = [row for epoch in epochs for row in slow_order.epoch_of(case.size, case.seed, epoch)][
        : len(rows)
    ]
    # Also where the size of a step changed: the same rows in the same order.
    if case.remainder != "drop":
        assert rows == whole
    if case.remainder == "pad":
        assert Counter(rows) == dict.fromkeys(range(case.size), case.epochs)
    if case.remainder == "carry":
        assert len(rows) >= case.epochs * case.size > len(rows) - len(trained[-1])
    if case.remainder == "drop":
        assert len(rows) == case.epochs * (case.size - case.size % len(trained[0]))


def test_whatever_the_machines_and_the_kills_the_rows_are_those_of_the_uninterrupted_run() -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    for number in range(CASES):
        case = draw(chance)
        try:
            check(case, run(case))
        except AssertionError as error:
            raise AssertionError(f"ZEPHYR_FAST_SEED={SEED}, case {number}: {case}") from error


@pytest.mark.parametrize("sabotage", [{"kind": CountsPrefetched}, {"part_of": ForgetsRank}])
def test_a_loader_that_is_wrong_does_not_pass(sabotage: dict[str, Any]) -> None:
    chance = random.Random(SEED)
    caught = 0
    for case in (draw(chance) for _ in range(100)):
        try:
            check(case, run(case, **sabotage))
        except AssertionError:
            caught += 1
    # About half of the cases can show either fault: it takes workers and a kill, or several ranks.
    # One in ten is proof, whatever the seed.
    assert caught > 10, f"seed {SEED}"


def test_a_state_is_small_and_nothing_else_passes_for_one() -> None:
    state = LoaderState("f" * 64, 2**63 - 1, 10**9, 2**62)
    assert len(state.to_json()) < 300
    assert LoaderState.from_json(state.to_json()) == state
    for text in (
        "",
        "[]",
        "{}",
        state.to_json().replace("epoch", "era"),
        state.to_json().replace('"permutation_version": 1', '"permutation_version": "1"'),
    ):
        with pytest.raises(IntegrityError, match="damaged"):
            LoaderState.from_json(text)


def test_iterating_again_goes_on_and_a_broken_off_step_is_read_again_whole() -> None:
    stream, part = Stream(Shuffled(20, 0), 4, "carry"), Part(0, 1, 2, 2)
    loader = Queued(Numbers(), Batches(stream, part, 0, 5), list, "", 0, Workers(1))
    first, second = list(islice(loader, 3)), list(loader)
    assert first[:2] + second == list(Batches(stream, part, 0, 5))


def test_drop_counts_what_it_leaves_out_and_refuses_to_leave_out_everything() -> None:
    assert Stream(Shuffled(10, 0), 4, "drop").dropped() == 2
    with pytest.raises(ConfigError, match="skip all 3"):
        Stream(Shuffled(3, 0), 4, "drop")
    with pytest.raises(ConfigError, match="no samples to train on"):
        Stream(Shuffled(0, 0), 4, "carry")


def test_resuming_far_into_the_run_costs_nothing() -> None:
    stream = Stream(Shuffled(10**12 + 7, 0), 512, "pad", first=3 * 10**12)
    batches = Batches(stream, Part(5, 8, 64), 10**9, 10**9 + 10**8)
    assert len(next(iter(batches))) == 64
