"""The engine against its slow twin, on the packaged rows: verdict, reason, text, ids, labels and split of every one."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from out_folder import assert_is_what_the_twin_says, ledger
from reference import Walk, recipe
from reference_rows import read
from reference_tokens import Tokens

SAMPLE = Path(zephyr_fast.__file__).parent / "sample"
ROWS = {"prep": ("ultrachat", SAMPLE / "ultrachat.jsonl"), "binarize": ("ultrafeedback", SAMPLE / "ultrafeedback.jsonl")}


def assert_the_twin_agrees(command: str, settings: dict[str, Any], out: Path) -> None:
    name, path = ROWS[command]
    run = zephyr_fast.prep if command == "prep" else zephyr_fast.binarize
    run(name, input="sample", out=out, settings=settings)
    rows = read(path)
    assert_is_what_the_twin_says(out, rows, Walk(command, recipe(name, settings), Tokens(SAMPLE / "tokenizer")).outcomes(rows))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pack.seq_len": 128},
        {"dedup.near": False, "shards.test_fraction": 0.5},
        {"dedup.exact": False, "dedup.threshold": 0.9},
        {"filter.1.drop": "tail", "truecase.id_from": "raw"},
        {"truecase.enabled": False, "tokenize.control_tokens": "allow"},
    ],
    ids=str,
)
def test_packed_dialogues_are_what_the_slow_twin_makes_of_them(settings: dict[str, Any], tmp_path: Path) -> None:
    assert_the_twin_agrees("prep", settings, tmp_path / "out")


@pytest.mark.parametrize("settings", [{}, {"binarize.max_length": 96, "shards.test_fraction": 0.3}, {"binarize.preset": "paper"}], ids=str)
def test_pairs_are_what_the_slow_twin_makes_of_them(settings: dict[str, Any], tmp_path: Path) -> None:
    assert_the_twin_agrees("binarize", settings, tmp_path / "out")


def test_the_packaged_rows_meet_every_reason_that_they_were_written_for(tmp_path: Path) -> None:
    zephyr_fast.prep(input="sample", out=tmp_path / "sft", settings={"pack.seq_len": 128})
    zephyr_fast.binarize(input="sample", out=tmp_path / "argilla", settings={"binarize.preset": "argilla"})
    zephyr_fast.binarize(input="sample", out=tmp_path / "h4")
    met = {name: Counter(line["reason"] for line in ledger(tmp_path / name)) for name in ("sft", "argilla", "h4")}
    for reason in ("empty_dialogue", "empty_turn", "ends_with_user", "phrase", "exact", "near", "control_token", "json", "shape"):
        assert met["sft"][reason] >= 1, reason
    assert any(line["fixes"] for line in ledger(tmp_path / "sft")) and any(line["tokens_lost"] for line in ledger(tmp_path / "sft"))
    for reason in ("fewer_than_two", "all_unrated", "tie", "json"):
        assert met["argilla"][reason] >= 1, reason
    for reason in ("same_text", "source"):
        assert met["h4"][reason] >= 1, reason


PIECES = (
    "hello|i|I|E.g. |Mr. |no. |'i|i'm|i’ve|i)|i.|i.e. x|iPhone|eBay|foo.py|e.g.|etc.|…|...|.|. |! |? |?\" |.) |: |\n|\n\n|\n \n|\r\n|\t|"
    "```|`|`x. y`|$|$$|$i. j$|$$a\nb. c$$|http://a.b/i|www.x.y|(www.x|a@b.c|def f(x):|def |x = 1;|{|}|# |>|| a => b|f();|a==b|SELECT |"
    "ß|é|ça|```py|ǆ|ﬁ|µ|ⓐ|Ⅷ|五|٣|1.|a.|as an AI|as  an\nai|As an AI,|asan AI|“|”|‘|’|\u2028|\u00a0|\u200b|\x1c|\x85|\u3000|</s|<|user|"
    "\U0001f469\u200d\U0001f4bb|א. ב|ᾳ|ΑΣ|x"
)


def test_texts_made_of_hard_pieces_come_out_as_from_the_slow_twin(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    pieces = PIECES.split("|")
    said = ["".join(chance.choice(pieces) + " " * chance.randrange(2) for _ in range(chance.randrange(1, 14))) for _ in range(6_000)]
    path = tmp_path / "hard.jsonl"
    path.write_text("".join(json.dumps({"data": said[start : start + 2]}) + "\n" for start in range(0, len(said), 2)))
    settings = {"dedup.near": False, "filter.1.drop": "tail"}
    zephyr_fast.prep(input=path, tokenizer="sample", out=tmp_path / "out", settings=settings)
    rows = read(path)
    outcomes = Walk("prep", recipe("ultrachat", settings), Tokens(SAMPLE / "tokenizer")).outcomes(rows)
    assert_is_what_the_twin_says(tmp_path / "out", rows, outcomes)
    assert sum(outcome.fixes for outcome in outcomes) > 1_000
