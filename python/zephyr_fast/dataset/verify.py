"""Verifies a dataset against its manifest, and reports files that do not belong to it."""

import json
from dataclasses import dataclass
from pathlib import Path

from zephyr_fast import _core


@dataclass(frozen=True)
class Problem:
    """One difference from the manifest. For a batch of a shard, `batch` is its index and `offset`
    its first byte in the file.
    """

    file: str
    batch: int | None
    offset: int | None
    message: str


@dataclass(frozen=True)
class VerifyReport:
    """Number of files, bytes and record batches that were checked, and the problems found."""

    files: int
    bytes: int
    batches: int
    problems: tuple[Problem, ...] = ()


def verify(folder: str | Path, *, raise_on_error: bool = True) -> VerifyReport:
    """Verify a dataset against its manifest.

    Checks the SHA-256 of every file, the XXH3 of every record batch, the manifest's own checksum
    and counts, and stored reference log-probs. A file that no manifest lists is a problem.

    Args:
        folder: The dataset's directory.
        raise_on_error: Raise an error if there are problems, instead of only listing them.

    Returns:
        The report.

    Raises:
        IntegrityError: There are problems (the message names the first), or the manifest cannot
            be parsed.
        InputError: The directory is missing or is not a dataset.
    """
    fields = json.loads(_core.verify(folder))
    problems = tuple(Problem(**one) for one in fields["problems"])
    report = VerifyReport(**fields | {"problems": problems})
    if problems and raise_on_error:
        raise _core.IntegrityError(summary(folder, report))
    return report


def located(folder: str | Path, problem: Problem) -> str:
    """Describe a problem in one line: file, batch, offset and message."""
    batch = "" if problem.batch is None else f", batch {problem.batch} at offset {problem.offset}"
    return f"`{Path(folder) / problem.file}`{batch}: {problem.message}"


def summary(folder: str | Path, report: VerifyReport) -> str:
    """Describe the problems of a report in one line: the first, and the number of the others."""
    more = len(report.problems) - 1
    others = "" if not more else f" (and {more:,} more {'problems' if more > 1 else 'problem'})"
    return f"{located(folder, report.problems[0])}{others}"
