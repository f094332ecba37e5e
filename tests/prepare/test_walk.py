"""The engine against its slow twin, on the packaged rows: outcome, reason, text, ids, labels and
split of every one.
"""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import commands
import zephyr_fast
from out_folder import assert_is_what_the_twin_says, ledger
from reference import Walk, recipe
from reference_rows import read
from reference_tokens import Tokens
from zephyr_fast.prepare.recipe import read as read_recipe

SAMPLE = Path(zephyr_fast.__file__).parent / "sample"
ROWS = {command: (commands.PUBLISHED[command], path) for command, path in commands.SAMPLES.items()}


def assert_the_twin_agrees(command: str, settings: dict[str, Any], out: Path) -> None:
    name, path = ROWS[command]
    run = commands.function(command)
    run(name, input="sample", out=out, overrides=settings)
    rows = read(path)
    assert_is_what_the_twin_says(
        out,
        rows,
        Walk(command, recipe(name, settings), Tokens(SAMPLE / "tokenizer")).outcomes(rows),
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pack.seq_len": 128},
        {"dedup.near": False, "shards.test_fraction": 0.5},
        {"dedup.exact": False, "dedup.threshold": 0.9},
        {"filter.1.drop": "tail", "truecase.id_from": "raw"},
        {"truecase.enabled": False, "tokenize.control_tokens": "allow"},
        {"truecase.rules": "h4", "filter.1.at": "anywhere", "filter.1.quotes": "exact"},
    ],
    ids=str,
)
def test_packed_dialogues_are_what_the_slow_twin_makes_of_them(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    assert_the_twin_agrees("prep", settings, tmp_path / "out")


@pytest.mark.parametrize(
    "settings",
    [{}, {"binarize.max_length": 96, "shards.test_fraction": 0.3}, {"binarize.preset": "paper"}],
    ids=str,
)
def test_pairs_are_what_the_slow_twin_makes_of_them(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    assert_the_twin_agrees("binarize", settings, tmp_path / "out")


def test_the_packaged_rows_meet_every_reason_that_they_were_written_for(tmp_path: Path) -> None:
    zephyr_fast.prep(input="sample", out=tmp_path / "sft", overrides={"pack.seq_len": 128})
    zephyr_fast.binarize(
        input="sample", out=tmp_path / "argilla", overrides={"binarize.preset": "argilla"}
    )
    zephyr_fast.binarize(input="sample", out=tmp_path / "h4")
    met = {
        name: Counter(line["reason"] for line in ledger(tmp_path / name))
        for name in ("sft", "argilla", "h4")
    }
    for reason in (
        "empty_dialogue",
        "empty_turn",
        "ends_with_user",
        "phrase",
        "exact",
        "near",
        "control_token",
        "invalid_json",
        "invalid_row",
    ):
        assert met["sft"][reason] >= 1, reason
    assert any(line["letters_changed"] for line in ledger(tmp_path / "sft")) and any(
        line["tokens_truncated"] for line in ledger(tmp_path / "sft")
    )
    for reason in ("too_few_completions", "no_scores", "tie", "invalid_json"):
        assert met["argilla"][reason] >= 1, reason
    for reason in ("identical_completions", "excluded_source"):
        assert met["h4"][reason] >= 1, reason


PIECES = (
    "hello|i|I|E.g. |Mr. |no. |'i|i'm|i’ve|i)|i.|i.e. x|iPhone|eBay|foo.py|e.g.|etc.|…|...|.|. |! "
    '|? |?" |.) |: |\n|\n\n|\n \n|\r\n|\t|'
    "```|`|`x. y`|$|$$|$i. j$|$$a\nb. c$$|http://a.b/i|www.x.y|(www.x|a@b.c|def f(x):|def |x = "
    "1;|{|}|# |>|| a => b|f();|a==b|SELECT |"
    "ß|é|ça|```py|ǆ|ﬁ|µ|ⓐ|Ⅷ|五|٣|1.|a.|as an AI|as  an\nai|As an AI,|asan "
    "AI|“|”|‘|’|\u2028|\u00a0|\u200b|\x1c|\x85|\u3000|</s|<|user|"
    "\U0001f469\u200d\U0001f4bb|א. ב|ᾳ|ΑΣ|x"
    "|the end.|is it|. we|. i |, but | i'd|:\n|,\n|- |* |(a) |iv) |    |~~~|class Foo|done\n|j|"
    "+ 2|-3|2**3|\\|_i|İ|Kelvin K|I don’t|my data"
)


@pytest.mark.parametrize(
    "more",
    [{}, {"truecase.rules": "h4", "filter.1.at": "anywhere", "filter.1.quotes": "exact"}],
    ids=["careful", "h4"],
)
def test_texts_made_of_hard_pieces_come_out_as_from_the_slow_twin(
    more: dict[str, Any], tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    pieces = PIECES.split("|")
    said = [
        "".join(
            chance.choice(pieces) + " " * chance.randrange(2)
            for _ in range(chance.randrange(1, 14))
        )
        for _ in range(6_000)
    ]
    path = tmp_path / "hard.jsonl"
    path.write_text(
        "".join(
            json.dumps({"data": said[start : start + 2]}) + "\n" for start in range(0, len(said), 2)
        )
    )
    settings = {"dedup.near": False, "filter.1.drop": "tail", **more}
    zephyr_fast.prep(input=path, tokenizer="sample", out=tmp_path / "out", overrides=settings)
    rows = read(path)
    outcomes = Walk("prep", recipe("ultrachat", settings), Tokens(SAMPLE / "tokenizer")).outcomes(
        rows
    )
    assert_is_what_the_twin_says(tmp_path / "out", rows, outcomes)
    assert sum(outcome.letters_changed for outcome in outcomes) > 1_000


FILTERS = {
    "phrase": 'kind = "phrases"\nphrases = ["the main", "Also"]',
    "too_few_turns": 'kind = "length"\nturns_min = 3',
    "too_many_turns": 'kind = "length"\nturns_max = 1',
    "too_short": 'kind = "length"\nchars_min = 180',
    "too_long": 'kind = "length"\nchars_max = 400',
}
"""A filter for each reason that the packaged recipes do not give, and that the packaged rows do.
Each drops rows of both packaged files; one that cannot needs a test with rows of its own.
"""


def with_filter(name: str, table: str, folder: Path, more: str = "") -> Path:
    """The packaged recipe of that name with one filter more, as a file in `folder`."""
    path = folder / f"{name}.toml"
    text = read_recipe(name).text
    path.write_text(f"{text}\n[[filter]]\n{table}\n{more}", encoding="utf-8")
    return path


@pytest.mark.parametrize("reason", FILTERS)
@pytest.mark.parametrize("command", ROWS)
def test_a_filter_drops_what_the_slow_twin_drops(command: str, reason: str, tmp_path: Path) -> None:
    name, path = ROWS[command]
    rules = with_filter(name, FILTERS[reason], tmp_path)
    run, out = (
        commands.function(command),
        tmp_path / "out",
    )
    rows = read(path)
    outcomes = Walk(command, recipe(rules), Tokens(SAMPLE / "tokenizer")).outcomes(rows)
    if all(outcome.reason for outcome in outcomes):
        count = sum(outcome.reason == reason for outcome in outcomes)
        with pytest.raises(zephyr_fast.NoRowsWrittenError, match=f"{count} `{reason}`"):
            run(str(rules), input="sample", out=out)
    else:
        run(str(rules), input="sample", out=out)
        assert_is_what_the_twin_says(out, rows, outcomes)
    met = Counter(outcome.reason for outcome in outcomes)
    assert met[reason] >= 1 and (met[None] >= 1 or "turns" in reason), met


def test_a_phrase_that_nearly_every_answer_holds_drops_nearly_every_row(tmp_path: Path) -> None:
    rules = with_filter("ultrafeedback", 'kind = "phrases"\nphrases = ["the"]', tmp_path)
    rows = zephyr_fast.binarize(str(rules), input="sample", out=tmp_path / "out").rows
    assert rows.dropped["phrase"] > 0.9 * rows.read


ANSWERED = (
    'kind = "phrases"\nphrases = ["as an AI", "hello", "x = 1"]\n'
    '[[filter]]\nkind = "length"\nchars_min = 8\nchars_max = 60'
)


@pytest.mark.parametrize("shape", ["pair", "completions"])
def test_answers_made_of_hard_pieces_come_out_as_from_the_slow_twin(
    shape: str, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, pieces = random.Random(seed), PIECES.split("|")
    lines = []
    for _ in range(1_000):
        asked, *said = (
            "".join(chance.choices(pieces, k=chance.randrange(1, 14))) for _ in range(4)
        )
        prompt = [{"role": "user", "content": asked}]
        sides = [[*prompt, {"role": "assistant", "content": text}] for text in said[:2]]
        scored = [{"response": text, "overall_score": chance.randrange(10)} for text in said]
        pair = {"chosen": sides[0], "rejected": sides[1]}
        lines.append(pair if shape == "pair" else {"instruction": asked, "completions": scored})
    path = tmp_path / "hard.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rules = with_filter("ultrafeedback", ANSWERED, tmp_path, "[truecase]\nenabled = true\n")
    zephyr_fast.binarize(str(rules), input=path, tokenizer="sample", out=tmp_path / "out")
    rows = read(path)
    outcomes = Walk("binarize", recipe(rules), Tokens(SAMPLE / "tokenizer")).outcomes(rows)
    assert_is_what_the_twin_says(tmp_path / "out", rows, outcomes)
    met = Counter(outcome.reason for outcome in outcomes)
    assert all(met[reason] > 10 for reason in ("phrase", "too_short", "too_long", None)), met
    assert sum(outcome.letters_changed for outcome in outcomes) > 300


def test_what_would_cut_the_question_off_is_refused_by_name(tmp_path: Path) -> None:
    table = 'kind = "phrases"\nphrases = ["the"]\ndrop = "tail"'
    rules = with_filter("ultrafeedback", table, tmp_path)
    with pytest.raises(
        zephyr_fast.ConfigError, match=r'`filter\.1\.drop = "tail"` removes messages'
    ):
        zephyr_fast.binarize(str(rules), input="sample", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
