"""Compare token ids and labels of a `prep` dataset with the HF tokenizer, document by document.

The dataset must be built without cleaning and with sequences long enough to truncate no document
(`end_to_end.py --compare-ids` does this). Each document is then its raw row, rendered and
tokenized.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from end_to_end_contenders import ZEPHYR, Batch, messages_of, tokenize, turns_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = npt.NDArray[np.int32]
COLUMNS = ("input_ids", "labels", "seq_lengths", "row_ids")


@dataclass(frozen=True)
class Comparison:
    """Number of compared rows, row ids that differ, and reasons why other rows are missing."""

    compared: int
    ids_differ: list[int]
    masks_differ: list[int]
    not_written: dict[str, int]


def compare(input: Path, out: Path, tokenizer: str, workers: int) -> Comparison:
    """Compare every document in `out` with its row of `input`."""
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    ours = {row_id: (ids, labels) for row_id, ids, labels in documents(out)}
    hf_tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    rows = datasets.load_dataset(
        "json", data_files=str(input), split="train", cache_dir=str(out / "hf")
    )
    rows = rows.add_column("row_id", range(len(rows))).select(sorted(ours))
    rows = rows.map(
        expect,
        batched=True,
        num_proc=workers,
        remove_columns=[name for name in rows.column_names if name != "row_id"],
        fn_kwargs={"tokenizer": hf_tokenizer, "opening": hf_tokenizer("")["input_ids"]},
    ).with_format("numpy")

    ids_differ, masks_differ = [], []
    for row in rows:
        ids, labels = ours[int(row["row_id"])]
        if not np.array_equal(ids, row["input_ids"]):
            ids_differ.append(int(row["row_id"]))
        elif not np.array_equal(labels != -100, row["assistant_masks"] == 1):
            masks_differ.append(int(row["row_id"]))
    return Comparison(len(ours), ids_differ, masks_differ, not_written(out))


def expect(rows: Batch, tokenizer: "PreTrainedTokenizerBase", opening: list[int]) -> Batch:
    """Return the ids of the rendered text with the tokenizer's post-processor, and the mask of
    the measured contender.
    """
    messages = [messages_of(turns) for turns in turns_of(rows)]
    texts = tokenizer.apply_chat_template(messages, chat_template=ZEPHYR, tokenize=False)
    masks = tokenize({"messages": messages}, tokenizer, opening)["assistant_masks"]
    return {"input_ids": tokenizer(texts)["input_ids"], "assistant_masks": masks}


def documents(out: Path) -> Iterator[tuple[int, Tokens, Tokens]]:
    """Row id, ids and labels of each document in the packed windows of every split."""
    import pyarrow as pa

    for shard in sorted(out.glob("*.arrow")):
        for window in pa.ipc.open_file(pa.memory_map(str(shard))).read_all().to_batches():
            for ids, labels, lengths, row_ids in zip(
                *(window[name] for name in COLUMNS), strict=True
            ):
                borders = np.cumsum(lengths.values.to_numpy())[:-1]
                parts = (np.split(column.values.to_numpy(), borders) for column in (ids, labels))
                yield from zip(row_ids.values.to_pylist(), *parts, strict=True)


def not_written(out: Path) -> dict[str, int]:
    """Return the reasons of the rows that are missing in the dataset, from its manifest."""
    rows = json.loads((out / "manifest.json").read_text("utf-8"))["rows"]
    reasons = {**rows["dropped"], **rows["quarantined"], **rows["duplicates"]}
    return {reason: count for reason, count in reasons.items() if count}
