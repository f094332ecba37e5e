"""The contenders of `end_to_end.py`, each run in a separate process with cold caches.

`peer` is the common approach: load_dataset → map clean → map tokenize → TRL's packing →
save_to_disk. `pieces` combines the fastest libraries by hand: msgspec → re → join → gigatoken →
TRL's packing → Arrow, without masks. The others are variants of `prep`, see `OURS`.
The script receives one job as JSON and prints one report as JSON:

    python scripts/benchmarks/end_to_end_contenders.py '{"contender": "peer", …}'
"""

import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from clock import Clock, memory_largest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Argument and result of `map`: column names and their values.
Batch = dict[str, list[Any]]

# The recipe keys that each variant of `prep` changes in the bundled ultrachat recipe.
SAME_WORK = {"dedup.exact": "false", "dedup.near": "false", "shards.text": "false"}
UNCLEANED = SAME_WORK | {
    "truecase.enabled": "false",
    "filter": "[]",
    "tokenize.control_tokens": "allow",
}
OURS: dict[str, dict[str, str]] = {"ours": SAME_WORK, "ours uncleaned": UNCLEANED, "ours whole": {}}

# Zephyr's template with generation tags. The newline after the assistant message is quoted before
# `{% endif %}`: trim_blocks would remove a plain one after `{% endgeneration %}`, and the ids would
# differ.
ZEPHYR = (
    "{% for message in messages %}\n"
    "{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token "
    "}}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n' }}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{{ '\n' }}{% endif %}\n"
    "{% endfor %}"
)
SENTENCE = re.compile(r"(\A|[.!?]\s+)([a-z])")
PRONOUN = re.compile(r"\bi\b")


@dataclass(frozen=True)
class Job:
    """The task of one process. `input` is plain JSONL, and `out` does not exist yet."""

    contender: str
    input: str
    tokenizer: str
    out: str
    workers: int
    seq_len: int


