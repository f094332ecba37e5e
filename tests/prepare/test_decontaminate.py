"""Decontamination against its slow twin: plain 8-gram code over plain strings, on generated rows
and, where they are, on real ones.
"""

import csv
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import regex

from real_data import DATA, needs_real_data
from zephyr_fast import ConfigError, InputError, binarize, prep, scan_ledger

BARE = "[truecase]\nenabled = false\n[tokenize]\ncontrol_tokens = 'allow'\n"
"""A recipe that lets every row reach the check."""


def normalised(text: str) -> str:
    return " ".join(text.lower().split())


def words(text: str) -> list[tuple[str, int, int]]:
    return [
        (found.group().lower(), *found.span())
        for found in regex.finditer(r"[\p{Alphabetic}\p{N}]+", text)
    ]


def shared_words(instance: str, turns: list[str]) -> set[int]:
    """The instance's words that lie in an 8-gram of any of the turns."""
    grams = {
        tuple(word for word, _, _ in said[at : at + 8])
        for said in map(words, turns)
        for at in range(len(said) - 7)
    }
    told = [word for word, _, _ in words(instance)]
    return {
        at + step
        for at in range(len(told) - 7)
        if tuple(told[at : at + 8]) in grams
        for step in range(8)
    }


def spans(instance: str, turn: str) -> list[tuple[int, int]]:
    """The longest runs of the turn's words that lie in an 8-gram of the instance, in characters."""
    said, covered = words(turn), sorted(shared_words(turn, [instance]))
    runs: list[list[int]] = []
    for at in covered:
        if runs and at == runs[-1][1] + 1:
            runs[-1][1] = at
        else:
            runs.append([at, at])
    return [(said[first][1], said[last][2]) for first, last in runs]


def matches(instance: str, turns: list[str], threshold: float = 0.5) -> bool:
    whole = normalised(instance) in map(normalised, turns)
    return whole or len(shared_words(instance, turns)) > threshold * len(words(instance))


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(
    folder: Path, rows: Path, sets: dict[str, str], **settings: Any
) -> tuple[Any, pl.DataFrame]:
    recipe = folder / "bare.toml"
    recipe.write_text(BARE)
    out = folder / "out"
    manifest = prep(
        str(recipe),
        out=out,
        input=rows,
        tokenizer="sample",
        overrides=settings,
        decontaminate=sets,
        overwrite=True,
    )
    return manifest, scan_ledger(out).collect()


def generated() -> Iterator[tuple[list[str], list[list[str]]]]:
    """Instances and dialogues of few words, so that grams are shared by chance and by copying,
    at all lengths and places.
    """
    chance = random.Random(7)

    def said(length: int) -> str:
        words = ["Ärger", "it's", "B", "one", "TWO", "3"]
        return " ".join(chance.choice(words) for _ in range(length))

    for _ in range(12):
        instances = [said(chance.choice([1, 3, 7, 8, 9, 16, 30, 60])) for _ in range(20)]
        dialogues = []
        for _ in range(40):
            turns = [said(chance.randrange(1, 12)), said(4)]
            for _ in range(chance.randrange(3)):
                source = chance.choice(instances).split()
                start = chance.randrange(len(source))
                piece = " ".join(source[start : start + chance.randrange(1, 40)])
                turns += [
                    chance.choice([piece.upper(), piece + "  !", f"{said(2)}, {piece}\n{said(1)}"]),
                    said(3),
                ]
            turns += [chance.choice(instances), "fine"] if chance.random() < 0.1 else []
            dialogues.append(turns)
        yield instances, dialogues


def test_rows_and_spans_are_those_of_the_slow_twin(tmp_path: Path) -> None:
    for instances, dialogues in generated():
        rows = write_lines(
            tmp_path / "rows.jsonl",
            [{"id": str(at), "data": turns} for at, turns in enumerate(dialogues)],
        )
        sets = write_lines(tmp_path / "set.jsonl", [{"q": text} for text in instances])
        manifest, ledger = run(
            tmp_path, rows, {"set": f"{sets}:q"}, **{"decontaminate.action": "flag"}
        )
        found = dict(zip(ledger["row_id"], ledger["contamination"].to_list(), strict=True))
        matched = set()
        for row_id, turns in enumerate(dialogues):
            told = {
                (line["instance"], line["turn"], line["start"], line["end"])
                for line in found[row_id] or []
            }
            asked, expected = turns[::2], set()
            for at, instance in enumerate(instances):
                if matches(instance, asked):
                    matched.add(at)
                    short = len(words(instance)) < 8
                    for turn, text in enumerate(asked):
                        whole = [(0, len(text))] if normalised(text) == normalised(instance) else []
                        expected |= {
                            (at, 2 * turn, *span)
                            for span in (whole if short else spans(instance, text))
                        }
            assert told == expected, (row_id, turns)
        assert manifest.decontamination.sets[0].instances_matched == len(matched)
        assert (
            manifest.decontamination.rows_matched
            == sum(line is not None for line in found.values())
            > 5
        )


