"""Shards and parts of stored log-probs with right hashes and hostile content: typed errors,
bounded memory, no process that dies.
"""

import json
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from crafted import MAGIC, data_set_of, message_of, windows
from numbered import numbered, numbered_pairs
from zephyr_fast import InputError, IntegrityError, Shards, ZephyrError
from zephyr_fast.dataset.manifest import seal
from zephyr_fast.load.columns import SCHEMAS
from zephyr_fast.train.ref_logprobs import store
from zephyr_fast.untrusted.message import metadata

MEMORY_MORE_MAX = 100 << 10
"""KiB; the bombs below would take 800 MB and more."""


@pytest.fixture(scope="module")
def like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered(tmp_path_factory.mktemp("like") / "set", 3)


@pytest.fixture(scope="module")
def like_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_pairs(tmp_path_factory.mktemp("like") / "set", 3)


def test_what_is_crafted_here_is_read_where_it_is_not_hostile(like: Path, tmp_path: Path) -> None:
    shards = Shards(data_set_of(like, tmp_path / "set", message_of(windows([0, 4, 8])), 2), "train")
    assert [sample["input_ids"].tolist() for sample in shards.samples([0, 1])] == [
        [0, 1, 2, 3],
        [4, 5, 6, 7],
    ]


@pytest.mark.parametrize(
    "offsets",
    [
        [0, 8, 2],
        [0, 16, 0],
        [0, -(2**31), 8],
        [-5, 4, 8],
        [0, 2**31 - 1, 2**31 - 1],
        [0, 1000, 1000],
        [8, 4, 0],
    ],
)
def test_lists_that_do_not_follow_one_another_are_refused(
    like: Path, tmp_path: Path, offsets: list[int]
) -> None:
    good = message_of(windows([0, 4, 8]))
    bad = good.replace(
        np.array([0, 4, 8], np.int32).tobytes(), np.array(offsets, np.int32).tobytes()
    )
    assert bad != good
    shards = Shards(data_set_of(like, tmp_path / "set", bad, 2), "train")
    for read in (lambda: shards.samples([0]), lambda: shards[1], shards.lengths):
        with pytest.raises(IntegrityError, match=r"train-00000\.arrow.*batch 0"):
            read()


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_compressed_batch_is_refused_before_it_is_inflated(
    like: Path, tmp_path: Path, codec: str
) -> None:
    bomb = message_of(windows([0, 50_000_000], 50_000_000), codec)
    shards = Shards(data_set_of(like, tmp_path / "set", bomb, 1), "train")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(IntegrityError, match="compressed"):
        shards.samples([0])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_MORE_MAX


def test_a_message_is_refused_whichever_number_of_its_header_is_another(
    like: Path, like_pairs: Path, tmp_path: Path
) -> None:
    """Every 16-, 32- and 64-bit number of the header in turn, set to what tends to hurt."""
    batch = pa.RecordBatch.from_pylist(
        [
            {
                "prompt_ids": [1, 2],
                "chosen_ids": [3],
                "rejected_ids": [],
                "score_chosen": 1.0,
                "score_rejected": None,
                "row_id": 0,
                "pair": 0,
            }
        ]
        * 2,
        schema=SCHEMAS["preference"],
    )
    tried = 0
    for kind, good in (("sft", message_of(windows([0, 4, 8]))), ("preference", message_of(batch))):
        (size,) = struct.unpack_from("<i", good, 4)
        folder = data_set_of(like if kind == "sft" else like_pairs, tmp_path / kind, good, 2)
        told = json.loads((folder / "manifest.json").read_text())
        for form, step in (("<H", 2), ("<i", 4), ("<q", 8)):
            for place in range(0, 8 + size, step):
                for number in hurting(form):
                    bad = bytearray(good)
                    struct.pack_into(form, bad, place, number)
                    reseal(folder, told, bytes(bad))
                    tried += 1
                    try:
                        shards = Shards(folder, "train")
                        assert (
                            len(shards.samples([0, 1])) == 2
                            and len(shards[1])
                            and len(shards.lengths()) == 2
                        )
                    except IntegrityError as error:
                        assert "train-00000.arrow" in str(error)
    assert tried > 2_000


def hurting(form: str) -> tuple[int, ...]:
    return {
        "<H": (0, 1, 0x7FFF, 0xFFFF),
        "<i": (-1, 0, 2**31 - 1, -(2**31)),
        "<q": (-1, 2**61, 2**63 - 1, 222),
    }[form]


