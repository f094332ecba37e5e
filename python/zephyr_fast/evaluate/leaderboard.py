"""Tasks of the Open LLM Leaderboard, by lm-eval in a child process, with the shots of 2023.

Tasks are named one by one: lm-eval's group `openllm` has other tasks and metrics. A task that has
finished is not run again in the same directory.
"""

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.collection.directory import Directory
from zephyr_fast.dataset.folder import Folder
from zephyr_fast.evaluate.asking import began
from zephyr_fast.evaluate.result import OVERALL, Figure, Result
from zephyr_fast.evaluate.rows import digest, read_json
from zephyr_fast.evaluate.win_rate import percent_interval
from zephyr_fast.printed import brief, note, shown
from zephyr_fast.untrusted.child import SAFE_PATH

BENCHMARK = "leaderboard"

_SCRIPT = f"{SAFE_PATH}import runpy\nrunpy.run_module('lm_eval', None, '__main__', True)\n"


@dataclass(frozen=True, slots=True)
class Task:
    """Shots and metric of a task on the leaderboard."""

    shots: int
    metric: str


TASKS: Mapping[str, Task] = {
    "arc_challenge": Task(25, "acc_norm"),
    "hellaswag": Task(10, "acc_norm"),
    "mmlu": Task(5, "acc"),
    "truthfulqa_mc2": Task(0, "acc"),
}
"""The four tasks of the Zephyr paper. Other tasks run with lm-eval's own shots and metrics."""

_SHARE = re.compile(r"(.*_)?acc(_.*)?|exact_match.*|em|f1|contains|pass@\d+")
"""Metrics of lm-eval that are shares from 0 to 1. Perplexity, BLEU and others have another unit."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run.

    Args:
        model: directory of the model
        weights: digest of its weights
        tasks: names of tasks
        python: interpreter that has lm-eval
        include: directory of more task files; None for none
        limit: examples per task; None for all
    """

    model: Path
    weights: str
    tasks: Sequence[str]
    python: str
    include: Path | None = None
    limit: int | None = None

    def settings(self) -> dict[str, Any]:
        """Return what the files of a run depend on."""
        return {
            "benchmark": BENCHMARK,
            "model": self.model.resolve().name,
            "weights": self.weights,
            "tasks": list(self.tasks),
            "include": None if self.include is None else str(self.include.resolve()),
            "limit": self.limit,
        }


def run(job: Job, directory: Directory) -> Result:
    """Run the tasks that have no result yet, and return the result of all.

    Raises InputError if lm-eval is missing or fails.
    """
    if "," in str(job.model.resolve()) or "=" in str(job.model.resolve()):
        raise InputError(f"lm-eval cannot read a path with `,` or `=`: `{shown(job.model)}`")
    directory.claim(job.settings())
    found = {}
    for name in job.tasks:
        output = directory.path / "lm-eval" / name
        if not (reports := _reports(output)):
            _create(directory.path, name)
            note(f"lm-eval runs {shown(name)}")
            _run_task(job, name, output)
            reports = _reports(output)
        if not reports:
            raise InputError(f"lm-eval wrote no results to `{shown(output)}`")
        found[name] = read_json(reports[-1])
    result = _result(job, found, began(directory).isoformat())
    directory.write_file("results/leaderboard.json", result.chunks())
    return result


def _create(path: Path, name: str) -> None:
    """Create the directory that lm-eval writes to. StorageError if it is a link."""
    with Folder.open(path) as top, top.made_child("lm-eval") as tasks, tasks.made_child(name):
        return


def _reports(output: Path) -> list[Path]:
    return sorted(output.rglob("results_*.json")) if output.is_dir() else []


