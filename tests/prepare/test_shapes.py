"""Every shape of rows against its slow twin: hostile texts, missing and odd fields, mixed files, in
JSON lines and in Parquet.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import zephyr_fast
from out_folder import assert_is_what_the_twin_says, ledger, manifest, text_rows
from reference import Walk, recipe
from reference_rows import read
from reference_shapes import SHAPES, TOLD
from reference_tokens import Tokens

TOKENIZER = Path(zephyr_fast.__file__).parent / "sample" / "tokenizer"
RECIPES = {"prep": "chat", "binarize": "pairs"}
COMMANDS = {shape: command for command, shapes in TOLD.items() for shape in shapes}
REFUSED = {"kto", "rated", "oasst_message", "text"}

VARIED = {"completions", "helpsteer", "oasst_ranked", "pair", "sharegpt"}
"""Shapes whose rows here differ in their columns, so that they are not one table."""
LENIENT = {"completions", "hh", "nectar", "oasst", "oasst_ranked", "pair", "text_pair"}
"""Shapes whose twin accepts some repeated keys or odd ids that the engine refuses."""

Draw = random.Random
Row = dict[str, Any]

WORDS = [
    "hello",
    "i",
    "true",
    "\n\n",
    "\n",
    "\n\nHuman: ",
    "\n\nAssistant:",
    " ",
    "  ",
    "\t",
    "\r\n",
    "é",
    "五",
    "👩\u200d💻",
    "\u2028",
    "\x00",
    "\x1b",
    '"',
    "\\",
    "{}",
    "</s",
    "<",
    "user",
    "assistant",
    "null",
    "…",
    "x = 1;",
    "Human:",
    "\\u0041",
    "'",
    "\x7f",
    "ß",
]


def words(draw: Draw) -> str:
    return "".join(draw.choices(WORDS, k=draw.randrange(8)))


def said(draw: Draw) -> str:
    """A text that is no transcript."""
    return f"{draw.randrange(10**9)} {words(draw)}"


def transcript(draw: Draw, answer: str, start: str) -> str:
    return f"\n\nHuman: {start}\n\nAssistant: ok \n\nHuman:{start}\n\nAssistant: {answer}"


def spoken(draw: Draw, speaker: str, text: str) -> list[dict[str, str]]:
    names = [("human", "gpt"), ("user", "assistant"), ("prompter", "bot"), ("User", "GPT")]
    asks, answers = draw.choice(names)
    messages = [{speaker: asks, text: said(draw)}, {speaker: answers, text: said(draw)}]
    system = [{speaker: "system", text: said(draw)}] if draw.random() < 0.2 else []
    return system + messages * draw.randrange(1, 3)


def listed(draw: Draw, *roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": said(draw)} for role in roles]


def maybe(draw: Draw, row: Row, **columns: Any) -> Row:
    """Adds columns that may be missing, null or empty."""
    for name, value in columns.items():
        match draw.randrange(5):
            case 0:
                row[name] = None
            case 1:
                row[name] = ""
            case 2 | 3:
                row[name] = value
    return row


def flat(question: str, extra: str, answer: str) -> Callable[[Draw], Row]:
    def row(draw: Draw) -> Row:
        made = maybe(draw, {question: said(draw), answer: said(draw)}, **{extra: said(draw)})
        return maybe(draw, made, system=said(draw))

    return row


def either(draw: Draw, roles: tuple[str, ...]) -> Any:
    return said(draw) if draw.random() < 0.5 else listed(draw, *roles)


def scored(draw: Draw, row: Row) -> Row:
    chosen, rejected = draw.choice(
        [("score_chosen", "score_rejected"), ("chosen_rating", "rejected_rating"),
         ("chosen-rating", "rejected-rating"), ("chosen_score", "rejected_score")]
    )  # fmt: skip
    values = [8.5, "8.5", "N/A", None, 3, "", " 4 "]
    return row | {chosen: draw.choice(values), rejected: draw.choice(values)}


def pair_of_texts(draw: Draw) -> Row:
    row: Row = {"chosen": said(draw), "rejected": said(draw)}
    name = draw.choice(["prompt", "question", "instruction", "input"])
    row[name] = said(draw)
    if name == "instruction":
        maybe(draw, row, input=said(draw))
    if draw.random() < 0.2:
        start = said(draw)
        row = {"prompt": transcript(draw, "", start), "chosen": said(draw), "rejected": said(draw)}
        row["prompt"] = row["prompt"].removesuffix(" ")
    return scored(draw, maybe(draw, row, system=said(draw)))


def hh(draw: Draw) -> Row:
    start, other = said(draw), said(draw)
    chosen, rejected = said(draw), said(draw)
    row = {
        "chosen": transcript(draw, chosen, start),
        "rejected": transcript(draw, rejected, other if draw.random() < 0.1 else start),
    }
    return scored(draw, row)


def ranked(draw: Draw) -> list[Row]:
    ranks: list[Any] = [1.0, 2, 3, "4", None]
    draw.shuffle(ranks)
    return [{"answer": said(draw), "model": "m", "rank": rank} for rank in ranks[:4]]


def tree(draw: Draw, depth: int, asks: bool = True) -> Row:
    replies = [tree(draw, depth - 1, not asks) for _ in range(draw.randrange(3) if depth else 0)]
    for reply in replies:
        reply["rank"] = draw.choice([0, 1, 2, None])
        reply["deleted"] = draw.random() < 0.1
    return {"text": said(draw), "role": "prompter" if asks else "assistant", "replies": replies}


def exchanges(draw: Draw) -> list[Row]:
    return [{"input": said(draw), "output": said(draw)} for _ in range(draw.randrange(1, 3))]


def helpsteer(draw: Draw) -> Row:
    strength = draw.choice([-3, -1, 0, 1, "2"])
    if draw.random() < 0.5:
        row = {"prompt": said(draw), "response_1": said(draw), "response_2": said(draw)}
        return row | {"preference_strength": strength}
    row = {"context": listed(draw, "user", "assistant", "user"), "overall_preference": strength}
    return row | {"response1": said(draw), "response2": said(draw)}


def pair(draw: Draw) -> Row:
    start = listed(draw, "system", "user")
    sides = {side: start + listed(draw, "assistant") for side in ("chosen", "rejected")}
    if draw.random() < 0.2:
        sides["rejected"] = listed(draw, "user", "assistant")
    return scored(draw, {"prompt": start[1]["content"], **sides})


def completions(draw: Draw) -> Row:
    answers = [{"response": said(draw), "overall_score": score} for score in (1, "2", 3.5, "N/A")]
    return {"instruction": said(draw), "completions": answers, "source": "s"}


MADE: dict[str, Callable[[Draw], Row]] = {
    "messages": lambda draw: {"messages": listed(draw, "system", "user", "assistant", "user")},
    "sharegpt": lambda draw: maybe(
        draw,
        {
            draw.choice(["conversations", "conversation"]): spoken(
                draw, draw.choice(["from", "role"]), draw.choice(["value", "content"])
            )
        },
        system=said(draw),
    ),
    "capybara": lambda draw: {"conversation": exchanges(draw)},
    "alternating": lambda draw: {"data": [said(draw) for _ in range(draw.randrange(2, 5))]},
    "alpaca": lambda draw: (
        flat("instruction", "input", "output")(draw)
        | ({"history": [[said(draw), said(draw)]]} if draw.random() < 0.3 else {})
    ),
    "dolly": flat("instruction", "context", "response"),
    "prompt_completion": lambda draw: maybe(
        draw,
        {
            "prompt": either(draw, ("user", "assistant", "user")),
            draw.choice(["completion", "response"]): either(draw, ("assistant",)),
        },
        system=said(draw),
    ),
    "question_answer": lambda draw: flat(
        "question", "context", draw.choice(["answer", "response"])
    )(draw),
    "oasst": lambda draw: {"message_tree_id": said(draw), "prompt": tree(draw, 4)},
    "oasst_message": lambda draw: {"message_id": "m", "text": said(draw), "role": "assistant"},
    "text": lambda draw: {"text": said(draw)},
    "completions": completions,
    "pair": pair,
    "ultrainteract": lambda draw: {
        "trajectory": spoken(draw, "from", "value")[:-1],
        "chosen": said(draw),
        "rejected": said(draw),
    },
    "text_pair": pair_of_texts,
    "hh": hh,
    "nectar": lambda draw: {
        "prompt": f"\n\nHuman: {said(draw)}\n\nAssistant: ",
        "answers": ranked(draw),
        "source": ["sharegpt"],
    },
    "helpsteer": helpsteer,
    "shp": lambda draw: {
        "history": said(draw),
        "human_ref_A": said(draw),
        "human_ref_B": said(draw),
        "labels": draw.randrange(2),
        "score_A": draw.randrange(9),
        "score_B": 3,
    },
    "pku": lambda draw: {
        "prompt": said(draw),
        "response_0": said(draw),
        "response_1": said(draw),
        "better_response_id": draw.randrange(2),
        "safer_response_id": 0,
    },
    "openai_pair": lambda draw: {
        "input": {"messages": listed(draw, "system", "user")},
        "preferred_output": listed(draw, "assistant"),
        "non_preferred_output": listed(draw, "assistant"),
    },
    "oasst_ranked": lambda draw: {"message_tree_id": said(draw), "prompt": tree(draw, 2)},
    "kto": lambda draw: {"prompt": said(draw), "completion": said(draw), "label": True},
    "rated": lambda draw: {"prompt": said(draw), "response": said(draw), "helpfulness": 4},
}


def compare(command: str, path: Path, out: Path, **settings: Any) -> None:
    """Run the neutral recipe on a file, and compare every row with the slow twin's."""
    function = {"prep": zephyr_fast.prep, "binarize": zephyr_fast.binarize}[command]
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
    if command == "prep":
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
    function = {"prep": zephyr_fast.prep, "binarize": zephyr_fast.binarize}[COMMANDS[shape]]
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
        "`query` might be its `prompt`",
    ):
        assert part in str(caught.value), part
    path = lines(tmp_path / "rows.jsonl", [{"prompt": "q", "chosen": "a", "rejected": "b"}] * 30)
    with pytest.raises(zephyr_fast.TooManyBadRowsError, match="zephyr-fast binarize"):
        zephyr_fast.prep("chat", input=path, out=tmp_path / "out", tokenizer=TOKENIZER)
