"""One rank of a loop with bare torch that reads shards, writes a checkpoint after each step, and
may be killed; tests start several.
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from numbered import collate
from zephyr_fast import ConfigError
from zephyr_fast.load.loader import Batches, Loader, Part, Workers
from zephyr_fast.load.rank_check import check_ranks
from zephyr_fast.load.shards import Shards
from zephyr_fast.load.stream import LoaderState, Stream

SEED = 3


def loader_of(
    rows: Any,
    part: Part,
    workers: Workers,
    state: LoaderState | None = None,
    epochs: int = 2,
    remainder: Any = "carry",
) -> Loader:
    """One rank's loader, from the start or from a state; batches are row numbers."""
    size = len(rows)
    first = 0 if state is None else state.epoch * size + state.index_in_epoch
    stream = Stream(rows.order(SEED), part.batch, remainder, first)
    return Loader(
        rows, Batches(stream, part, 0, stream.steps_to(epochs * size)), collate, "", SEED, workers
    )


def read_steps(
    folder: str, out: str, layout: tuple[int, int, int], tail: str, kill: tuple[int, int]
) -> None:
    """Reads on from `out/checkpoint.json`. `layout`: device batch, micro batches, workers; rank
    kill[0] dies in micro batch kill[1].
    """
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("gloo")
    checkpoint = Path(out) / "checkpoint.json"
    state = (
        LoaderState.from_json(json.loads(checkpoint.read_text())["state"])
        if checkpoint.exists()
        else None
    )
    device_batch, micro, workers = layout
    loader = loader_of(
        Shards(folder, "train"),
        Part(rank, world, device_batch, micro),
        Workers(workers, "fork"),
        state,
        remainder=tail,
    )
    check_ranks({"steps": loader.batches.steps, "next index": loader.batches.stream.first})
    step: list[list[int]] = []
    for number, batch in enumerate(loader):
        if (rank, number) == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        step.append(batch)
        if len(step) == micro:
            _finish(Path(out), rank, step, loader)
            step = []
    torch.distributed.destroy_process_group()


def _finish(out: Path, rank: int, step: list[list[int]], loader: Loader) -> None:
    """A step is done once rank 0 has written its checkpoint: the state, and what all ranks have
    read so far.

    Both are in one file, renamed into place, since rank 0 may be killed at any moment because
    another died.
    """
    steps: list[Any] = [None] * int(os.environ["WORLD_SIZE"])
    torch.distributed.all_gather_object(steps, step)
    if rank == 0:
        checkpoint = out / "checkpoint.json"
        read = json.loads(checkpoint.read_text())["read"] if checkpoint.exists() else []
        read.append([row for turn in zip(*steps, strict=True) for batch in turn for row in batch])
        (out / "draft").write_text(json.dumps({"state": loader.state().to_json(), "read": read}))
        (out / "draft").rename(checkpoint)


def read_all(url: str, cache: str, rows: int) -> None:
    """Reads every row of the shards at `url`, with a cache that other ranks have, too."""
    os.environ["ZEPHYR_FAST_CACHE"] = cache
    assert collate(list(Shards(url, "train").samples(range(rows)))) == list(range(rows))


def compare_facts(facts: dict[str, Any], changes: list[dict[str, Any]]) -> None:
    """Two ranks agree on `facts` with one change after the other on the second; all must raise
    exactly where there is one.
    """
    torch.distributed.init_process_group("gloo")
    for change in changes:
        mine = {**facts, **change} if torch.distributed.get_rank() == 1 else facts
        assert raises(lambda mine=mine: check_ranks(mine)) == bool(change)  # type: ignore[misc]
    torch.distributed.destroy_process_group()


def raises(act: Callable[[], None]) -> bool:
    """Whether it raises ConfigError."""
    try:
        act()
    except ConfigError:
        return True
    return False