def reseal(folder: Path, told: dict[str, Any], message: bytes) -> None:
    told["splits"]["train"]["shards"][0]["batches"][0]["xxh3"] = xxhash.xxh3_64(message).hexdigest()
    (folder / "train-00000.arrow").write_bytes(MAGIC + message)
    (folder / "manifest.json").write_text(seal(told))


@pytest.mark.parametrize("lengths", [[-4, 12], [2**31 - 1, 1], [4, 5], [0, 0]])
def test_documents_that_do_not_make_up_their_window_are_refused(
    like: Path, tmp_path: Path, lengths: list[int]
) -> None:
    """Collators make positions of them."""
    batch = windows([0, 4, 8])
    columns = [
        *batch.columns[:2],
        pa.array([[one] for one in lengths], pa.list_(pa.int32())),
        batch.column(3),
    ]
    message = message_of(pa.RecordBatch.from_arrays(columns, schema=SCHEMAS["sft"]))
    shards = Shards(data_set_of(like, tmp_path / "set", message, 2), "train")
    with pytest.raises(IntegrityError, match="seq_lengths"):
        shards.samples([0, 1])


def test_nulls_and_missing_columns_are_refused(like: Path, tmp_path: Path) -> None:
    batch = windows([0, 4, 8])
    cases = {
        "nulls": pa.RecordBatch.from_arrays(
            [pa.array([None, [1]], pa.list_(pa.int32())), *batch.columns[1:]], schema=SCHEMAS["sft"]
        ),
        "columns": pa.RecordBatch.from_arrays(batch.columns[:3], names=["a", "b", "c"]),
        "fit|lie|body": pa.RecordBatch.from_arrays(
            [pa.array([[1], [2]], pa.list_(pa.int8()))] * 3
            + [pa.array([[1], [2]], pa.list_(pa.int8()))],
            names=list("abcd"),
        ),
    }
    for number, (what, hostile) in enumerate(cases.items()):
        shards = Shards(data_set_of(like, tmp_path / str(number), message_of(hostile), 2), "train")
        with pytest.raises(IntegrityError, match=what):
            shards.samples([0])


