"""Runs of the real trainers in processes of their own, to the end or to a kill, whose rows are
recorded.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranks import run_ranks
from recorded_run import run_rank


@dataclass(frozen=True)
class Run:
    """A run in processes of its own: by the line that a user would type, or forked from one that
    has imported everything.
    """

    act: str
    data: str
    out: Path
    is_launched: bool

    def ranks(
        self,
        world: int,
        settings: dict[str, Any],
        kill: int = 0,
        resume: bool = False,
        fails: bool = False,
    ) -> str:
        """Runs so many ranks, to the end or the kill; what they said, if they were launched."""
        given = {"act": self.act, "folder": self.data, "out": str(self.out), "settings": settings}
        text = json.dumps({**given, "world": world, "kill": kill, "resume": resume})
        codes, said = (
            _launch(world, text) if self.is_launched else (run_ranks(run_rank, world, text), "")
        )
        assert any(codes) == bool(kill or fails), said
        return said


def _launch(world: int, text: str) -> tuple[list[int | None], str]:
    # Only so does accelerate start two processes on a CPU (accelerate#2741).
    ranks = [
        "--num_processes",
        str(world),
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
    ]
    starter = (
        ["-m", "accelerate.commands.launch", "--multi_gpu", "--main_process_port", "0", *ranks]
        if world > 1
        else []
    )
    command = [sys.executable, *starter, str(Path(__file__).parent / "recorded_run.py"), text]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=1_800, check=False
    )
    return [done.returncode], done.stderr


def keep(out: Path, rows: list[list[int]], steps: int) -> None:
    """Puts the record of the steps that a checkpoint holds aside: the next attempt has other
    ranks.
    """
    kept = json.loads((out / "kept.json").read_text()) if (out / "kept.json").exists() else []
    (out / "kept.json").write_text(json.dumps(kept + rows[: steps - len(kept)]))
    for path in out.glob("rows-*.jsonl"):
        path.unlink()