def test_dropped_rows_are_counted_and_no_row_vanishes(tmp_path: Path) -> None:
    question = "Which of these eight words would a clean data set never repeat"
    rows = [
        [question, "a"],
        ["Hello there, friend", "b"],
        [f"{question}?", "c"],
        ["What is up", "d", f"Now: {question.upper()}!", "e"],
    ]
    source = write_lines(
        tmp_path / "rows.jsonl", [{"id": str(at), "data": turns} for at, turns in enumerate(rows)]
    )
    sets = write_lines(
        tmp_path / "set.jsonl",
        [{"q": [question, "second part"]}, {"q": None}, {"q": "never asked"}],
    )
    manifest, ledger = run(tmp_path, source, {"bench": f"{sets}:q"}, **{"dedup.exact": True})
    assert (
        manifest.rows.dropped == {"contaminated": 3}
        and manifest.rows.written == 1
        and manifest.rows.read == 4
    )
    assert ledger["detail"].to_list() == ["bench", None, "bench", "bench"]
    card = manifest.decontamination.sets[0]
    assert (
        card.instances,
        card.rows_without_text,
        card.instances_matched,
        card.rows_matched,
        card.rows_exact,
    ) == (3, 1, 1, 3, 1)
    assert card.contaminated and manifest.decontamination.status == "checked"
    assert (
        "| bench (contaminated) | 3 | 1 | 33.3 % | 3 | 1 |"
        in (tmp_path / "out/README.md").read_text()
    )


def test_without_sets_it_is_not_checked(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", [{"id": "0", "data": ["Hello", "you"]}])
    manifest, ledger = run(tmp_path, source, {})
    assert manifest.decontamination.status == "not checked" and manifest.decontamination.sets == ()
    assert "Decontamination: not checked." in (tmp_path / "out/README.md").read_text()
    assert ledger["contamination"].to_list() == [None]


def test_a_set_s_bytes_decide_the_fingerprint_and_its_place_does_not(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", [{"id": "0", "data": ["Hello", "you"]}])
    prints = []
    for folder, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / folder).mkdir()
        sets = write_lines(tmp_path / folder / "set.jsonl", [{"q": text}])
        prints.append(run(tmp_path, source, {"s": f"{sets}:q"})[0])
    assert prints[0].fingerprint == prints[1].fingerprint != prints[2].fingerprint
    assert (
        "path"
        not in prints[0].recipe.text.partition("[[decontaminate.against]]")[2].partition("[")[0]
    )


def test_flags_are_laid_over_the_recipe_s_own_sets(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "rows.jsonl", [{"id": "0", "data": ["Hello", "you"]}])
    first, second = (
        write_lines(tmp_path / f"{name}.jsonl", [{"q": name}]) for name in ("first", "second")
    )
    listed = (
        f'[{{name = "a", path = "{first}", field = "q"}}, '
        '{name = "b", path = "nowhere", field = "q"}]'
    )
    manifest, _ = run(tmp_path, source, {"b": f"{second}:q"}, **{"decontaminate.against": listed})
    assert [card.name for card in manifest.decontamination.sets] == ["a", "b"]
    with pytest.raises(ConfigError, match="expected NAME=PATH:FIELD"):
        run(tmp_path, source, {"b": str(second)})
    with pytest.raises(InputError, match="no text in field `prompt`; available fields: q"):
        run(tmp_path, source, {"b": f"{second}:prompt"})


def test_every_kind_of_file_gives_the_same_instances(tmp_path: Path) -> None:
    source = write_lines(
        tmp_path / "rows.jsonl", [{"id": "0", "data": ['Two, "quoted"\nlines', "you"]}]
    )
    texts = [{"q": 'two, "quoted"\nlines'}, {"q": "unasked"}]
    lines = write_lines(tmp_path / "set.jsonl", texts)
    (tmp_path / "set.json").write_text(json.dumps(texts, indent=1))
    (tmp_path / "set.jsonl.gz").write_bytes(gzip.compress(lines.read_bytes()))
    with pa.output_stream(tmp_path / "set.jsonl.zst", compression="zstd") as stream:
        stream.write(lines.read_bytes())
    with (tmp_path / "set.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["q"])
        writer.writeheader()
        writer.writerows(texts)
    pq.write_table(pa.Table.from_pylist(texts), tmp_path / "set.parquet")
    endings = ["jsonl", "json", "jsonl.gz", "jsonl.zst", "csv", "parquet"]
    sets = {ending: f"{tmp_path}/set.{ending}:q" for ending in endings}
    manifest, ledger = run(tmp_path, source, sets, **{"decontaminate.action": "flag"})
    assert [line["set"] for line in ledger["contamination"][0]] == endings
    assert all(
        (card.instances, card.rows_exact) == (2, 1) for card in manifest.decontamination.sets
    )


def test_pairs_are_checked_by_their_prompt(tmp_path: Path) -> None:
    question = "How would you tell a clean preference pair from a leaked one"

    def said(*texts: str) -> list[dict[str, str]]:
        roles = ("user", "assistant")
        return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]

    rows = [
        {"chosen": said(ask, better), "rejected": said(ask, "no")}
        for ask, better in ((question, "yes"), ("Say something", question))
    ]
    source = write_lines(tmp_path / "rows.jsonl", rows)
    sets = write_lines(tmp_path / "set.jsonl", [{"q": question}])
    recipe = tmp_path / "pairs.toml"
    recipe.write_text("[binarize]\npreset = 'paper'\n")
    manifest = binarize(
        str(recipe),
        out=tmp_path / "out",
        input=source,
        tokenizer="sample",
        decontaminate={"s": f"{sets}:q"},
    )
    assert manifest.rows.dropped == {"contaminated": 1} and manifest.rows.written == 1


EXPECTED = {
    "mt_bench": ("mt_bench_question.jsonl:turns", 3000),
    "arena_hard_v0.1": ("arena_hard_v0.1_question.jsonl:prompt", 744),
    "arena_hard_v2.0": ("arena_hard_v2.0_question.jsonl:prompt", 364),
    "alpaca_eval": ("alpaca_eval_805.jsonl:instruction", 380),
    "vicuna": ("vicuna_bench_question.jsonl:turns", 138),
    "truthfulqa": ("TruthfulQA.csv:Question", 8),
}


@needs_real_data
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("ultrachat/raw_mix_open.jsonl.zst", {name: rows for name, (_, rows) in EXPECTED.items()}),
        ("ultrachat/raw_real.jsonl.gz", dict.fromkeys(EXPECTED, 0)),
        ("ultrafeedback/binarized_real.jsonl.gz", dict.fromkeys(EXPECTED, 0)),
    ],
)
def test_real_rows_match_exactly_as_often_as_is_known(
    tmp_path: Path, rows: str, expected: dict[str, int]
) -> None:
    sets = {name: f"{DATA}/eval/{place}" for name, (place, _) in EXPECTED.items()}
    shape = {} if "chat" in rows else {"source.shape": "messages"}
    settings = {"pack.seq_len": 64, "shards.text": False, "decontaminate.action": "drop", **shape}
    manifest, _ = run(tmp_path, DATA / rows, sets, **settings)
    assert {card.name: card.rows_exact for card in manifest.decontamination.sets} == expected
    assert all(card.rows_matched >= card.rows_exact for card in manifest.decontamination.sets)


