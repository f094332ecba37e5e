"""Starts the ranks of a run as real processes, in a second instead of ten: one process imports
everything, and ranks are forked from it.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "zephyr_fast.train.sft",
        "zephyr_fast.train.dpo",
        "zephyr_fast.load.loader",
        "zephyr_fast.load.rank_check",
    ]
)

SECONDS = 1_800
"""After which ranks that wait for each other are taken for hanging."""


def run_ranks(act: Callable[..., None], world: int, *arguments: Any) -> list[int | None]:
    """Exit codes of `act(*arguments)` in `world` processes, which find each other as those of
    torchrun do.

    Where one dies the others are killed, as by torchrun. `act` must be a function of a module
    that starts nothing itself.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        CONTEXT.Process(target=_rank, args=(act, rank, world, port, arguments))
        for rank in range(world)
    ]
    for process in ranks:
        process.start()
    left = {process.sentinel: process for process in ranks}
    try:
        while left:
            ended = wait(list(left), timeout=SECONDS)
            assert ended, "the ranks hang"
            for sentinel in ended:
                process = left.pop(sentinel)  # type: ignore[call-overload]  # the sentinels that were waited for
                process.join()
                if process.exitcode != 0:
                    for other in left.values():
                        other.kill()
    finally:
        for process in ranks:
            process.kill()
            process.join()
    return [process.exitcode for process in ranks]


def _rank(
    act: Callable[..., None], rank: int, world: int, port: int, arguments: tuple[Any, ...]
) -> None:
    import torch

    torch.set_num_threads(1)
    # Of its workers, as in a rank that was started by hand.
    multiprocessing.set_start_method("fork", force=True)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    act(*arguments)
