"""Every shape of rows against its slow twin: hostile texts, missing and odd fields, mixed files, in
JSON lines and in Parquet.
"""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import commands
import zephyr_fast
from out_folder import assert_is_what_the_twin_says, ledger, manifest, text_rows
from reference import Walk, recipe
from reference_rows import read
from reference_shapes import SHAPES, TOLD, refuse
from reference_tokens import Tokens
from shaped_rows import MADE, Row
from zephyr_fast.dataset.product import Product

TOKENIZER = Path(zephyr_fast.__file__).parent / "sample" / "tokenizer"
RECIPES = commands.PLAIN
# Commands that read the same rows tell the same shapes. The first one stands for all of them.
COMMANDS = {shape: command for command, shapes in reversed(TOLD.items()) for shape in shapes}
REFUSED = {shape for shape, read in SHAPES.items() if read is refuse}

VARIED = {"completions", "helpsteer", "oasst_ranked", "pair", "sharegpt"}
"""Shapes whose rows here differ in their columns, so that they are not one table."""
LENIENT = {"completions", "hh", "nectar", "oasst", "oasst_ranked", "pair", "text_pair"}
"""Shapes whose twin accepts some repeated keys or odd ids that the engine refuses."""


def compare(command: str, path: Path, out: Path, **settings: Any) -> None:
    """Run the neutral recipe on a file, and compare every row with the slow twin's."""
    function = commands.function(command)
    name = RECIPES[command]
    settings = {"tokenize.control_tokens": "allow", **settings}
    function(
        name, input=path, tokenizer=TOKENIZER, out=out, overrides=settings, max_bad_rows=10_000
    )
    walk = Walk(command, recipe(name, settings), Tokens(TOKENIZER))
    assert_is_what_the_twin_says(out, read(path), walk.outcomes(read(path)))


def lines(path: Path, rows: list[Any]) -> Path:
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def good_row(command: str) -> Row:
    """A row that is written, so that a run of refused rows makes a dataset too."""
    said = {"role": "assistant", "content": "a"}
    if Product.of_command(command).facts.is_packed:
        return {"messages": [{"role": "user", "content": "q"}, said]}
    return {"prompt": "q", "chosen": "a", "rejected": "b"}


def test_every_shape_has_rows_here() -> None:
    assert MADE.keys() == SHAPES.keys()


@pytest.mark.parametrize("shape", MADE)
def test_hostile_rows_are_read_as_the_slow_twin_reads_them(shape: str, tmp_path: Path) -> None:
    draw, command = random.Random(shape), COMMANDS[shape]
    rows = [MADE[shape](draw) for _ in range(60)]
    compare(command, lines(tmp_path / "rows.jsonl", [*rows, good_row(command)]), tmp_path / "out")
    counts = manifest(tmp_path / "out")["shapes"]
    assert counts[shape] >= 60
    written = manifest(tmp_path / "out")["rows"]["written"]
    assert (written == 1) if shape in REFUSED else written > 1


@pytest.mark.parametrize("shape", sorted(set(MADE) - REFUSED - VARIED))
def test_rows_of_parquet_are_read_as_those_of_lines(shape: str, tmp_path: Path) -> None:
    draw = random.Random(shape)
    rows = [MADE[shape](draw) for _ in range(8)]
    column_types = {name: {type(row.get(name)) for row in rows} - {type(None)} for name in rows[0]}
    names = [name for name, types in column_types.items() if len(types) == 1]
    nested = shape in ("oasst", "oasst_ranked", "completions", "nectar", "pair")
    if nested or len(names) < len(rows[0]):
        rows = [rows[0]] * 2  # Parquet has one type for each column
        rows = [json.loads(json.dumps(row)) for row in rows]
    columns = list(rows[0])
    table = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows])
    pq.write_table(table, tmp_path / "rows.parquet")
    function = commands.function(COMMANDS[shape])
    made = {}
    for kind, path in {
        "lines": lines(tmp_path / "rows.jsonl", table.to_pylist()),
        "parquet": tmp_path / "rows.parquet",
    }.items():
        overrides = {"shards.tokens": False, "dedup.exact": False}
        out = tmp_path / kind
        function(RECIPES[COMMANDS[shape]], input=path, out=out, overrides=overrides)
        made[kind] = text_rows(out, "train"), manifest(out)["shapes"]
    assert made["lines"] == made["parquet"] and made["lines"][0]


ODD = ("null", "7", "true", '""', '"x"', "[]", '["x"]', "[7]", "{}", "[{}]", '[{"x": 1}]', "[[]]")


