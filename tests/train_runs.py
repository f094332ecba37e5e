"""Short runs of the training command on small models, in this process or in several ranks."""

import json
import sys
from pathlib import Path
from typing import Any

from ranks import run_ranks
from zephyr_fast.train.__main__ import main

SETTINGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "activation_checkpointing": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "seed": 3,
    "max_steps": 2,
    "logging_steps": 1,
    "warmup_steps": 0,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 2,
    "ddp_find_unused_parameters": False,
}


def words(act: str, shards: Path, model: Path, out: Path, **settings: Any) -> list[str]:
    """The command line of a run."""
    given = {"model_name_or_path": model, "output_dir": out, **SETTINGS, **settings}
    flags = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return [act, "--shards", str(shards), *flags]


def train(
    act: str, shards: Path, model: Path, out: Path, *, ranks: int = 1, **settings: Any
) -> Path:
    """Runs it to the end, and returns its output directory."""
    line = words(act, shards, model, out, **settings)
    codes = [main(line)] if ranks == 1 else run_ranks(run_line, ranks, line)
    assert not any(codes), codes
    return out


def run_line(line: list[str]) -> None:
    """One rank."""
    sys.exit(main(line))


def history(out: Path) -> list[dict[str, Any]]:
    """What a run has logged."""
    entries: list[dict[str, Any]] = json.loads((out / "trainer_state.json").read_text())[
        "log_history"
    ]
    return entries


def results(out: Path) -> dict[str, Any]:
    """The metrics that a run has saved."""
    found: dict[str, Any] = json.loads((out / "all_results.json").read_text())
    return found
