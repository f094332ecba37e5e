"""Run four reliability tests on other packages and on zephyr-fast, and write the results into
docs/reliability.md.

    # all tests, about two minutes (or: make compare)
    python scripts/compare_reliability.py
    # print the tables and change no file
    python scripts/compare_reliability.py --print

The tests are: flipped bits, a loader that is sharded twice, a stream that is resumed, and hostile
templates. zephyr-fast is the last row of each table.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "reliability.md"
MARKS = ("<!-- written by scripts/compare_reliability.py -->", "<!-- end -->")
SEED, FLIPS = 20_231_026, 400
RANKS, ROWS_OF_EPOCH = 4, 1_003
STREAM_ROWS, BUFFER = 10_000, 1_000
CPU_SECONDS, MEMORY_BYTES = 5, 2 << 30
Row = Sequence[object]


def main() -> None:
    tables = "\n\n".join([flipped_bits(), sharded_twice(), resumed_stream(), hostile_templates()])
    if "--print" in sys.argv:
        print(tables)
        return
    before, _, rest = DOCS.read_text("utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    DOCS.write_text(f"{before}{MARKS[0]}\n{tables}\n{MARKS[1]}{after}", "utf-8")


def table(title: str, heads: Row, rows: Iterable[Row]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return f"**{title}**\n\n" + "\n".join(
        "| " + " | ".join(map(str, line)) + " |" for line in lines
    )


def flipped_bits() -> str:
    """Flip one bit of a file at a time, and count if the reader returns the same rows, changed
    rows or an error, or crashes.
    """
    rows = []
    for reader in ("none", "lz4", "zstd", "ours"):
        found: Counter[str] = Counter()
        while (done := sum(found.values())) < FLIPS:
            words = [sys.executable, __file__, "flips", reader, str(done)]
            child = subprocess.run(
                words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
            )
            found.update(child.stdout.split())
            if child.returncode != 0:
                found["death"] += 1
        name = (
            "zephyr-fast"
            if reader == "ours"
            else f"pyarrow {version('pyarrow')}, {reader.replace('none', 'uncompressed')}"
        )
        harmless = found["same"]
        rows.append(
            [
                name,
                f"{found['other']} ({found['other'] / FLIPS:.1%})",
                found["error"],
                found["death"],
                harmless,
            ]
        )
    heads = [
        "reader of the same rows",
        "changed rows, silently",
        "error",
        "crash",
        "no row affected",
    ]
    return table(f"{FLIPS} flipped bits, one at a time, in an Arrow file", heads, rows)


def flips(reader: str, first: int) -> None:
    """Flip bits from number `first` on and print a word for each: the child of `flipped_bits`."""
    import pyarrow as pa

    from zephyr_fast import IntegrityError, Shards, prep

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        prep(input="sample", out=out)
        path = out / "train-00000.arrow"
        whole = pa.ipc.open_file(str(path)).read_all().combine_chunks()

        def read() -> Any:
            if reader != "ours":
                return pa.ipc.open_file(str(path)).read_all().to_pylist()
            return [
                {name: list(value) for name, value in row.items()} for row in Shards(out, "train")
            ]

        if reader != "ours":
            options = pa.ipc.IpcWriteOptions(compression=None if reader == "none" else reader)
            with pa.ipc.new_file(str(path), whole.schema, options=options) as writer:
                writer.write_table(whole)
        content, wanted = path.read_bytes(), read()
        for number in range(first, FLIPS):
            chance = random.Random(f"{SEED} {number}")
            damaged = bytearray(content)
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged)
            try:
                print("same" if read() == wanted else "other", flush=True)
            except (
                pa.ArrowException,
                IntegrityError,
                OSError,
                ValueError,
                KeyError,
                UnicodeError,
                OverflowError,
            ):
                print("error", flush=True)


class Numbers:
    """A dataset in which each row is its own number."""

    def samples(self, rows: Sequence[int]) -> list[Any]:
        return list(rows)


def ours(rank: int, world: int, size: int, state: Any = None) -> Any:
    """Return the loader of zephyr-fast over one epoch of such rows."""
    from zephyr_fast.load.loader import Batches, Loader, Part, Workers
    from zephyr_fast.load.order import Shuffled
    from zephyr_fast.load.stream import Stream

    part = Part(rank, world, 4)
    stream = Stream(
        Shuffled(size, SEED), part.batch, "pad", 0 if state is None else state.index_in_epoch
    )
    return Loader(
        Numbers(), Batches(stream, part, 0, stream.steps_to(size)), list, "", SEED, Workers()
    )


def lost_and_twice(rows: Iterable[int], size: int) -> Row:
    seen = Counter(row for row in rows if row >= 0)
    return [size - len(seen), sum(count - 1 for count in seen.values())]


def sharded_twice() -> str:
    """Read an epoch whose ranks already read separate parts, and which `prepare` shards again."""
    import torch
    from accelerate.data_loader import prepare_data_loader

    from zephyr_fast import ConfigError

    class Part(torch.utils.data.IterableDataset[int]):
        def __init__(self, rank: int) -> None:
            self.rank = rank

        def __iter__(self) -> Any:
            return iter(range(self.rank, ROWS_OF_EPOCH, RANKS))

    read: list[int] = []
    for rank in range(RANKS):
        loader = torch.utils.data.DataLoader(Part(rank), batch_size=4)
        prepared = prepare_data_loader(
            loader,
            num_processes=RANKS,
            process_index=rank,
            put_on_device=False,
            dispatch_batches=False,
        )
        read += [int(row) for batch in prepared for row in batch]
    refused = 0
    for rank in range(RANKS):
        loader = ours(rank, RANKS, ROWS_OF_EPOCH)
        try:
            prepare_data_loader(
                loader._torch_loader(loader.batches), num_processes=RANKS, process_index=rank
            )
        except ConfigError:
            refused += 1
    alone = [
        row for rank in range(RANKS) for batch in ours(rank, RANKS, ROWS_OF_EPOCH) for row in batch
    ]
    rows = [
        [
            f"accelerate {version('accelerate')}: an iterable with its own sharding, through "
            "`prepare`",
            *lost_and_twice(read, ROWS_OF_EPOCH),
            "none",
        ],
        [
            "zephyr-fast",
            *lost_and_twice(alone, ROWS_OF_EPOCH),
            f"if wrapped again: on {refused} of {RANKS} ranks",
        ],
    ]
    return table(
        f"One epoch of {ROWS_OF_EPOCH:,} rows on {RANKS} ranks",
        ["loader", "rows lost", "rows read twice", "error"],
        rows,
    )


def resumed_stream() -> str:
    """Interrupt a shuffled stream, save and load its state, and read it to its end."""
    import datasets

    def theirs(kills: int) -> list[int]:
        def fresh() -> Any:
            whole = datasets.Dataset.from_dict({"row": range(STREAM_ROWS)})
            return whole.to_iterable_dataset(num_shards=10).shuffle(seed=SEED, buffer_size=BUFFER)

        read, stream = [], fresh()
        for _ in range(kills):
            for number, sample in enumerate(stream, 1):
                read.append(sample["row"])
                if number == STREAM_ROWS // 6:
                    break
            state, stream = stream.state_dict(), fresh()
            stream.load_state_dict(state)
        return read + [sample["row"] for sample in stream]

    def of_us(kills: int) -> list[int]:
        read, state = [], None
        for left in range(kills, -1, -1):
            loader = ours(0, 1, STREAM_ROWS, state)
            for number, batch in enumerate(loader, 1):
                read += batch
                if left and number == STREAM_ROWS // 6 // 4:
                    break
            state = loader.state()
        return read

    name = f"datasets {version('datasets')}, `.shuffle(buffer_size={BUFFER:,})`"
    rows = [
        [reader, kills, *lost_and_twice(read(kills), STREAM_ROWS)]
        for reader, read in ((name, theirs), ("zephyr-fast", of_us))
        for kills in (1, 4)
    ]
    return table(
        f"A shuffled stream of {STREAM_ROWS:,} rows, interrupted and resumed",
        ["stream", "interruptions", "rows lost", "rows read twice"],
        rows,
    )


def hostile_templates() -> str:
    """Render hostile templates, which use up memory or time, on one short dialogue."""
    from zephyr_fast.prepare import canary

    hostile = sorted((ROOT / "tests" / "fixtures" / "hostile_templates").glob("*.jinja"))[::6]
    ends: Counter[str] = Counter()
    for path in hostile:
        child = subprocess.run(
            [sys.executable, __file__, "render", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        ends[child.stdout.decode() or ("time" if child.returncode == -9 else "death")] += 1
    questions = [
        json.dumps({"name": path.name, "text": path.read_text()}).encode() for path in hostile
    ]
    ended = [
        subprocess.run(canary.COMMAND, input=question, capture_output=True, check=False).returncode
        for question in questions
    ]
    refused = sum(code != 0 for code in ended)
    rows = [
        [
            f"jinja2 {version('jinja2')}, sandboxed as in transformers",
            ends["refused"],
            ends["text"],
            ends["memory"],
            ends["time"],
            ends["death"],
        ],
        [
            f"zephyr-fast, at load, in a child process of {canary.CPU_SECONDS} s and "
            f"{canary.MEMORY_BYTES >> 20} "
            "MiB",
            refused,
            len(hostile) - refused,
            0,
            0,
            0,
        ],
    ]
    heads = [
        "engine",
        "rejected",
        "rendered",
        f"above {MEMORY_BYTES >> 30} GiB",
        f"above {CPU_SECONDS} s of CPU time",
        "crash",
    ]
    return table(
        f"{len(hostile)} hostile templates (every sixth of tests/fixtures/hostile_templates)",
        heads,
        rows,
    )


def render(path: str) -> None:
    """Render one template and print a word for the result: the child of `hostile_templates`."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, ensure_ascii=False)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    try:
        environment.from_string(Path(path).read_text()).render(
            messages=messages, add_generation_prompt=False, bos_token="", eos_token="</s>"
        )
        print("text", end="")
    except (MemoryError, RecursionError) as error:
        print("memory" if isinstance(error, MemoryError) else "refused", end="")
    except (jinja2.TemplateError, TypeError, ValueError, OverflowError, KeyError, AttributeError):
        print("refused", end="")


if __name__ == "__main__":
    if sys.argv[1:2] == ["flips"]:
        flips(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1:2] == ["render"]:
        render(sys.argv[2])
    else:
        main()
