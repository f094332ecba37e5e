"""Measure how the time of each stage grows on adversarial rows, and print a table.

Each case runs at sizes n, 2n and 4n, several times in separate processes. The minimum CPU time
counts, minus that of a run on one row. The exponent is the slope between the smallest and the
largest size: 1 is linear, 2 is quadratic.

    python scripts/benchmarks/growth.py [NAME …] [--repeats 3]
"""

import json
import math
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from measuring import describe_machine, parser_of, run_process, show_machine, show_table

PLAIN = {
    "truecase.enabled": "false",
    "dedup.exact": "false",
    "dedup.near": "false",
    "tokenize.control_tokens": "allow",
}
NOT_MEASURED_S = 0.15
"""Below this much CPU time, an exponent is noise."""


@dataclass(frozen=True)
class Case:
    """Adversarial rows for one stage, by size."""

    stage: str
    sizes: tuple[int, int, int]
    rows: Callable[[int], Iterator[str]]
    settings: dict[str, str] = field(default_factory=dict)
    instances: Callable[[int], Iterator[str]] | None = None


def repeated(text: str, characters: int) -> Iterator[str]:
    """Yield one row that repeats this text."""
    yield text * (characters // len(text))


def word(chance: random.Random) -> str:
    return f"w{chance.randrange(64_000):04x}"


def sharing_a_core(rows: int) -> Iterator[str]:
    """Yield rows with 400 common words and 100 different ones: not near-duplicates, but in the same
    bands.
    """
    chance, core = random.Random(6), " ".join(f"c{number}" for number in range(400))
    for _ in range(rows):
        yield f"{core} {' '.join(word(chance) for _ in range(100))}"


def short_rows(rows: int) -> Iterator[str]:
    chance = random.Random(7)
    for _ in range(rows):
        yield " ".join(word(chance) for _ in range(chance.randrange(5, 40)))


HEADER = " ".join(f"preamble{number}" for number in range(40))


def with_header(rows: int) -> Iterator[str]:
    for _ in range(rows):
        yield f"{HEADER} and now something else"


def questions(instances: int) -> Iterator[str]:
    for number in range(instances):
        yield f"{HEADER} question {number}"


TEXT_SIZES = (1 << 20, 2 << 20, 4 << 20)
CASES = {
    **{
        f"truecase, {name}": Case(
            "truecase",
            TEXT_SIZES,
            lambda n, text=text: repeated(text, n),
            PLAIN | {"truecase.enabled": "true"},
        )
        for name, text in {
            "dots": ".",
            "`i `": "i ",
            "quotes": "'\"",
            "URLs": "http://",
            "fences": "```\n",
            "dollars": "$ ",
            "capital İ": "İ",
        }.items()
    },
    "filters, starts of a phrase": Case(
        "phrases", TEXT_SIZES, lambda n: repeated("as an A", n), PLAIN
    ),
    "control tokens, starts of one": Case(
        "control tokens",
        TEXT_SIZES,
        lambda n: repeated("<|", n),
        PLAIN | {"tokenize.control_tokens": "quarantine"},
    ),
    "tokens, one letter": Case("tokens", TEXT_SIZES, lambda n: repeated("x", n), PLAIN),
    "tokens, combining marks": Case("tokens", TEXT_SIZES, lambda n: repeated("\u0301", n), PLAIN),
    "near-dedup, rows that share a core": Case(
        "near-dedup", (3_000, 6_000, 12_000), sharing_a_core, PLAIN | {"dedup.near": "true"}
    ),
    "decontamination, rows under one header": Case(
        "decontamination",
        (1_000, 2_000, 4_000),
        with_header,
        PLAIN | {"decontaminate.action": "flag"},
        lambda n: questions(4_000),
    ),
    "decontamination, instances under one header": Case(
        "decontamination",
        (4_000, 8_000, 16_000),
        lambda n: with_header(1_000),
        PLAIN | {"decontaminate.action": "flag"},
        questions,
    ),
    "decontamination, rows and instances under one header": Case(
        "decontamination",
        (1_000, 2_000, 4_000),
        with_header,
        PLAIN | {"decontaminate.action": "flag"},
        questions,
    ),
    "packing, rows of all lengths": Case(
        "packing", (20_000, 40_000, 80_000), short_rows, PLAIN | {"pack.seq_len": "512"}
    ),
}


def write_rows(path: Path, texts: Iterator[str]) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"data": [text, "fine"], "q": text}) + "\n")
    return path


def seconds(case: Case, size: int | None, folder: Path) -> float:
    """Return the CPU time of one run, or of a run on one row if there is no size."""
    rows = write_rows(
        folder / "rows.jsonl", iter(["Hello there"]) if size is None else case.rows(size)
    )
    command = [
        sys.executable,
        "-m",
        "zephyr_fast",
        "prep",
        "ultrachat",
        "--input",
        str(rows),
        "--tokenizer",
        "sample",
        "--out",
        str(folder / "out"),
    ]
    for key, value in (case.settings | {"shards.text": "false"}).items():
        command += ["--set", f"{key}={value}"]
    if case.instances is not None:  # also for one row: `decontaminate.action` requires a set
        instances = write_rows(folder / "set.jsonl", case.instances(size or 1))
        command += ["--decontaminate", f"set={instances}:q"]
    shutil.rmtree(folder / "out", ignore_errors=True)  # an up-to-date dataset is not built again
    ended = run_process([*command, "--threads", "1"])
    if ended.code not in (0, 3):
        raise SystemExit(f"{case.stage}: exit code {ended.code}: {ended.last_words()}")
    return ended.cpu


def measured(case: Case, repeats: int) -> list[float]:
    """Return the CPU times at all sizes, less that of a run on one row."""
    with tempfile.TemporaryDirectory() as folder:
        least = lambda size: min(seconds(case, size, Path(folder)) for _ in range(repeats))  # noqa: E731
        start = least(None)
        return [max(least(size) - start, 0.0) for size in case.sizes]


def exponent(times: list[float]) -> str:
    """Return the slope between the smallest and the largest size."""
    if times[-1] < NOT_MEASURED_S:
        return "too fast to measure"
    return f"{math.log(times[-1] / max(times[0], 0.01)) / math.log(4):.2f}"


def main() -> None:
    """Print the table."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "names", nargs="*", help="Run the cases whose names contain one of these (default: all)."
    )
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    show_machine(describe_machine(1))
    rows = []
    for name, case in CASES.items():
        if not arguments.names or any(wanted in name for wanted in arguments.names):
            print(name, file=sys.stderr)
            times = measured(case, arguments.repeats)
            rows.append(
                [name, f"{case.sizes[0]:,}", *(f"{time:.2f}" for time in times), exponent(times)]
            )
    header = ["adversarial rows", "n", "CPU s at n", "2n", "4n", "exponent"]
    show_table("Growth: CPU seconds minus those of a run on one row", header, rows)


if __name__ == "__main__":
    main()
