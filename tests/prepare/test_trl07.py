"""Windows of `compat = "trl-0.7"` are those that TRL 0.7 cut: per buffer the same ones, as it
shuffled them without a seed.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from zephyr_fast import ConfigError, Shards, binarize, prep


def constant_length_windows(
    texts: list[str], tokenizer: PreTrainedTokenizerBase, seq_len: int
) -> Iterator[list[list[int]]]:
    """ConstantLengthDataset of TRL 0.7.4, buffer by buffer: 3.6 characters a token, 1,024
    sequences, EOS behind each text.
    """
    characters_max, rest = seq_len * 3.6 * 1024, iter(texts)
    more = True
    while more:
        buffer: list[str] = []
        while sum(map(len, buffer)) < characters_max:
            if (text := next(rest, None)) is None:
                more = False
                break
            buffer.append(text)
        ids = [
            id for text in buffer for id in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        ]
        windows = [ids[start : start + seq_len] for start in range(0, len(ids), seq_len)]
        yield [window for window in windows if len(window) == seq_len]


def texts_of(out: Path, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What the handbook's script made of the published rows: an empty system message in front,
    where there is none.
    """
    rows = pl.read_parquet(out / "text" / "train-*.parquet")["messages"].to_list()
    system = {"role": "system", "content": ""}
    dialogues = [row if row[0]["role"] == "system" else [system, *row] for row in rows]
    return [tokenizer.apply_chat_template(dialogue, tokenize=False) for dialogue in dialogues]


def check(out: Path, seq_len: int) -> int:
    """Compares all windows of an out folder; gives the number of buffers."""
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
    ours = [sample["input_ids"].tolist() for sample in Shards(out, "train")]
    start = buffers = 0
    for windows in constant_length_windows(texts_of(out, tokenizer), tokenizer, seq_len):
        found = ours[start : start + len(windows)]
        assert Counter(map(tuple, found)) == Counter(map(tuple, windows))
        start, buffers = start + len(windows), buffers + 1
    assert start == len(ours) > 0
    return buffers


def test_the_packaged_rows_give_the_windows_of_the_historical_class(tmp_path: Path) -> None:
    settings = {"compat": "trl-0.7", "pack.seq_len": 32, "shards.test_fraction": 0.0}
    manifest = prep(input="sample", out=tmp_path / "out", overrides=settings)
    assert check(tmp_path / "out", 32) > 1
    split = manifest.split("train")
    assert split.fill == 1.0
    assert split.tokens == split.label_tokens == 32 * split.examples
    ledger = pl.read_parquet(tmp_path / "out" / "_ledger" / "*.parquet").filter(
        pl.col("outcome") == "written"
    )
    assert split.tokens + split.tokens_truncated == ledger["tokens"].sum() + len(ledger)


def test_every_token_is_trained_and_each_window_names_the_rows_it_holds(tmp_path: Path) -> None:
    prep(
        input="sample",
        out=tmp_path / "out",
        overrides={"compat": "trl-0.7", "pack.seq_len": 64, "shards.test_fraction": 0.0},
    )
    before = -1
    for sample in Shards(tmp_path / "out", "train"):
        assert sample["labels"].tolist() == sample["input_ids"].tolist()
        assert sample["seq_lengths"].tolist() == [64]
        rows = sample["row_ids"].tolist()
        assert rows == sorted(set(rows))
        assert rows[0] >= before
        before = rows[-1]


def test_real_rows_give_the_windows_of_the_historical_class(real: Path, tmp_path: Path) -> None:
    rows, tokenizer = (
        real / "ultrachat" / "200k_real.parquet",
        real / "tokenizers" / "zephyr-7b-beta-composed",
    )
    prep(
        "ultrachat-200k-trl07",
        input=rows,
        tokenizer=tokenizer,
        out=tmp_path / "out",
        overrides={"pack.seq_len": 128},
    )
    assert check(tmp_path / "out", 128) > 1


def test_pairs_have_no_windows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only `zephyr-fast prep` supports it"):
        binarize(input="sample", out=tmp_path / "out", overrides={"compat": "trl-0.7"})
