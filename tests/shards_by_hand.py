"""The slow, obvious writer of token shards: what the engine writes, in a page of Python. Tests
compare and train with it.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from zephyr_fast.dataset.manifest import seal
from zephyr_fast.dataset.product import Product
from zephyr_fast.load.columns import SCHEMAS, id_columns

SAMPLE = Path(__file__).parents[1] / "python" / "zephyr_fast" / "sample"
Dialogue = list[dict[str, str]]


def tokenizer(folder: Path = SAMPLE / "tokenizer") -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


def render(dialogue: Dialogue, eos: str) -> str:
    return "".join(f"<|{turn['role']}|>\n{turn['content']}{eos}\n" for turn in dialogue)


def ids_of(text: str, tokens: PreTrainedTokenizerBase) -> list[int]:
    return [tokens.bos_token_id, *tokens(text, add_special_tokens=False)["input_ids"]]


def supervised(dialogue: Dialogue, tokens: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Ids and labels: what overlaps the content or the end token of an assistant's turn is
    trained.
    """
    text, spans = "", []
    for turn in dialogue:
        start = len(text) + len(f"<|{turn['role']}|>\n")
        text += render([turn], tokens.eos_token)
        if turn["role"] == "assistant":
            spans.append((start, len(text) - 1))
    coded = tokens(text, add_special_tokens=False, return_offsets_mapping=True)
    labels = [-100]
    for id, (start, end) in zip(coded["input_ids"], coded["offset_mapping"], strict=True):
        labels.append(id if any(start < stop and end > begin for begin, stop in spans) else -100)
    return [tokens.bos_token_id, *coded["input_ids"]], labels


def windows(
    dialogues: list[Dialogue], tokens: PreTrainedTokenizerBase, seq_len: int
) -> list[dict[str, Any]]:
    """First fit, in order; dialogues that are too long are left out."""
    rows: list[dict[str, Any]] = []
    for row_id, dialogue in enumerate(dialogues):
        ids, labels = supervised(dialogue, tokens)
        if len(ids) > seq_len:
            continue
        row = next((row for row in rows if len(row["input_ids"]) + len(ids) <= seq_len), None)
        if row is None:
            row = {"input_ids": [], "labels": [], "seq_lengths": [], "row_ids": []}
            rows.append(row)
        row["input_ids"] += ids
        row["labels"] += labels
        row["seq_lengths"].append(len(ids))
        row["row_ids"].append(row_id)
    return rows


def pair(
    prompt: str, chosen: str, rejected: str, row_id: int, tokens: PreTrainedTokenizerBase
) -> dict[str, Any]:
    asked = render([{"role": "user", "content": prompt}], tokens.eos_token) + "<|assistant|>\n"
    prompt_ids = ids_of(asked, tokens)
    row: dict[str, Any] = {
        "prompt_ids": prompt_ids,
        "score_chosen": 9.0,
        "score_rejected": 1.0,
        "row_id": row_id,
        "pair": 0,
    }
    for side, answer in (("chosen_ids", chosen), ("rejected_ids", rejected)):
        whole = ids_of(f"{asked}{answer}{tokens.eos_token}\n", tokens)
        assert whole[: len(prompt_ids)] == prompt_ids
        row[side] = whole[len(prompt_ids) :]
    return row


def write(
    folder: Path,
    kind: str,
    splits: dict[str, list[dict[str, Any]]],
    seq_len: int,
    rows_per_batch: int = 8,
) -> Path:
    """A whole out folder but for text, ledger and data card; two shards a split where there is
    more than one batch.
    """
    folder.mkdir(parents=True)
    shutil.copytree(SAMPLE / "tokenizer", folder / "tokenizer")
    cards = {
        name: _split(folder, name, kind, rows, seq_len, rows_per_batch)
        for name, rows in splits.items()
        if rows
    }
    written = sum(card["rows"] for card in cards.values())
    manifest = {
        "schema": 3,
        "kind": kind,
        "engine": "shards_by_hand",
        "semantics": {},
        "fingerprint": hashlib.sha256(json.dumps(cards).encode()).hexdigest(),
        "recipe": {"name": "by hand", "sha256": "", "text": ""},
        "tokenizer": {"sha256": "", "vocab_size": 2048, "bos": "<s>", "eos": "</s>", "pad": "</s>"},
        "template": {
            "name": "zephyr",
            "sha256": "",
            "end_tokens": [],
            "ends": [],
            "foreign_markers": [],
        },
        "inputs": [],
        "rows": {
            "read": written,
            "written": written,
            "dropped": {},
            "duplicates": {},
            "quarantined": {},
        },
        "phrases": {},
        "shapes": {},
        "role_words": {},
        "structure": {
            "rows_cut": 0,
            "messages_cut": 0,
            "rows_starting_with_assistant": 0,
            "rows_with_repeated_role": 0,
        },
        "truecase": {"rows": 0, "letters_changed": 0},
        "dedup": {"near_search_truncated": 0},
        "doubtful_pairs": {},
        "decontamination": {"status": "not checked", "rows_matched": 0, "sets": []},
        "splits": cards,
        "files": [_file(folder, path) for path in sorted((folder / "tokenizer").iterdir())],
    }
    (folder / "manifest.json").write_text(seal(manifest))
    return folder


def _split(
    folder: Path,
    name: str,
    kind: str,
    rows: list[dict[str, Any]],
    seq_len: int,
    rows_per_batch: int,
) -> dict[str, Any]:
    batches = [
        rows[start : start + rows_per_batch] for start in range(0, len(rows), rows_per_batch)
    ]
    middle = (len(batches) + 1) // 2
    parts = [part for part in (batches[:middle], batches[middle:]) if part]
    shards = [
        _shard(folder, f"{name}-{number:05}.arrow", kind, part) for number, part in enumerate(parts)
    ]
    return {
        "rows": sum(len(row.get("seq_lengths", [0])) for row in rows),
        "examples": len(rows),
        "tokens": sum(shard["tokens"] for shard in shards),
        "label_tokens": 0,
        "tokens_truncated": 0,
        "label_tokens_truncated": 0,
        "rows_truncated": 0,
        "seq_len": seq_len,
        "shards": shards,
        "text": [],
    }


def _shard(
    folder: Path, file: str, kind: str, batches: Iterable[list[dict[str, Any]]]
) -> dict[str, Any]:
    ids = id_columns(Product(kind))
    schema, cards, rows, tokens, end = SCHEMAS[kind], [], 0, 0, 0
    records = [pa.RecordBatch.from_pylist(batch, schema=schema) for batch in batches]
    with pa.OSFile(str(folder / file), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for record in records:
            writer.write_batch(record)
    written = (folder / file).read_bytes()
    for record in records:
        message = record.serialize().to_pybytes()
        offset = written.index(message, end)
        end = offset + len(message)
        cards.append(
            {
                "offset": offset,
                "bytes": len(message),
                "examples": len(record),
                "xxh3": xxhash.xxh3_64(message).hexdigest(),
            }
        )
        rows += len(record)
        tokens += sum(len(record.column(name).flatten()) for name in ids if name in schema.names)
    return {**_file(folder, folder / file), "examples": rows, "tokens": tokens, "batches": cards}


def _file(folder: Path, path: Path) -> dict[str, Any]:
    written = path.read_bytes()
    return {
        "file": str(path.relative_to(folder)),
        "bytes": len(written),
        "sha256": hashlib.sha256(written).hexdigest(),
    }
