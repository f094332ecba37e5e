"""Columns that a shape does not use: they are listed, and none that is a part of the question or
the answer is lost in silence.
"""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import commands
from out_folder import ledger, manifest, text_rows
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.prepare.summary import lines, warnings

Row = dict[str, Any]
LONG = "The council of Lund met in the spring."


def run(command: str, path: Path, out: Path, **options: Any) -> Manifest:
    function = commands.function(command)
    recipe = commands.PLAIN[command]
    overrides = {"shards.tokens": False, "dedup.exact": False}
    return function(recipe, input=path, out=out, overrides=overrides, **options)


def saved(path: Path, rows: list[Row]) -> Path:
    """The rows as a file of the format that its name asks for."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        case ".json":
            path.write_text(json.dumps(rows, indent=1))
        case ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(rows)
        case ".parquet":
            pq.write_table(table, path)
        case ".arrow":
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table)
    return path


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "arrow"])
def test_unused_columns_are_listed_in_every_container(ending: str, tmp_path: Path) -> None:
    rows: list[Row] = [
        {"question": f"q{n}", "answer": "a", "topic": "t", "id": str(n)} for n in range(600)
    ]
    rows[599] |= {"level": "high"}
    made = run("prep", saved(tmp_path / f"rows.{ending}", rows), tmp_path / "out")
    assert made.inputs[0].unused_columns == ("level", "topic")
    assert not made.inputs[0].has_more_unused_columns
    assert ("columns not used", "level, topic") in lines(made, tmp_path / "out")


def test_the_list_is_that_of_each_input_and_does_not_depend_on_threads(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rows = [{"data": ["q", f"a{n}"], f"extra_{n % 90:02}": 1, "none": None} for n in range(900)]
    saved(folder / "a.jsonl", rows)
    saved(folder / "b.jsonl", [{"data": ["q", "x"], "mark": [1]}] * 9)
    found = []
    for threads in (1, 3):
        made = run("prep", folder, tmp_path / f"out{threads}", threads=threads)
        found.append([(one.unused_columns, one.has_more_unused_columns) for one in made.inputs])
    first = tuple(f"extra_{n:02}" for n in range(64))
    assert found[0] == found[1] == [(first, True), (("mark",), False)]
    [(_, value)] = [line for line in lines(made, tmp_path) if line[0] == "columns not used"]
    assert value.endswith("extra_11 and 53 more (and others that the manifest does not list)")


PLAIN = [
    {"role": "user", "content": f"Read: {LONG}"},
    {"role": "assistant", "content": "In spring."},
]
ASKED = [{"from": "human", "value": "When?"}]

LOST: list[tuple[str, str, Row]] = [
    ("prep", "instruction", {"question": "When?", "answer": "In spring.", "instruction": "Brief!"}),
    ("prep", "response", {"question": "When?", "answer": "In spring.", "response": "In May."}),
    ("prep", "choices", {"question": "When?", "answer": "A", "choices": ["spring", "autumn"]}),
    ("prep", "context", {"prompt": "When?", "completion": "In spring.", "context": LONG}),
    ("prep", "rationale", {"instruction": "When?", "output": "In spring.", "rationale": LONG}),
    ("prep", "input",
     {"instruction": "When?", "context": LONG, "response": "x", "input": "Brief!"}),
    ("prep", "prompt", {"messages": PLAIN, "prompt": "In French."}),
    ("prep", "context", {"messages": PLAIN, "context": "The council never met in Lund."}),
    ("prep", "history", {"messages": PLAIN, "history": [["a", "b"]]}),
    ("prep", "response", {"conversations": ASKED, "response": "In spring."}),
    ("prep", "conversations",
     {"conversations": [*ASKED, {"from": "gpt", "value": "x"}], "messages": PLAIN}),
    ("prep", "question", {"data": ["When?", "In spring."], "question": "Where?"}),
    ("prep", "system_prompt",
     {"question": "When?", "answer": "x", "system": "Brief!", "system_prompt": "Long!"}),
    ("binarize", "context", {"prompt": "When?", "chosen": "a", "rejected": "b", "context": LONG}),
    ("binarize", "input", {"prompt": PLAIN[:1], "chosen": "a", "rejected": "b", "input": "Brief!"}),
]  # fmt: skip


@pytest.mark.parametrize(("command", "field", "row"), LOST)
def test_a_row_that_would_lose_a_part_is_refused_by_its_name(
    command: str, field: str, row: Row, tmp_path: Path
) -> None:
    rest = {name: value for name, value in row.items() if name != field}
    path = saved(tmp_path / "rows.jsonl", [row, row | {field: None}, rest, rest])
    if field == "response" and "conversations" in row:
        path = saved(path, [row, {"question": "q", "answer": "a"}])
    run(command, path, tmp_path / "out")
    bad, *others = ledger(tmp_path / "out")
    assert bad["reason"] == "unsupported_field", bad
    assert bad["detail"].startswith(f"`{field}`: "), bad
    assert all(line["outcome"] == "written" for line in others), others


def test_a_column_that_repeats_the_dialogue_is_only_listed(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"messages": PLAIN, "prompt": f" Read: {LONG}\n", "context": LONG, "answer": "42"},
        {"messages": PLAIN, "conversations": [{"from": "gpt", "value": "In spring."}]},
        {"messages": PLAIN, "\u0071uestion": PLAIN[0]["content"], "history": [[None, ""]]},
    ]
    escaped = json.dumps(rows[0]).replace('"context"', r'"c\u006fntext"')
    path = saved(tmp_path / "rows.jsonl", rows)
    path.write_text(f"{path.read_text()}{escaped}\n")
    made = run("prep", path, tmp_path / "out")
    assert made.rows.written == 4, made.rows
    assert made.inputs[0].unused_columns == (
        *("answer", "context", "conversations", "history", "prompt", "question"),
    )


def test_the_context_of_a_question_is_used_under_its_usual_names(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"question": "When?", "input": LONG, "answer": "a"},
        {"instruction": "When?", "input": LONG, "response": "a"},
        {"instruction": "When?", "context": LONG, "output": "a"},
        {"question": "When?", "answer": "a", "system": "", "system_prompt": "Brief!"},
    ]
    made = run("prep", saved(tmp_path / "rows.jsonl", rows), tmp_path / "out")
    assert made.inputs[0].unused_columns == ()
    said = [
        [message["content"] for message in row["messages"]]
        for row in text_rows(tmp_path / "out", "train")
    ]
    assert said[:3] == [[f"When?\n\n{LONG}", "a"]] * 3 and said[3] == ["Brief!", "When?", "a"]


def test_a_structural_reason_above_five_percent_is_a_warning(tmp_path: Path) -> None:
    good: Row = {"data": ["q", "a"]}
    for bad, warned in ((1, False), (2, True)):
        rows = [{"data": ["q"]}] * bad + [good] * (20 if bad == 1 else 18)
        out = tmp_path / str(bad)
        made = run("prep", saved(tmp_path / "rows.jsonl", rows), out)
        assert manifest(out)["rows"]["dropped"] == {"ends_with_user": bad}
        [*found] = [one for one in warnings(made) if "`ends_with_user`" in one]
        assert bool(found) == warned
    assert (
        found[0].startswith("2 of 20 rows (10%) were not written for the reason")
        and "order" in found[0]
    )