@needs_real_data
def test_real_rows_match_as_the_slow_twin_says(tmp_path: Path) -> None:
    with pa.input_stream(DATA / "ultrachat/raw_mix_open.jsonl.zst", compression="zstd") as stream:
        lines = stream.read().splitlines()[::23]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines))
    sets = {name: f"{DATA}/eval/{place}" for name, (place, _) in EXPECTED.items()}
    _, ledger = run(
        tmp_path,
        tmp_path / "rows.jsonl",
        sets,
        **{"decontaminate.action": "flag", "pack.seq_len": 64, "shards.text": False},
    )
    listed = ledger["contamination"].to_list()
    found = {
        (row, line["set"], line["instance"], line["part"])
        for row, spans in enumerate(listed)
        for line in spans or []
    }
    by_gram: dict[tuple[str, ...], set[tuple[str, int, int]]] = {}
    texts = dict(_instances())
    for key, text in texts.items():
        told = [word for word, _, _ in words(text)]
        for at in range(len(told) - 7):
            by_gram.setdefault(tuple(told[at : at + 8]), set()).add(key)
    shorts = {key: text for key, text in texts.items() if len(words(text)) < 8}
    expected = set()
    for row, line in enumerate(lines):
        asked = json.loads(line)["data"][::2]
        grams = {
            tuple(word for word, _, _ in said[at : at + 8])
            for said in map(words, asked)
            for at in range(len(said) - 7)
        }
        candidates = {key for gram in grams for key in by_gram.get(gram, ())} | set(shorts)
        expected |= {(row, *key) for key in candidates if matches(texts[key], asked)}
    assert found == expected and len(expected) > 100


def _instances() -> Iterator[tuple[tuple[str, int, int], str]]:
    for name, (place, _) in EXPECTED.items():
        file, _, field = place.rpartition(":")
        with (DATA / "eval" / file).open(encoding="utf-8-sig", newline="") as opened:
            rows = (
                list(csv.DictReader(opened))
                if file.endswith(".csv")
                else [json.loads(line) for line in opened]
            )
        for row, fields in enumerate(rows):
            texts = fields[field] if isinstance(fields[field], list) else [fields[field]]
            yield from (((name, row, part), text) for part, text in enumerate(texts))
