"""Crafts Arrow messages and data sets whose hashes are right although their content is hostile."""

import hashlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from zephyr_fast.dataset.manifest import seal
from zephyr_fast.load.columns import SCHEMAS

MAGIC = b"ARROW1\0\0"


def message_of(batch: pa.RecordBatch, codec: str | None = None) -> bytes:
    """The record batch's message, as pyarrow writes it; compressed by `codec`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=codec)
    ) as writer:
        writer.write_batch(batch)
    stream = sink.getvalue().to_pybytes()
    (size,) = struct.unpack_from("<i", stream, 4)
    return stream[8 + size : -8]  # behind the schema, before the end


def windows(offsets: list[int], values: int = 16) -> pa.RecordBatch:
    """Packed windows of one document each, with these list offsets, of whatever kind they are."""
    rows = len(offsets) - 1
    ids = lists(offsets, np.arange(values, dtype=np.int32), pa.int32())
    lengths = np.diff(np.array(offsets, np.int64)).astype(np.int32)
    ones = list(range(rows + 1))
    columns = [
        ids,
        ids,
        lists(ones, lengths, pa.int32()),
        lists(ones, np.zeros(rows, np.int64), pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMAS["sft"])


def lists(offsets: list[int], values: Any, kind: pa.DataType) -> pa.ListArray:
    inner = pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
    return pa.ListArray.from_buffers(
        pa.list_(kind),
        len(offsets) - 1,
        [None, pa.py_buffer(np.array(offsets, np.int32))],
        children=[inner],
    )


def data_set_of(like: Path, folder: Path, message: bytes, rows: int) -> Path:
    """A copy of the data set `like` whose train split is this one message, with the right
    hashes.
    """
    shutil.copytree(like, folder)
    content = MAGIC + message
    told = json.loads((folder / "manifest.json").read_text())
    batch = {
        "offset": 8,
        "bytes": len(message),
        "examples": rows,
        "xxh3": xxhash.xxh3_64(message).hexdigest(),
    }
    card = {
        "file": "train-00000.arrow",
        "examples": rows,
        "tokens": 1,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    told["splits"] = {
        "train": told["splits"]["train"]
        | {"examples": rows, "shards": [card | {"batches": [batch]}]}
    }
    (folder / "train-00000.arrow").write_bytes(content)
    (folder / "manifest.json").write_text(seal(told))
    return folder
