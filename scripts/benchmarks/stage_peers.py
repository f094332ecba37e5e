"""Run one stage with another library, once, in a separate process, for `stages.py`.

    python scripts/benchmarks/stage_peers.py STAGE PEER INPUT TOKENIZER MEGABYTES

The script reads the rows (plain or compressed JSONL of `{"id", "data": [text, …]}`), prepares the
input of the stage, then runs the stage with fresh objects. It prints one line of JSON, like
`rust/core/benches/stage.rs`: seconds, bytes of the input, and amount of output. Slow libraries read
only the first MEGABYTES of text. Rates are per byte.
"""

import json
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import end_to_end_contenders as path_of_today
from clock import Clock

SEQ_LEN = 2048
PERMUTATIONS, BANDS, SHINGLE = 128, 16, 5
# A function that runs a stage and returns the amount of output.
Stage = Callable[[], int]


def main() -> None:
    stage, peer, source, tokenizer, megabytes = sys.argv[1:]
    work, size = PEERS[stage][peer](Rows(source, float(megabytes)), tokenizer)
    clock = Clock()
    made = work()
    print(json.dumps(clock.report() | {"bytes": size, "made": made}))


class Rows:
    """The input, limited to the megabytes that a slow library reads."""

    def __init__(self, source: str, megabytes: float) -> None:
        self.source, self.megabytes = source, megabytes

    def dialogues(self) -> list[list[str]]:
        dialogues = [json.loads(line)["data"] for line in read(self.source).splitlines()]
        ends = accumulate(size_of(turns) for turns in dialogues)
        return [
            turns for turns, end in zip(dialogues, ends, strict=True) if end <= self.megabytes * 1e6
        ]

    def messages(self) -> tuple[list[list[dict[str, str]]], int]:
        dialogues = self.dialogues()
        return [path_of_today.messages_of(turns) for turns in dialogues], sum(
            map(size_of, dialogues)
        )

    def texts(self) -> tuple[list[str], int]:
        texts = ["\n".join(turns) for turns in self.dialogues()]
        return texts, size_of(texts)

    def documents(self) -> tuple[list[str], int]:
        documents = [text for turns in self.dialogues() for text in turns[1::2]]
        return documents, size_of(documents)


def read(source: str) -> bytes:
    import pyarrow as pa

    with pa.input_stream(source, compression="detect") as stream:
        return stream.read()


def size_of(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def read_msgspec(rows: Rows, _: str) -> tuple[Stage, int]:
    import msgspec

    class Row(msgspec.Struct):
        data: list[str]
        id: str | int = ""

    decoder = msgspec.json.Decoder(Row)
    return lambda: len(decoder.decode_lines(read(rows.source))), len(read(rows.source))


def read_datasets(rows: Rows, _: str) -> tuple[Stage, int]:
    import datasets

    datasets.disable_progress_bars()
    folder = TemporaryDirectory()
    load = partial(
        datasets.load_dataset, "json", data_files=rows.source, split="train", cache_dir=folder.name
    )
    return lambda keep=folder: len(load()), len(read(rows.source))


def clean_re(rows: Rows, _: str) -> tuple[Stage, int]:
    dialogues = rows.dialogues()
    unwanted = path_of_today.any_of(path_of_today.phrases_of(path_of_today.ultrachat_recipe()))
    return lambda: len(path_of_today.clean({"data": dialogues}, unwanted)["messages"]), sum(
        map(size_of, dialogues)
    )


def template_transformers(rows: Rows, tokenizer: str) -> tuple[Stage, int]:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    messages, size = rows.messages()
    plain = path_of_today.ZEPHYR.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    return lambda: size_of(
        loaded.apply_chat_template(messages, chat_template=plain, tokenize=False)
    ), size


def sample_transformers(rows: Rows, tokenizer: str) -> tuple[Stage, int]:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    messages, size = rows.messages()
    return lambda: sum(
        map(len, path_of_today.tokenize({"messages": messages}, loaded, [])["input_ids"])
    ), size


def tokenize_tokenizers(rows: Rows, tokenizer: str) -> tuple[Stage, int]:
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(Path(tokenizer, "tokenizer.json")))
    texts, size = rows.texts()
    return lambda: sum(len(encoding.ids) for encoding in loaded.encode_batch_fast(texts)), size