@dataclass
class Report:
    """The result of a job: seconds per stage as (wall, CPU), counts of the output, and the peak
    bytes of the largest process.
    """

    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    rows: int = 0
    samples: int = 0
    tokens: int = 0
    memory_largest: int = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the time of the block, including finished worker processes."""
        clock = Clock()
        yield
        self.stages[name] = clock.seconds()


def main() -> None:
    job = Job(**json.loads(sys.argv[1]))
    report = {"peer": run_peer, "pieces": run_pieces}.get(job.contender, run_ours)(job)
    report.memory_largest = memory_largest()
    print(json.dumps(asdict(report)))


def run_peer(job: Job) -> Report:
    """Run `datasets` and TRL. Imports and the final count are not part of the measured time."""
    # Imported by name, because transformers loads a module only if one of its names is used.
    import datasets
    import pyarrow.compute as pc
    from transformers import AutoTokenizer
    from trl.data_utils import pack_dataset

    datasets.disable_progress_bars()
    report = Report()
    with report.stage("read"):
        dataset = datasets.load_dataset("json", data_files=job.input, split="train")
    with report.stage("truecase + filter"):
        dataset = dataset.map(
            clean,
            batched=True,
            num_proc=job.workers,
            remove_columns=dataset.column_names,
            fn_kwargs={"unwanted": any_of(phrases_of(ultrachat_recipe()))},
        )
    with report.stage("template + tokenize + mask"):
        tokenizer = AutoTokenizer.from_pretrained(job.tokenizer)
        # The BOS, if the tokenizer's post-processor adds one.
        opening = tokenizer("")["input_ids"]
        dataset = dataset.map(
            tokenize,
            batched=True,
            num_proc=job.workers,
            remove_columns=dataset.column_names,
            fn_kwargs={"tokenizer": tokenizer, "opening": opening},
        )
    with report.stage("pack"):
        packed = pack_dataset(dataset, job.seq_len, "bfd", map_kwargs={"num_proc": job.workers})
    with report.stage("write"):
        packed.save_to_disk(job.out)
    report.rows, report.samples = len(dataset), len(packed)
    report.tokens = pc.sum(pc.list_value_length(packed.data["input_ids"])).as_py()
    return report


def run_pieces(job: Job) -> Report:
    """Run the fastest well-known library for each stage, in one process. gigatoken uses all
    workers as threads.
    """
    import gigatoken
    import msgspec
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    from trl.data_utils import _pack_bfd

    class Row(msgspec.Struct):
        data: list[str]

    os.environ["RAYON_NUM_THREADS"] = str(job.workers)
    report = Report()
    with report.stage("read"):
        rows = msgspec.json.Decoder(Row).decode_lines(Path(job.input).read_bytes())
    with report.stage("truecase + filter"):
        kept = clean({"data": [row.data for row in rows]}, any_of(phrases_of(ultrachat_recipe())))[
            "messages"
        ]
    with report.stage("template + tokenize, no mask"):
        tokenizer = gigatoken.Tokenizer.from_json(
            (Path(job.tokenizer) / "tokenizer.json").read_bytes()
        )
        texts = [
            "".join(f"<|{turn['role']}|>\n{turn['content']}</s>\n" for turn in turns)
            for turns in kept
        ]
        ids = tokenizer.encode_batch(texts, parallel=job.workers > 1).layout
        values = np.asarray(ids.content.data, dtype=np.int32)
        samples = pa.LargeListArray.from_arrays(np.asarray(ids.offsets, dtype=np.int64), values)
    with report.stage("pack"):
        packed = _pack_bfd(pa.table({"input_ids": samples}), job.seq_len)
    with (
        report.stage("write"),
        pa.OSFile(job.out, "wb") as file,
        pa.ipc.new_file(file, packed.schema) as writer,
    ):
        writer.write_table(packed)
    report.rows, report.samples = len(kept), packed.num_rows
    report.tokens = pc.sum(pc.list_value_length(packed["input_ids"])).as_py()
    return report


def clean(rows: Batch, unwanted: re.Pattern[str]) -> Batch:
    """Truecase the messages and keep complete dialogues without unwanted phrases."""
    dialogues = [[truecase(text) for text in turns] for turns in turns_of(rows)]
    kept = [
        turns
        for turns in dialogues
        if is_whole(turns) and not any(unwanted.search(text) for text in turns[1::2])
    ]
    return {"messages": [messages_of(turns) for turns in kept]}


def tokenize(rows: Batch, tokenizer: "PreTrainedTokenizerBase", opening: list[int]) -> Batch:
    """Return the ids of the rendered text after the tokenizer's BOS, and TRL's assistant mask."""
    encoded = cast(
        dict[str, list[list[int]]],
        tokenizer.apply_chat_template(
            rows["messages"],
            chat_template=ZEPHYR,
            return_dict=True,
            return_assistant_tokens_mask=True,
        ),
    )
    return {
        "input_ids": [opening + ids for ids in encoded["input_ids"]],
        "assistant_masks": [[0] * len(opening) + mask for mask in encoded["assistant_masks"]],
    }


def truecase(text: str) -> str:
    """Capitalize starts of sentences and the pronoun, with common regular expressions."""
    text = SENTENCE.sub(lambda start: start[1] + start[2].upper(), text)
    return PRONOUN.sub("I", text)


def any_of(phrases: list[str]) -> re.Pattern[str]:
    """Return one alternation of all phrases."""
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, phrases))})\b", re.IGNORECASE)


def phrases_of(recipe: str) -> list[str]:
    """Return the phrases of the bundled recipe, so all contenders search for the same ones."""
    return [
        phrase for table in tomllib.loads(recipe)["filter"] for phrase in table.get("phrases", ())
    ]


def turns_of(rows: Batch) -> list[list[str]]:
    """Return the texts of each dialogue, from either raw format."""
    if "data" in rows:
        return rows["data"]
    return [[message["content"] for message in messages] for messages in rows["messages"]]


def is_whole(turns: list[str]) -> bool:
    return len(turns) > 0 and len(turns) % 2 == 0 and all(text.strip() for text in turns)


def messages_of(turns: list[str]) -> list[dict[str, str]]:
    return [
        {"role": ("user", "assistant")[index % 2], "content": text}
        for index, text in enumerate(turns)
    ]


def run_ours(job: Job) -> Report:
    """Run `prep`. It is one fused pass, so its stages cannot be timed separately."""
    from zephyr_fast import _core

    overrides = OURS[job.contender] | {"pack.seq_len": str(job.seq_len)}
    report = Report()
    with report.stage("total"):
        printed = _core.run(
            "prep",
            (ultrachat_recipe(), "ultrachat", list(overrides.items())),
            [job.input],
            job.tokenizer,
            job.out,
            threads=job.workers,
            overwrite=False,
            strict=False,
            max_bad_rows=None,
            on_progress=None,
        )
    splits = json.loads(printed)["splits"].values()
    report.rows = sum(split["rows"] for split in splits)
    report.samples = sum(split["examples"] for split in splits)
    report.tokens = sum(split["tokens"] for split in splits)
    return report


def ultrachat_recipe() -> str:
    return (files("zephyr_fast") / "recipes" / "ultrachat.toml").read_text("utf-8")


if __name__ == "__main__":
    main()
