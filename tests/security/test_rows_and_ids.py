"""Rows that do not exist, and ids that no tokenizer has: refused before memory is made for them,
or a model looks them up.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crafted import data_set_of, message_of, windows
from numbered import numbered
from zephyr_fast import IntegrityError, Shards
from zephyr_fast.dataset.manifest import seal


def sparse(folder: Path, rows: int, batch_rows: int) -> Path:
    """A data set that says it has so many rows, in a file that is one hole."""
    numbered(folder, 3)
    told = json.loads((folder / "manifest.json").read_text())
    size = 40 * batch_rows + 64
    batches = [
        {"offset": start * size, "bytes": size, "examples": batch_rows, "xxh3": "0" * 16}
        for start in range(rows // batch_rows)
    ]
    card = told["splits"]["train"]["shards"][0] | {
        "examples": rows,
        "bytes": size * len(batches),
        "batches": batches,
    }
    told["splits"]["train"] |= {"examples": rows, "shards": [card]}
    (folder / card["file"]).write_bytes(b"")
    os.truncate(folder / card["file"], card["bytes"])
    (folder / "manifest.json").write_text(seal(told))
    return folder


@pytest.mark.parametrize(
    "rows, batch_rows, says",
    [
        (1 << 24, 1 << 24, "bytes and 16777216 rows"),
        (1 << 22, 1 << 18, "mostly empty"),
        (1 << 29, 1 << 18, "more than"),
    ],
)
def test_rows_that_are_not_there_make_no_table(
    rows: int, batch_rows: int, says: str, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match=says):
        Shards(sparse(tmp_path / "set", rows, batch_rows), "train")


@pytest.mark.parametrize("id", [-1, -(2**31), 2048, 2**31 - 1])
def test_ids_that_the_tokenizer_does_not_have_are_refused(id: int, tmp_path: Path) -> None:
    good = message_of(windows([0, 4, 8]))
    bad = good.replace(
        np.arange(16, dtype=np.int32).tobytes(),
        np.array([0, 1, id, *range(3, 16)], np.int32).tobytes(),
    )
    shards = Shards(data_set_of(numbered(tmp_path / "like", 3), tmp_path / "set", bad, 2), "train")
    with pytest.raises(IntegrityError, match=r"`input_ids` contains the id"):
        shards.samples([0])


def test_a_label_is_the_id_at_its_place_or_none(tmp_path: Path) -> None:
    good, ids = message_of(windows([0, 4, 8])), np.arange(16, dtype=np.int32).tobytes()
    place = good.rindex(ids)
    bad = (
        good[:place]
        + np.array([0, 1, 7, *range(3, 16)], np.int32).tobytes()
        + good[place + len(ids) :]
    )
    shards = Shards(data_set_of(numbered(tmp_path / "like", 3), tmp_path / "set", bad, 2), "train")
    with pytest.raises(IntegrityError, match="label"):
        shards.samples([0])


def test_ids_that_leave_some_out_are_the_tokenizers(tmp_path: Path) -> None:
    like: Any = numbered(tmp_path / "like", 3)
    told = json.loads((like / "manifest.json").read_text())
    told["tokenizer"]["vocab_size"] = 10  # the file's own ids go on to 2047
    (like / "manifest.json").write_text(seal(told))
    assert (
        len(
            Shards(
                data_set_of(like, tmp_path / "set", message_of(windows([0, 4, 16])), 2), "train"
            ).samples([1])[0]["input_ids"]
        )
        == 12
    )
