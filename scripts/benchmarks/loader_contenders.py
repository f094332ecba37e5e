"""Write the files of one contender of `loader.py`, or read them and report, in its process."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from clock import Clock

# Tokens of a sequence, sequences of a record batch (2 MiB).
LENGTH, SHARD = (int(os.environ.get("LENGTH", "2048")), 128)
NAMES = ("input_ids", "labels")[: int(os.environ.get("COLUMNS", "2"))]


def samples(rows: int) -> Iterator[dict[str, Any]]:
    """Yield the same sequences for every contender."""
    chance = np.random.default_rng(0)
    for _ in range(rows):
        ids = chance.integers(3, 32000, LENGTH, dtype=np.int32)
        sample = {
            "input_ids": ids,
            "labels": np.where(chance.random(LENGTH) < 0.6, ids, np.int32(-100)),
        }
        yield {name: sample[name] for name in NAMES}


def write_ours(folder: Path, rows: int) -> None:
    """Write a dataset as `zephyr-fast prep` does, without text, tokenizer and ledger."""
    import pyarrow as pa
    import xxhash

    from zephyr_fast.dataset.manifest import seal
    from zephyr_fast.load.columns import SCHEMAS

    schema, cards, table = SCHEMAS["sft"], [], samples(rows)
    folder.mkdir(parents=True)
    path = folder / "train-00000.arrow"
    with pa.OSFile(str(path), "wb") as sink:
        for start in range(0, rows, SHARD):
            part = list(islice(table, SHARD))
            message = _batch(part, start, schema).serialize().to_pybytes()
            sink.write(b"\0" * (-sink.tell() % 64))
            cards.append({"offset": sink.tell(), "bytes": len(message), "examples": len(part)})
            cards[-1]["xxh3"] = xxhash.xxh3_64(message).hexdigest()
            sink.write(message)
    shard = {
        "file": path.name,
        "examples": rows,
        "tokens": rows * LENGTH,
        "bytes": path.stat().st_size,
        "sha256": "",
        "batches": cards,
    }
    (folder / "manifest.json").write_text(seal(manifest(shard, rows)))


def manifest(shard: dict[str, Any], rows: int) -> dict[str, Any]:
    """Return a manifest with one split of one shard."""
    sums = {
        name: 0
        for name in ("label_tokens", "tokens_truncated", "label_tokens_truncated", "rows_truncated")
    }
    split = {
        "rows": rows,
        "examples": rows,
        "tokens": rows * LENGTH,
        "seq_len": LENGTH,
        "shards": [shard],
        "text": [],
        **sums,
    }
    return {
        "schema": 2,
        "kind": "sft",
        "engine": "bench",
        "semantics": {},
        "fingerprint": hashlib.sha256(json.dumps(shard).encode()).hexdigest(),
        "recipe": {"name": "bench", "sha256": "", "text": ""},
        "tokenizer": {"sha256": "", "vocab_size": 32000, "bos": None, "eos": None, "pad": None},
        "template": {
            "name": "none",
            "sha256": "",
            "end_tokens": [],
            "ends": [],
            "foreign_markers": [],
        },
        "inputs": [],
        "rows": {"read": rows, "written": rows, "dropped": {}, "duplicates": {}, "quarantined": {}},
        "phrases": {},
        "truecase": {"rows": 0, "letters_changed": 0},
        "dedup": {"near_search_truncated": 0},
        "doubtful_pairs": {},
        "role_words": {},
        "decontamination": {"status": "not checked", "rows_matched": 0, "sets": []},
        "splits": {"train": split},
        "files": [],
    }


def _batch(table: list[dict[str, Any]], first: int, schema: Any) -> Any:
    import pyarrow as pa

    offsets = pa.array(np.arange(len(table) + 1, dtype=np.int32) * LENGTH)
    one = pa.array(np.arange(len(table) + 1, dtype=np.int32))
    # The format has both columns.
    ids = [np.concatenate([row[name] for row in table]) for name in (NAMES[0], NAMES[-1])]
    columns = [pa.ListArray.from_arrays(offsets, pa.array(values)) for values in ids]
    columns.append(pa.ListArray.from_arrays(one, pa.array(np.full(len(table), LENGTH, np.int32))))
    columns.append(pa.ListArray.from_arrays(one, pa.array(np.arange(first, first + len(table)))))
    return pa.record_batch(
        [column.cast(field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )


def write_datasets(folder: Path, rows: int) -> None:
    from datasets import Dataset, Features, Sequence, Value

    table = list(samples(rows))
    features = Features({name: Sequence(Value("int32")) for name in NAMES})
    Dataset.from_dict(
        {name: [row[name] for row in table] for name in features}, features=features
    ).save_to_disk(folder)


def write_litdata(folder: Path, rows: int) -> None:
    """Write the fastest format of litdata: one stream of tokens in blocks of ids and labels."""
    from litdata.streaming.item_loader import TokensLoader
    from litdata.streaming.writer import BinaryWriter

    folder.mkdir(parents=True)
    writer = BinaryWriter(
        str(folder),
        chunk_size=len(NAMES) * LENGTH * SHARD * 4,
        item_loader=TokensLoader(len(NAMES) * LENGTH),
    )
    import torch

    for number, row in enumerate(samples(rows)):
        writer[number] = torch.from_numpy(np.concatenate(list(row.values())))
    writer.done()
    writer.merge()


def write_streaming(folder: Path, rows: int) -> None:
    from streaming import MDSWriter

    columns = {name: f"ndarray:int32:{LENGTH}" for name in NAMES}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for row in samples(rows):
            writer.write(row)


def open_ours(folder: Path, epochs: int, batch: int, workers: int) -> Iterator[Iterable[Any]]:
    from zephyr_fast.load.gather import PlainCollator
    from zephyr_fast.load.loader import Batches, Loader, Part, Workers
    from zephyr_fast.load.shards import Shards
    from zephyr_fast.load.stream import Stream

    shards = Shards(folder, "train")
    stream = Stream(shards.order(0), batch, "carry")
    batches = Batches(stream, Part(0, 1, batch), 0, stream.steps_to(epochs * len(shards)))
    gather = PlainCollator(tuple((name, 0) for name in NAMES))
    yield Loader(shards, batches, gather, shards.identity, 0, Workers(workers))


def open_datasets(folder: Path, epochs: int, batch: int, workers: int) -> Iterator[Iterable[Any]]:
    from datasets import load_from_disk
    from torch.utils.data import DataLoader

    dataset = load_from_disk(str(folder)).with_format("torch")
    for _ in range(epochs):
        yield DataLoader(dataset, batch_size=batch, shuffle=True, num_workers=workers)


def open_litdata(folder: Path, epochs: int, batch: int, workers: int) -> Iterator[Iterable[Any]]:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.item_loader import TokensLoader

    dataset = StreamingDataset(
        str(folder), item_loader=TokensLoader(len(NAMES) * LENGTH), shuffle=True, seed=0
    )
    for _ in range(epochs):
        yield StreamingDataLoader(dataset, batch_size=batch, num_workers=workers)


def open_streaming(folder: Path, epochs: int, batch: int, workers: int) -> Iterator[Iterable[Any]]:
    from streaming import StreamingDataset
    from torch.utils.data import DataLoader

    dataset = StreamingDataset(local=str(folder), shuffle=True, shuffle_seed=0, batch_size=batch)
    for _ in range(epochs):
        yield DataLoader(dataset, batch_size=batch, num_workers=workers)


def read(name: str, folder: Path, epochs: int, batch: int, workers: int) -> dict[str, float]:
    """Read all epochs. The clock of this process starts at the first batch, those of the workers
    at their start.
    """
    import torch
    import torch.utils.data

    for module in (
        ("zephyr_fast.load.loader", "zephyr_fast.load.shards", "zephyr_fast.load.gather")
        if name == "ours"
        else (name,)
    ):
        __import__(module)
    torch.set_num_threads(1)
    clock, numbers = Clock(), 0
    for loader in globals()[f"open_{name}"](folder, epochs, batch, workers):
        for tensors in loader:
            if not numbers:
                clock = Clock()
            numbers += sum(
                tensor.numel()
                for tensor in (tensors.values() if isinstance(tensors, dict) else [tensors])
            )
        del loader
    return {"tokens": numbers / len(NAMES)} | clock.report()


def start_up(folder: Path, batch: int) -> dict[str, float]:
    """Return the seconds from opening shards, as a trainer does, to the first shuffled batch.
    Modules are imported before.
    """
    import torch  # noqa: F401  # a trainer has imported it, too

    from zephyr_fast.load.gather import PlainCollator
    from zephyr_fast.load.index import IndexRows, open_shards
    from zephyr_fast.load.loader import Batches, Loader, Part
    from zephyr_fast.load.stream import Stream

    start = time.perf_counter()
    rows = IndexRows(open_shards(folder))
    stream = Stream(rows.order(0), batch, "carry")
    loader = Loader(
        rows,
        Batches(stream, Part(0, 1, batch), 0, stream.steps_to(len(rows))),
        PlainCollator(),
        rows.shards.identity,
        0,
    )
    next(iter(loader))
    return {"rows": len(rows), "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    act, contender, where, count, *rest = sys.argv[1:]
    place = Path(where) / contender
    if act == "write":
        if not place.exists():
            globals()[f"write_{contender}"](place, int(count))
        print(json.dumps({"rows": int(count)}))
    elif act == "start":
        print(json.dumps(start_up(place, *map(int, rest))))
    else:
        report = read(contender, place, *map(int, rest))
        assert report["tokens"] >= int(count) * LENGTH * int(rest[0]), report
        print(json.dumps(report))