def tokenize_gigatoken(rows: Rows, tokenizer: str) -> tuple[Stage, int]:
    import awkward
    import gigatoken

    json_bytes = Path(tokenizer, "tokenizer.json").read_bytes()
    texts, size = rows.texts()
    # Initialization that is done once per process.
    gigatoken.Tokenizer.from_json(json_bytes).encode_batch(texts[-100:], parallel=False)
    loaded = gigatoken.Tokenizer.from_json(json_bytes)
    return lambda: int(awkward.count(loaded.encode_batch(texts, parallel=False))), size


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def shingles(text: str) -> set[str]:
    found = words(text)
    return {
        " ".join(found[place : place + SHINGLE])
        for place in range(max(1, len(found) - SHINGLE + 1))
    }


def dedup_gaoya(rows: Rows, _: str) -> tuple[Stage, int]:
    from gaoya.minhash import MinHashStringIndex

    documents, size = rows.documents()

    def work() -> int:
        index = MinHashStringIndex(
            32, 0.7, BANDS, PERMUTATIONS // BANDS, None, "word", True, (SHINGLE, SHINGLE)
        )
        index.par_bulk_insert_docs(list(range(len(documents))), documents)
        found = index.par_bulk_query(documents)
        return sum(min(similar, default=place) >= place for place, similar in enumerate(found))

    return work, size


def dedup_rensa(rows: Rows, _: str) -> tuple[Stage, int]:
    from rensa import RMinHash, RMinHashLSH

    documents, size = rows.documents()

    def work() -> int:
        matrix = RMinHash.digest_matrix_from_token_sets(
            [shingles(text) for text in documents], PERMUTATIONS, 42
        )
        flags = RMinHashLSH(0.7, PERMUTATIONS, BANDS).query_duplicate_flags_matrix_one_shot(matrix)
        return len(flags) - sum(flags)

    return work, size


def pack_trl(rows: Rows, tokenizer: str, whole: bool) -> tuple[Stage, int]:
    import datasets
    from transformers import AutoTokenizer
    from trl import pack_dataset

    datasets.disable_progress_bars()
    datasets.disable_caching()
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    messages, _ = rows.messages()
    encoded = path_of_today.tokenize({"messages": messages}, loaded, [])
    features = datasets.Features(
        {
            "input_ids": datasets.List(datasets.Value("int32")),
            "assistant_masks": datasets.List(datasets.Value("int8")),
        }
    )
    dataset = datasets.Dataset.from_dict(encoded, features=features)
    map_kwargs = {"batch_size": len(dataset)} if whole else {}
    return lambda: len(pack_dataset(dataset, SEQ_LEN, "bfd", map_kwargs)), len(dataset)


PEERS: dict[str, dict[str, Callable[[Rows, str], tuple[Stage, int]]]] = {
    "read": {"msgspec": read_msgspec, "load_dataset": read_datasets},
    "clean": {"re": clean_re},
    "template": {"transformers": template_transformers},
    "sample": {"transformers": sample_transformers},
    "tokenize": {"gigatoken": tokenize_gigatoken, "tokenizers": tokenize_tokenizers},
    "dedup": {"gaoya": dedup_gaoya, "rensa": dedup_rensa},
    "pack": {
        "trl, whole": partial(pack_trl, whole=True),
        "trl, by 1,000": partial(pack_trl, whole=False),
    },
}

if __name__ == "__main__":
    # One thread: thread pools of the libraries would distort CPU seconds.
    os.environ.update(
        {
            "TOKENIZERS_PARALLELISM": "false",
            "RAYON_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_VERBOSITY": "error",
        }
    )
    main()