CUT = """
import sys
from zephyr_fast import IntegrityError, Shards
shards = Shards(sys.argv[1], "train")
shards.samples([0])
open(sys.argv[1] + "/train-00000.arrow", "r+b").truncate(int(sys.argv[2]))
try:
    shards.samples([5])
except IntegrityError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [0, 100])
def test_a_shard_that_was_cut_while_it_is_in_use_is_said(tmp_path: Path, size: int) -> None:
    folder = numbered(tmp_path / "set", 20)
    around = os.environ | {"PYTHONPATH": str(Path(store.__file__).parents[3])}
    words = [sys.executable, "-c", CUT, str(folder), str(size)]
    done = subprocess.run(words, capture_output=True, text=True, env=around, check=False)
    assert done.returncode == 0 and f"was truncated to {size} of" in done.stdout, done.stderr


VALUES = np.array([[1.5, -2.5], [3.25, 0.0]], np.float32)


def test_every_part_with_one_number_changed_is_the_same_or_refused(tmp_path: Path) -> None:
    """In the header, where a length of 2^61 once ended the process."""
    good = store.part_bytes(VALUES)
    assert np.array_equal(store.read_part(good, tmp_path, 2), VALUES)
    end = 8 + metadata(memoryview(good)[8:])[1] + 400
    for form, step in (("<H", 2), ("<i", 4), ("<q", 8)):
        for place in range(8, end - end % 8, step):
            for number in hurting(form):
                bad = bytearray(good)
                struct.pack_into(form, bad, place, number)
                try:
                    assert np.array_equal(store.read_part(bytes(bad), tmp_path, 2), VALUES)
                except IntegrityError:
                    continue


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.list_(pa.float32()), pa.dictionary(pa.int8(), pa.float32()), pa.int64()],
)
def test_a_part_of_other_columns_is_refused(tmp_path: Path, kind: pa.DataType) -> None:
    columns = [pa.array([None, None], kind)] * 2
    schema = pa.schema([(name, kind) for name in store.COLUMNS], metadata={"sha256": "0"})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    with pytest.raises(IntegrityError):
        store.read_part(sink.getvalue().to_pybytes(), tmp_path, 2)


def test_a_compressed_part_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    schema = pa.schema([(name, pa.float32()) for name in store.COLUMNS])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(
        sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as writer:
        writer.write_batch(
            pa.record_batch([pa.array(np.zeros(1 << 20, np.float32))] * 2, schema=schema)
        )
    with pytest.raises(IntegrityError, match="compressed"):
        store.read_part(sink.getvalue().to_pybytes(), tmp_path, 1 << 20)


KEY = store.Key("w", "c", "float32", "s", "t", "p", 8)


def stored(prefs: Path) -> Path:
    """Log-probs of two pairs; gives their directory."""
    prefs.mkdir(parents=True)
    folder = KEY.folder(prefs)
    store.write_part(folder / "train-00000.arrow", VALUES)
    store.write_manifest(prefs, KEY, {"train": 2})
    return folder


@pytest.mark.parametrize("place", ["_ref", "key", "manifest.json", "train-00000.arrow"])
def test_links_in_stored_log_probs_are_not_followed(tmp_path: Path, place: str) -> None:
    folder = stored(tmp_path / "prefs")
    path = {"_ref": folder.parent, "key": folder}.get(place, folder / place)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises((IntegrityError, InputError), match="link"):
        store.read(tmp_path / "prefs", KEY, "train")


def test_a_link_is_neither_written_through_nor_swept_through(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / ".zephyr-draft-x").write_text("precious")
    (tmp_path / "prefs").mkdir()
    (tmp_path / "prefs" / "_ref").symlink_to(tmp_path / "outside")
    with pytest.raises(ZephyrError, match="link"):
        store.write_part(KEY.folder(tmp_path / "prefs") / "train-00000.arrow", VALUES)
    assert [path.name for path in (tmp_path / "outside").iterdir()] == [".zephyr-draft-x"]
    (tmp_path / "prefs" / "_ref").unlink()
    folder = stored(tmp_path / "prefs2")
    (folder / "train-00000.arrow").unlink()
    (folder / "train-00000.arrow").symlink_to(tmp_path / "outside" / ".zephyr-draft-x")
    store.write_part(folder / "train-00000.arrow", VALUES)
    assert (tmp_path / "outside" / ".zephyr-draft-x").read_text() == "precious"


@pytest.mark.parametrize(
    "change",
    [
        {"pairs": -1},
        {"pairs": True},
        {"pairs": 2**64},
        {"pairs": 5},
        {"parts": {}},
        {"parts": [{"file": "../x", "sha256": "0"}]},
        {"parts": [{"file": "train-00001.arrow", "sha256": "0"}]},
        {"parts": [{"file": ["x"], "sha256": "0"}]},
        {"parts": [{"file": "train-00000.arrow", "sha256": 7}]},
        {"parts": [{"file": "train-00000.arrow\0", "sha256": "0"}]},
    ],
)
def test_a_manifest_of_log_probs_lists_its_own_parts_or_is_refused(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = stored(tmp_path / "prefs")
    told = json.loads((folder / "manifest.json").read_text())
    told["splits"]["train"] |= change
    (folder / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(IntegrityError):
        store.read(tmp_path / "prefs", KEY, "train")


def test_deep_text_and_names_of_splits_in_a_manifest_of_log_probs_are_refused(
    tmp_path: Path,
) -> None:
    folder = stored(tmp_path / "prefs")
    told = json.loads((folder / "manifest.json").read_text())
    told["splits"]["../../x"] = told["splits"]["train"]
    for text in ("[" * 100_000, json.dumps(told), '{"schema": "\x1b[2J"}', "{" * 10):
        (folder / "manifest.json").write_text(text)
        with pytest.raises((IntegrityError, InputError)) as error:
            store.finished_splits(tmp_path / "prefs", KEY)
        assert "\x1b" not in str(error.value)


def test_a_batch_of_a_sparse_file_without_end_is_refused_before_it_is_hashed(
    like: Path, tmp_path: Path
) -> None:
    folder = data_set_of(like, tmp_path / "set", message_of(windows([0, 4, 8])), 2)
    told = json.loads((folder / "manifest.json").read_text())
    (card,) = told["splits"]["train"]["shards"]
    card["bytes"], card["batches"][0]["bytes"] = 1 << 40, (1 << 40) - 8
    os.truncate(folder / "train-00000.arrow", 1 << 40)
    (folder / "manifest.json").write_text(seal(told))
    with pytest.raises(IntegrityError, match="more than 1,073,741,824 bytes"):
        Shards(folder, "train")
