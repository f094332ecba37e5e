"""Compare each stage with the fastest known libraries: the table of docs/benchmarks.md.

    python scripts/benchmarks/stages.py --input dialogues.jsonl --repeats 5 \\
        --tokenizer tokenizers/mistral-7b-v0.1 [--tokenizer DIR …]

Every run is a separate process with cold caches. Contenders alternate, every second round in
reverse order, and a ratio compares two runs of the same round. zephyr-fast is measured with an
optimized build of `rust/core/benches/stage.rs`, on one thread and on all. Missing inputs and
tokenizers are searched for in ZEPHYR_FAST_DATA.
"""

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from measuring import (
    PACKAGES,
    cores,
    describe_machine,
    in_turns,
    parser_of,
    ratios_by_turn,
    run_process,
    show_machine,
    show_table,
    spread,
    verdict,
)
from real_data import located
from stage_peers import PEERS

ROOT = Path(__file__).parents[2]
OURS = "ours"
PEER_PACKAGES = ("msgspec", "gigatoken", "gaoya", "rensa")
# What a stage's rate counts, and how much of the input each slow peer reads, in megabytes.
UNITS = {"dedup": "documents", "pack": "samples"}
SLOW = {
    "re": 8,
    "transformers": 8,
    "tokenizers": 8,
    "gaoya": 40,
    "rensa": 20,
    "trl, whole": 60,
    "trl, by 1,000": 60,
}
MUST = {
    "msgspec": 1.3,
    "load_dataset": 20,
    "re": 30,
    "gaoya": 10,
    "rensa": 15,
    "trl, whole": 10,
    "tokenizers": 40,
    "gigatoken": 0.7,
}
MUST_OF_STAGE = {("template", "transformers"): 20, ("sample", "transformers"): 40}
MUST_OF_PIECES = {"gigatoken": 3, "tokenizers": 50}


@dataclass(frozen=True)
class Job:
    """A stage with its input and tokenizer."""

    stage: str
    source: str
    tokenizer: str

    @property
    def name(self) -> str:
        return (
            f"{self.stage}, {Path(self.tokenizer).name}" if self.stage == "tokenize" else self.stage
        )


def main() -> None:
    options = parse()
    ours = build()
    show_machine(describe_machine(options.threads, (*PACKAGES, *PEER_PACKAGES)))
    rows = []
    for job in jobs(options):
        rates = race(job, ours, options)
        rows += list(table(job, rates, options.threads))
    show_table(
        "Stages, medians [minimum-maximum]",
        ["stage", "compared with", "zephyr-fast", "its rate", "speedup", "goal"],
        rows,
    )


def parse() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--input", required=True, help='JSONL of {"id", "data": [text, …]}, plain or compressed'
    )
    parser.add_argument(
        "--tokenizer",
        action="append",
        required=True,
        help="directory, repeatable; all stages except `tokenize` use the first one",
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--threads",
        type=int,
        default=cores(),
        help="threads of the second, multithreaded run (default: all cores)",
    )
    parser.add_argument(
        "--only", nargs="+", default=list(PEERS), choices=list(PEERS), metavar="STAGE"
    )
    options = parser.parse_args()
    options.input = located(options.input)
    options.tokenizer = [located(folder) for folder in options.tokenizer]
    return options


def build() -> str:
    """Build the stage benchmark with optimization and return its path."""
    command = [
        "cargo",
        "build",
        "--release",
        "--locked",
        "-p",
        "zephyr-core",
        "--bench",
        "stage",
        "--message-format",
        "json",
    ]
    printed = subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    messages = [json.loads(line) for line in printed.splitlines()]
    return next(
        message["executable"] for message in reversed(messages) if message.get("executable")
    )


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    for stage in options.only:
        for tokenizer in options.tokenizer if stage == "tokenize" else options.tokenizer[:1]:
            yield Job(stage, options.input, tokenizer)


def race(job: Job, ours: str, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the rates of every contender by round. A library that fails has an empty list."""
    commands = {OURS: [ours, job.stage, "1", job.source, job.tokenizer]}
    commands["all cores"] = [ours, job.stage, str(options.threads), job.source, job.tokenizer]
    for peer in PEERS[job.stage]:
        script = str(Path(__file__).with_name("stage_peers.py"))
        commands[peer] = [
            sys.executable,
            script,
            job.stage,
            peer,
            job.source,
            job.tokenizer,
            str(SLOW.get(peer, 1e9)),
        ]
    rates: dict[str, list[float]] = defaultdict(list)
    for _, name in in_turns(commands, options.repeats, job.name):
        rate = run(commands[name], per_wall_second=name == "all cores", stage=job.stage)
        if rate is None:
            del commands[name]
        else:
            rates[name].append(rate)
    return rates


def run(command: list[str], per_wall_second: bool, stage: str) -> float | None:
    """Return the rate of one process: megabytes, or thousands of documents or samples."""
    ended = run_process(command, {"OMP_NUM_THREADS": "1"})
    if ended.code:
        print(ended.last_words(), file=sys.stderr)
        return None
    report = ended.report(command[0])
    amount = (
        report["made"] / 1e3
        if stage == "dedup"
        else report["bytes"] / (1e3 if stage == "pack" else 1e6)
    )
    return amount / report["wall" if per_wall_second else "cpu"]


def table(job: Job, rates: dict[str, list[float]], threads: int) -> Iterator[list[str]]:
    unit = f"k {UNITS[job.stage]}" if job.stage in UNITS else "MB"
    for peer in PEERS[job.stage]:
        if peer not in rates:
            yield [job.name, peer, spread(rates[OURS], unit), "fails", "-", "-"]
            continue
        ratios = ratios_by_turn(rates[OURS], rates[peer])
        must = MUST_OF_STAGE.get((job.stage, peer), MUST.get(peer))
        if job.stage == "tokenize" and ("mistral" in job.tokenizer or "llama-1-2" in job.tokenizer):
            must = MUST_OF_PIECES[peer]
        speeds = (spread(rates[OURS], unit), spread(rates[peer], unit), spread(ratios, "x"))
        yield [job.name, peer, *speeds, verdict(ratios, must)]
    yield [
        job.name,
        f"{threads} threads",
        spread(rates["all cores"], f"{unit}/s wall"),
        "-",
        "-",
        "-",
    ]


if __name__ == "__main__":
    main()
