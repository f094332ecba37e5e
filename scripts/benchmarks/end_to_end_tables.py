"""Format the results of `end_to_end.py` as two tables: time per stage, and rates and memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from end_to_end_contenders import Report
from measuring import show_table

STAGES = (
    "read",
    "truecase + filter",
    "template + tokenize + mask",
    "template + tokenize, no mask",
    "pack",
    "write",
    "total",
    "process",
)
CAVEAT = (
    "The contenders use different cleaning rules and keep different rows, so totals compare the "
    "same kind of work, not the same rows."
)
LEGEND = (
    "Medians with [minimum-maximum]. `process` includes imports, `total` does not. "
    "`ours` runs without deduplication and text tables, which the peer does not have. `ours whole` "
    "runs with both. ~ is the difference of two totals. "
    "- is part of a fused pass that cannot be timed separately. "
    "The last column of the first table is the speedup of `ours` over `peer`. In the second table, "
    "it is the ratio of the two figures."
)


@dataclass(frozen=True)
class Run:
    """One run of a contender: its report, the time of its process (wall, CPU), and the peak bytes
    including its workers.
    """

    contender: str
    report: Report
    process: tuple[float, float]
    memory_all: int

    def seconds(self, stage: str) -> tuple[float, float]:
        """Return wall and CPU seconds of a stage, of the `total` of all stages, or of the `process`
        with its imports.
        """
        if stage == "process":
            return self.process
        if stage == "total":
            walls, cpus = zip(*self.report.stages.values(), strict=True)
            return sum(walls), sum(cpus)
        return self.report.stages[stage]


def show_runs(runs: Sequence[Run], megabytes: float) -> None:
    """Print both tables and their legend."""
    contenders = {
        run.contender: [other for other in runs if other.contender == run.contender] for run in runs
    }
    show_table(
        "Seconds, wall (CPU)", ["stage", *contenders, "ours/peer"], seconds_table(contenders)
    )
    show_table(
        "Rates and sizes", ["", *contenders, "ours/peer"], rates_table(contenders, megabytes)
    )
    print(f"{CAVEAT}\n{LEGEND}")


def seconds_table(contenders: dict[str, list[Run]]) -> list[list[str]]:
    rows = []
    for stage in STAGES:
        cells = {name: seconds_cell(runs, stage) for name, runs in contenders.items()}
        if stage == "truecase + filter" and {"ours", "ours uncleaned"} <= contenders.keys():
            cells["ours"] = difference_cell(contenders["ours"], contenders["ours uncleaned"])
        compared = stage in ("total", "process") and {"peer", "ours"} <= contenders.keys()
        rows.append([stage, *cells.values(), speedup_cell(contenders, stage) if compared else "-"])
    return rows


def seconds_cell(runs: list[Run], stage: str) -> str:
    if stage not in ("process", "total") and stage not in runs[0].report.stages:
        return "-"
    walls, cpus = zip(*(run.seconds(stage) for run in runs), strict=True)
    spread = f" [{min(walls):.2f}-{max(walls):.2f}]" if stage == "total" else ""
    return f"{median(walls):.2f} ({median(cpus):.2f}){spread}"


def difference_cell(full: list[Run], reduced: list[Run]) -> str:
    """Return the time of cleaning, if it is more than the noise of the runs."""
    walls = [[run.seconds("total")[0] for run in runs] for runs in (full, reduced)]
    difference = median(walls[0]) - median(walls[1])
    noise = max(max(one) - min(one) for one in walls)
    return f"~{difference:.2f}" if difference > noise else "-"


def speedup_cell(contenders: dict[str, list[Run]], stage: str) -> str:
    peer, ours = (
        [
            median(values)
            for values in zip(*(run.seconds(stage) for run in contenders[name]), strict=True)
        ]
        for name in ("peer", "ours")
    )
    return f"{peer[0] / ours[0]:.1f}x ({peer[1] / ours[1]:.1f}x)"


def rates_table(contenders: dict[str, list[Run]], megabytes: float) -> list[list[str]]:
    figures: dict[str, Callable[[Run], float]] = {
        "raw MB/s": lambda run: megabytes / run.seconds("total")[0],
        "raw MB per CPU second": lambda run: megabytes / run.seconds("total")[1],
        "tokens/s": lambda run: run.report.tokens / run.seconds("total")[0],
        "tokens per CPU second": lambda run: run.report.tokens / run.seconds("total")[1],
        "peak memory, all processes, MB": lambda run: run.memory_all / 1e6,
        "peak memory, largest process, MB": lambda run: run.report.memory_largest / 1e6,
        "rows kept": lambda run: run.report.rows,
        "packed samples": lambda run: run.report.samples,
        "tokens written": lambda run: run.report.tokens,
    }
    rows = []
    for title, figure in figures.items():
        medians = {name: median(figure(run) for run in runs) for name, runs in contenders.items()}
        known = {"peer", "ours"} <= medians.keys()
        ratio = f"{medians['ours'] / medians['peer']:.3g}x" if known and medians["peer"] else "-"
        rows.append([title, *(number(value) for value in medians.values()), ratio])
    return rows


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
