"""Compare text-only `binarize` with a duckdb query and with `datasets.map`.

    python scripts/benchmarks/binarize.py \\
        --input ultrafeedback/raw_alpacaeval_v1.jsonl.zst --repeats 5

Rows with empty annotations first get rationales and critiques, copied from completions of other
rows, for 13.8 KB per row as in the published dataset. All contenders write one Parquet file with
the columns of ultrafeedback_binarized: the completion with the best mean of the four aspects
against a random one. The script checks that the best completions agree. Every run is a separate
process with one thread. Contenders alternate, every second round in reverse order, and a ratio
compares two runs of the same round. Build an optimized engine first
(`maturin develop --release`). Missing inputs are searched for in ZEPHYR_FAST_DATA.
"""

import argparse
import json
import random
import sys
from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from clock import Clock
from measuring import (
    PACKAGES,
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
from real_data import lines_of, located

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
# Maximum characters of a rationale and a critique.
RATIONALE, CRITIQUE = 400, 1_700
MUST = {"duckdb, snappy": 1.3, "datasets": 10.0}


def ours(source: str, out: Path) -> None:
    import zephyr_fast

    rules = {
        "binarize.strategy": "best-vs-random",
        "binarize.score_by": "mean_aspects",
        "binarize.drop_sources": "[]",
        "binarize.repair": False,
    }
    alike = {
        "filter": "[]",
        "dedup.exact": False,
        "shards.test_fraction": 0.0,
        "shards.tokens": False,
    }
    zephyr_fast.binarize(input=source, out=out, threads=1, overrides={**rules, **alike})


def duckdb(source: str, out: Path, compression: str) -> None:
    import duckdb

    aspects = ", ".join(f"{aspect} STRUCT(Rating VARCHAR)" for aspect in ASPECTS)
    ratings = ", ".join(
        f"try_cast(reply.annotations.{aspect}.Rating AS DOUBLE)" for aspect in ASPECTS
    )

    def messages(reply: str) -> str:
        return (
            f"[{{'content': prompt, 'role': 'user'}}, "
            f"{{'content': replies[{reply}].text, 'role': 'assistant'}}]"
        )

    out.mkdir()
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    connection.execute(f"""
        COPY (
            WITH scored AS (
                SELECT instruction AS prompt, list_transform(completions,
                    lambda reply: {{'text': reply.response, 'score': list_avg([{ratings}])}})
                    AS replies
                FROM read_json('{source}', format = 'newline_delimited',
                    maximum_object_size = 33554432, columns = {{instruction: 'VARCHAR',
                    completions: 'STRUCT(response VARCHAR, annotations STRUCT({aspects}))[]'}})
            ), best AS (
                SELECT *, list_position(list_transform(replies, lambda reply: reply.score),
                    list_max(list_transform(replies, lambda reply: reply.score))) AS best
                FROM scored WHERE len(replies) >= 2
            ), paired AS (
                SELECT *, 1 + (best + (hash(prompt) % (len(replies) - 1))::INT) % len(replies)
                    AS other
                FROM best
            )
            SELECT prompt, sha256(prompt) AS prompt_id, {messages("best")} AS chosen,
                {messages("other")} AS rejected, {messages("best")} AS messages,
                replies[best].score AS score_chosen, replies[other].score AS score_rejected
            FROM paired
        ) TO '{out}/train.parquet' (FORMAT parquet, COMPRESSION {compression})""")


def datasets(source: str, out: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "json", data_files=source, split="train", cache_dir=str(out / "cache")
    )
    pairs = loaded.map(pairs_of, batched=True, remove_columns=loaded.column_names)
    pairs.to_parquet(str(out / "train.parquet"))


def pairs_of(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = defaultdict(list)
    for prompt, replies in zip(batch["instruction"], batch["completions"], strict=True):
        scores = [mean_of(reply["annotations"]) for reply in replies]
        known = [score for score in scores if score is not None]
        if len(replies) < 2 or not known:
            continue
        best = scores.index(max(known))
        other = random.Random(f"42 {prompt}").choice(
            [place for place in range(len(replies)) if place != best]
        )
        chosen, rejected = (
            [
                {"content": prompt, "role": "user"},
                {"content": replies[place]["response"], "role": "assistant"},
            ]
            for place in (best, other)
        )
        columns = (
            prompt,
            sha256(prompt.encode()).hexdigest(),
            chosen,
            rejected,
            chosen,
            scores[best],
            scores[other],
        )
        names = (
            "prompt",
            "prompt_id",
            "chosen",
            "rejected",
            "messages",
            "score_chosen",
            "score_rejected",
        )
        for name, value in zip(names, columns, strict=True):
            made[name].append(value)
    return made


def mean_of(annotations: dict[str, dict[str, str]]) -> float | None:
    ratings = [
        int(rating)
        for aspect in ASPECTS
        if (rating := annotations[aspect]["Rating"]) and rating.isdigit()
    ]
    return sum(ratings) / len(ratings) if ratings else None


CONTENDERS = {
    "ours": ours,
    "duckdb, snappy": lambda source, out: duckdb(source, out, "snappy"),
    "duckdb, zstd": lambda source, out: duckdb(source, out, "zstd"),
    "datasets": datasets,
}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--input", required=True, help="JSONL in raw UltraFeedback format, plain or compressed"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        return work(options)
    show_machine(describe_machine(1, (*PACKAGES, "duckdb")))
    with TemporaryDirectory(prefix="zephyr-fast-bench-") as scratch:
        rows = annotated(located(options.input), Path(scratch, "rows.jsonl"))
        options.input = str(rows)
        megabytes = rows.stat().st_size / 1e6
        reports = race(options, Path(scratch))
        print(f"best completions that agree with zephyr-fast: {same_best(Path(scratch))}")
    show_table(
        f"{megabytes:.1f} MB, medians [least-most]",
        ["", "MB/CPU s", "wall s", "MB written", "speedup", "goal"],
        table(reports, megabytes),
    )


def annotated(source: str, target: Path) -> Path:
    """Copy the rows and fill empty annotations with text of other rows."""
    rows = [json.loads(line) for line in lines_of([source])]
    texts = [reply["response"] for row in rows for reply in row["completions"] if reply["response"]]
    chance = random.Random(42)

    def said(length: int) -> str:
        text = chance.choice(texts)
        return text[chance.randrange(len(text)) :][:length]

    with target.open("w", encoding="utf-8") as out:
        for row in rows:
            for reply in row["completions"]:
                for annotation in reply["annotations"].values():
                    annotation["Rationale"] = annotation["Rationale"] or said(RATIONALE)
                reply["critique"] = reply["critique"] or said(CRITIQUE)
            print(json.dumps(row, ensure_ascii=False, separators=(",", ":")), file=out)
    return target


def work(options: argparse.Namespace) -> None:
    """Run one contender once. Its first imports are not part of the measured time."""
    __import__({"ours": "zephyr_fast", "datasets": "datasets"}.get(options.contender, "duckdb"))
    clock = Clock()
    CONTENDERS[options.contender](options.input, Path(options.out))
    print(
        json.dumps(
            clock.report()
            | {"bytes": sum(path.stat().st_size for path in parquet_of(Path(options.out)))}
        )
    )


def parquet_of(out: Path) -> list[Path]:
    """Return the Parquet files of a contender: for zephyr-fast, the text and not the ledger."""
    return sorted((out / "text").glob("*.parquet")) or sorted(out.glob("*.parquet"))


def race(options: argparse.Namespace, scratch: Path) -> dict[str, list[dict[str, float]]]:
    reports: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for turn, name in in_turns(CONTENDERS, options.repeats):
        out = scratch / f"{name}-{turn}"
        command = [sys.executable, __file__, "--input", options.input, "--contender", name]
        reports[name].append(run_process([*command, "--out", out]).report(name))
    return reports


def same_best(scratch: Path) -> str:
    import pyarrow.parquet as pq

    def best(name: str) -> list[tuple[str, str]]:
        table = pq.read_table(parquet_of(scratch / f"{name}-0")[0], columns=["prompt", "chosen"])
        return [(row["prompt"], row["chosen"][-1]["content"]) for row in table.to_pylist()]

    wanted = set(best("ours"))
    shares = {
        name: sum(row in wanted for row in best(name)) / len(best(name))
        for name in CONTENDERS
        if name != "ours"
    }
    return ", ".join(f"{name} {share:.2%}" for name, share in shares.items())


def table(reports: dict[str, list[dict[str, float]]], megabytes: float) -> list[list[str]]:
    rows = []
    for name, runs in reports.items():
        seconds = [run["cpu"] for run in runs]
        ratios = ratios_by_turn(seconds, [run["cpu"] for run in reports["ours"]])
        rate = spread([megabytes / cpu for cpu in seconds], digits=0)
        wall = spread([run["wall"] for run in runs], digits=2)
        written = f"{median(run['bytes'] for run in runs) / 1e6:.1f}"
        compared = "-" if name == "ours" else spread(ratios, "x", digits=2)
        rows.append([name, rate, wall, written, compared, verdict(ratios, MUST.get(name))])
    return rows


if __name__ == "__main__":
    main()