@pytest.mark.parametrize("shape", sorted(set(MADE) - REFUSED - LENIENT))
def test_malformed_rows_are_refused_as_by_the_slow_twin(shape: str, tmp_path: Path) -> None:
    draw, command = random.Random(shape), COMMANDS[shape]
    rows: list[Any] = [good_row(command)]
    for _ in range(4):
        row = MADE[shape](draw)
        rows += [row] * 3
        for name in row:
            rest = {key: value for key, value in row.items() if key != name}
            rows.append(rest)
            start = json.dumps(rest)[:-1] + (", " if rest else "")
            rows += [f'{start}"{name}": {odd}}}' for odd in ODD]
            rows.append(f'{start}"{name}": {json.dumps(row[name])}, "{name}": 7}}')
        for field in ("tools", "images", "tool_calls", "reasoning", "weight", "mask", "functions"):
            rows.append(row | {field: [{"x": 1}]})
            rows.append(row | {field: []})
    path = lines(tmp_path / "rows.jsonl", rows)
    compare(command, path, tmp_path / "out", **{"dedup.exact": False})
    details = [line["detail"] or "" for line in ledger(tmp_path / "out")]
    for word in ("at line", "invalid type", "sequence", "untagged"):
        assert not any(word in detail for detail in details), word


@pytest.mark.parametrize("command", RECIPES)
def test_a_file_of_many_shapes_is_read_row_by_row(command: str, tmp_path: Path) -> None:
    draw = random.Random(command)
    shapes = [shape for shape in TOLD[command] if shape not in REFUSED]
    rows = [MADE[shape](draw) for shape in shapes for _ in range(5)]
    draw.shuffle(rows)
    compare(command, lines(tmp_path / "rows.jsonl", rows), tmp_path / "out")
    counts = manifest(tmp_path / "out")["shapes"]
    assert set(counts) == set(shapes) and sum(counts.values()) == len(rows)


def test_the_parts_of_a_question_are_joined_by_an_empty_line(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Sum up.", "input": "A long text.", "output": "Short."},
        {"instruction": "Say hi.", "input": "", "output": "hi"},
        {"instruction": "Who?", "context": "Ann did.", "response": "Ann", "category": "qa"},
        {"question": "Why?", "answer": "so", "system": "Be brief."},
        {"instruction": "And?", "output": "c", "history": [["a", "b"]]},
    ]
    path = lines(tmp_path / "rows.jsonl", rows)
    zephyr_fast.prep("chat", input=path, out=tmp_path / "out", overrides={"shards.tokens": False})
    texts = [
        [(message["role"][0], message["content"]) for message in row["messages"]]
        for row in text_rows(tmp_path / "out", "train")
    ]
    assert texts == [
        [("u", "Sum up.\n\nA long text."), ("a", "Short.")],
        [("u", "Say hi."), ("a", "hi")],
        [("u", "Who?\n\nAnn did."), ("a", "Ann")],
        [("s", "Be brief."), ("u", "Why?"), ("a", "so")],
        [("u", "a"), ("a", "b"), ("u", "And?"), ("a", "c")],
    ]


def test_a_row_of_no_known_shape_is_told_what_it_might_be(tmp_path: Path) -> None:
    rows = [{"query": "q", "completion": "a", "score": 1}] * 30
    path = lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(zephyr_fast.TooManyBadRowsError) as caught:
        zephyr_fast.prep("chat", input=path, out=tmp_path / "out", tokenizer=TOKENIZER)
    for part in (
        "`query`, `completion`, `score`",
        "`prompt_completion`",
        "if `query` is its `prompt`, add `--map prompt=query`",
    ):
        assert part in str(caught.value), part
    path = lines(tmp_path / "rows.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}] * 30)
    with pytest.raises(zephyr_fast.TooManyBadRowsError, match="zephyr-fast binarize"):
        zephyr_fast.prep("chat", input=path, out=tmp_path / "out", tokenizer=TOKENIZER)


def test_a_row_without_the_question_of_the_usual_shape_is_read_by_its_own_columns(
    tmp_path: Path,
) -> None:
    rows: list[Row] = [{"question": f"q{number}", "answer": "a"} for number in range(9)]
    rows += [{"prompt": "asked", "response": "said"}, {"answer": "of nothing", "context": "c"}]
    path = lines(tmp_path / "rows.jsonl", rows)
    zephyr_fast.prep("chat", input=path, out=tmp_path / "out", overrides={"shards.tokens": False})
    found = [row["messages"] for row in text_rows(tmp_path / "out", "train")]
    assert [turn["content"] for turn in found[9]] == ["asked", "said"] and len(found) == 10
    assert ledger(tmp_path / "out")[10]["reason"] == "invalid_row"


def test_an_alpaca_row_may_have_only_its_input(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", [{"input": "asked", "output": "said"}])
    zephyr_fast.prep("chat", input=path, out=tmp_path / "out", overrides={"shards.tokens": False})
    [row] = text_rows(tmp_path / "out", "train")
    assert [turn["content"] for turn in row["messages"]] == ["asked", "said"]