def _run_task(job: Job, name: str, output: Path) -> None:
    words = [job.python, "-c", _SCRIPT, "--model", "hf", "--tasks", name]
    words += ["--model_args", f"pretrained={job.model.resolve()}", "--output_path", str(output)]
    if name in TASKS:
        words += ["--num_fewshot", str(TASKS[name].shots)]
    if job.include is not None:
        words += ["--include_path", str(job.include.resolve())]
    if job.limit is not None:
        words += ["--limit", str(job.limit)]
    try:
        done = subprocess.run(
            words, capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError as error:
        raise InputError(f"cannot run `{shown(job.python)}`: {error.strerror}") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        missing = "No module named lm_eval" in last
        hint = "; install lm-eval there, or pass --python" if missing else ""
        raise InputError(f"lm-eval failed on {shown(name)}: {shown(last, 300)}{hint}")


def _result(job: Job, found: Mapping[str, Any], created: str) -> Result:
    figures: dict[str, Figure] = {}
    notes = [f"only {job.limit:,} examples per task"] if job.limit is not None else []
    versions: dict[str, Any] = {}
    harness = set()
    for name, report in found.items():
        try:
            figures |= _figures(name, report)
            notes += _not_shares(name, report)
            versions[name] = [report["versions"], report["n-shot"]]
            harness.add(str(report["lm_eval_version"]))
        except KeyError as error:
            raise InputError(
                f"lm-eval's results of {shown(name)} have no {shown(error)}; results of "
                "version 0.4.13 can be read"
            ) from None
        except (TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"cannot read lm-eval's results of {shown(name)}: {shown(error)}"
            ) from None
    four = [figures[name].value for name in TASKS if name in figures]
    if len(four) == len(TASKS):
        mean = sum(value for value in four if value is not None) / len(four)
        figures = {OVERALL: Figure(mean, sum(one.n for one in figures.values())), **figures}
    return Result(
        BENCHMARK,
        job.model.resolve().name,
        "",
        (),
        (),
        "",
        digest(versions, job.limit),
        f"lm-eval {', '.join(sorted(harness))}",
        created,
        "percent",
        sum(one.n for name, one in figures.items() if name != OVERALL),
        {},
        figures,
        tuple(notes),
    )


def _figures(name: str, report: Mapping[str, Any]) -> dict[str, Figure]:
    """The figure of one of the four tasks by its name, or all shares of another task."""
    scores = report["results"][name]
    samples = report["n-samples"]
    n = sum(int(one["effective"]) for one in samples.values())
    if name in TASKS:
        return {name: _figure(scores, f"{TASKS[name].metric},none", n)}
    shares = [key for key in _metrics(scores) if _SHARE.fullmatch(key.partition(",")[0])]
    return {f"{name} {key.removesuffix(',none')}": _figure(scores, key, n) for key in shares}


def _not_shares(name: str, report: Mapping[str, Any]) -> list[str]:
    """The metrics of another task that are not percentages, as sentences."""
    scores = report["results"][name]
    others = [key for key in _metrics(scores) if not _SHARE.fullmatch(key.partition(",")[0])]
    return [
        f"{name} {key.removesuffix(',none')}: {_finite(key, scores[key])!r}, in lm-eval's unit"
        for key in others
        if name not in TASKS
    ]


def _metrics(scores: Mapping[str, Any]) -> list[str]:
    return [
        key
        for key, value in scores.items()
        if "," in key and "_stderr," not in key and isinstance(value, int | float)
    ]


def _figure(scores: Mapping[str, Any], key: str, n: int) -> Figure:
    metric, _, kind = key.partition(",")
    value = _finite(key, scores[key])
    if not 0 <= value <= 1:
        raise ValueError(f"`{key}` is {value:g}, not a share from 0 to 1")
    given = scores.get(f"{metric}_stderr,{kind}")
    if not isinstance(given, int | float):  # lm-eval writes "N/A"
        return Figure(100 * value, n)
    stderr = 100 * _finite(f"{metric}_stderr", given)
    return Figure(100 * value, n, 0, *percent_interval(100 * value, stderr), stderr)


def _finite(key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"`{key}` is {brief(value)}, not a number")
    return float(value)
