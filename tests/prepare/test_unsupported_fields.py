"""Fields that decide what is trained but that no shape uses: a row with a value in one is set
aside by the field's name, in every format; a row without a value there is read as if the field
did not exist.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import commands
from out_folder import ledger, text_rows
from reference_rows import Refused, check_tools, fields_of
from reference_shapes import dialogue

Row = dict[str, Any]
TOOL = {"type": "function", "function": {"name": "weather"}}
CALL = {"id": "c0", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
PART = [{"type": "text", "text": "Name a tree."}]


def chat(number: int, said: Row | None = None, asked: Row | None = None, **row: Any) -> Row:
    """A dialogue with more fields in its question, its answer or itself."""
    user = {"role": "user", "content": f"Name tree number {number}."}
    answer = {"role": "assistant", "content": f"Tree {number} is an oak."}
    return {"messages": [{**user, **(asked or {})}, {**answer, **(said or {})}], **row}


def data(number: int, **row: Any) -> Row:
    return {"data": [f"Name bird number {number}.", f"Bird {number} is a wren."], **row}


def pair(number: int, said: Row | None = None, **row: Any) -> Row:
    prompt = {"role": "user", "content": f"Name fish number {number}."}
    sides = {
        side: [prompt, {"role": "assistant", "content": text, **(said or {})}]
        for side, text in (("chosen", f"Fish {number} is a cod."), ("rejected", "No."))
    }
    return {**sides, **row}


def scored(number: int, said: Row | None = None, **row: Any) -> Row:
    completions = [
        {"response": text, "overall_score": score, **(said or {})}
        for text, score in ((f"Flower {number} is a rose.", 9.0), ("No.", 2.0))
    ]
    return {"instruction": f"Name flower {number}.", "completions": completions, **row}


def bare(number: int, prompt: Any) -> Row:
    """A pair whose lists hold the answers alone."""
    return {
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": f"Moss {number}."}],
        "rejected": [{"role": "assistant", "content": "No."}],
    }


def begun(number: int) -> Row:
    """A dialogue whose first message is its prompt as well."""
    row = chat(number)
    return {"prompt": row["messages"][:1], **row}


def asked(number: int) -> Row:
    """A pair whose question is its prompt as well, with other white space around it."""
    return pair(number, prompt=f"\n Name fish number {number}. ")


OF_MESSAGES: dict[str, Any] = {
    "tool_calls": [CALL],
    "tool_call": CALL,
    "function_calls": [CALL],
    "function_call": {"name": "weather", "arguments": "{}"},
    "tool_call_id": "c0",
    "tool_plan": "First ask for the weather.",
    "tool_results": [{"call": CALL, "outputs": [{"sky": "blue"}]}],
    "tools": [TOOL],
    "functions": ["weather"],
    "available_tools": [TOOL],
    "tool_definitions": [TOOL],
    "documents": [{"text": "Oaks are trees."}],
    "reasoning_content": "It asks for a tree.",
    "reasoning_details": [{"type": "reasoning.text", "text": "It asks for a tree."}],
    "reasoning": "It asks for a tree.",
    "thinking_content": "It asks for a tree.",
    "thinking": "It asks for a tree.",
    "thought": "It asks for a tree.",
    "thoughts": ["It asks for a tree."],
    "weight": 0.1,
    "train": "no",
    "trained": [0],
    "trainable": 2,
    "training": -1,
    "loss": 1.7,
    "loss_weight": 0.5,
    "loss_scale": 2,
    "train_detail": [{"begin_offset": 0, "end_offset": 2, "train": False}],
    "training_detail": ["0-2"],
    "mask": [0, 1],
    "masked": True,
    "ignore": True,
    "name": "ann",
    "refusal": "I cannot name one.",
    "image": "a.png",
    "images": ["a.png"],
    "image_url": {"url": "a.png"},
    "audio": {"id": "a0"},
    "audios": ["a.wav"],
    "input_audio": {"data": "UklGRg==", "format": "wav"},
    "video": "a.mp4",
    "videos": ["a.mp4"],
}
OF_ANSWERS = [
    *("tool_calls", "tool_call", "function_calls", "function_call", "tool_call_id"),
    *("tool_plan", "tool_results", "reasoning_content", "reasoning_details", "reasoning"),
    *("thinking_content", "thinking", "thought", "thoughts", "image", "images", "image_url"),
    *("audio", "audios", "input_audio", "video", "videos"),
]
OF_ROWS: dict[str, Any] = {
    "tools": [TOOL],
    "functions": ["weather"],
    "available_tools": [TOOL],
    "tool_definitions": [TOOL],
    "tool_calls": [CALL],
    "function_calls": [CALL],
    "documents": [{"text": "Oaks are trees."}],
    "image": "a.png",
    "images": ["a.png"],
    "image_url": "a.png",
    "audio": {"path": "a.wav"},
    "audios": ["a.wav"],
    "input_audio": {"data": "UklGRg==", "format": "wav"},
    "video": "a.mp4",
    "videos": ["a.mp4"],
    "mask": "User",
    "masked": True,
    "weight": 0,
    "loss_weight": 0.5,
    "loss_scale": 2,
    "train": False,
    "trained": False,
    "trainable": False,
    "system": "Be brief.",
    "system_prompt": "Be brief.",
    "system_message": "Be brief.",
    "system_instruction": "Be brief.",
    "developer": "Be brief.",
    "chat_template_kwargs": {"enable_thinking": False},
}
NAMED = {"chat_template_kwargs": "chat_template_kwargs.enable_thinking"}
"""What is named where a shape passes the field to the template, which ignores it."""
SPELLINGS = {
    "toolCalls": [CALL],
    "toolcalls": [CALL],
    "tool-calls": [CALL],
    "ToolCalls": [CALL],
    "TOOL_CALLS": [CALL],
    "_tool__calls": [CALL],
    "Weight": 0.5,
    "reasoningContent": "It asks for a tree.",
}
"""Fields of messages under other spellings of their names."""

Case = tuple[str, Callable[[int], Row], Callable[[int], Row]]
"""The field that is named, the row that has it, and one of the same shape without it."""


def refused_by_prep() -> list[Case]:
    cases: list[Case] = []
    for field, value in OF_MESSAGES.items():
        more = {field: value}
        cases.append((f"messages[1].{field}", lambda n, more=more: chat(n, said=more), chat))
    for field, value in (("weight", 1), ("train", True), ("loss", 0.3), ("name", "ann")):
        more = {field: value}
        cases.append((f"messages[0].{field}", lambda n, more=more: chat(n, asked=more), chat))
    for field, value in OF_ROWS.items():
        more = {field: value}
        cases.append((NAMED.get(field, field), lambda n, more=more: chat(n, **more), chat))
        cases.append((field, lambda n, more=more: data(n, **more), data))
    for field, value in SPELLINGS.items():
        more = {field: value}
        cases.append((f"messages[1].{field}", lambda n, more=more: chat(n, said=more), chat))
    for field in ("Tools", "chatTemplateKwargs", "loss-weight"):
        more = {field: {"enable_thinking": False}}
        cases.append((field, lambda n, more=more: chat(n, **more), chat))
    brief = [{"role": "system", "content": "Be brief."}]
    cases.append(("prompt", lambda n: chat(n, prompt=brief), begun))
    cases.append(("prompt", lambda n: chat(n, prompt=[*begun(n)["prompt"], *brief]), begun))
    return cases


def refused_by_binarize() -> list[Case]:
    cases: list[Case] = []
    for field, value in OF_MESSAGES.items():
        more = {field: value}
        cases.append((f"chosen[1].{field}", lambda n, more=more: pair(n, said=more), pair))
    for field in OF_ANSWERS:
        more = {field: OF_MESSAGES[field]}
        cases.append((f"completions[0].{field}", lambda n, more=more: scored(n, more), scored))
    for field, value in OF_ROWS.items():
        more = {field: value}
        cases.append((NAMED.get(field, field), lambda n, more=more: pair(n, **more), pair))
        cases.append((field, lambda n, more=more: scored(n, **more), scored))
    cases.append(("prompt", lambda n: bare(n, "Name a moss."), asked))
    cases.append(("prompt", lambda n: pair(n, prompt="In French: name a fish."), asked))
    other = [{"role": "user", "content": "Name a moss."}]
    cases.append(("prompt", lambda n: pair(n, prompt=other), pair))
    return cases


CASES = {"prep": refused_by_prep(), "binarize": refused_by_binarize()}
PLAIN: dict[str, dict[str, Any]] = {
    "prep": {"dedup.near": False, "dedup.exact": False, "shards.test_fraction": 0},
    "binarize": {"shards.test_fraction": 0},
}


def saved(path: Path, rows: list[Row]) -> Path:
    """The rows as a file of the format that its name asks for."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    table = pa.Table.from_pylist(rows)
    missing = [name for row in rows for name in row if name not in table.column_names]
    for name in dict.fromkeys(missing):
        table = table.append_column(name, pa.array([row.get(name) for row in rows]))
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


def run(command: str, inputs: list[Path], out: Path) -> list[Row]:
    act = commands.function(command)
    act(input=inputs, tokenizer="sample", out=out, overrides=PLAIN[command])
    return ledger(out)


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "arrow"])
@pytest.mark.parametrize("command", CASES)
def test_a_row_with_such_a_field_is_set_aside_by_its_name_and_its_neighbours_are_written(
    command: str, ending: str, tmp_path: Path
) -> None:
    inputs = []
    for number, (_, bad, good) in enumerate(CASES[command]):
        rows = [good(3 * number), bad(3 * number + 1), good(3 * number + 2)]
        inputs.append(saved(tmp_path / f"{number:03}.{ending}", rows))
    lines = run(command, inputs, tmp_path / "out")
    assert [line["outcome"] for line in lines] == ["written", "quarantined", "written"] * len(
        inputs
    )
    for (field, *_), line in zip(CASES[command], lines[1::3], strict=True):
        assert line["reason"] == "unsupported_field", (field, line)
        assert line["detail"].startswith(f"`{field}`: "), (field, line)


@pytest.mark.parametrize("command", CASES)
def test_the_slow_twin_refuses_the_same_rows(command: str) -> None:
    shapes = {"messages": "messages", "data": "alternating", "chosen": "pair"}
    for field, bad, good in CASES[command]:
        shape = next((shapes[key] for key in bad(1) if key in shapes), "completions")
        dialogue(shape, good(1))
        with pytest.raises(Refused, match="unsupported_field"):
            pytest.fail(f"{field}: {check_tools(dialogue(shape, bad(1))[0])}")


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_content_in_parts_is_set_aside_by_its_name(ending: str, tmp_path: Path) -> None:
    parts = {"content": [*PART, *PART]}
    rows = [chat(0, asked=parts, said=parts)] * 2
    inputs = [saved(tmp_path / f"0.{ending}", rows), saved(tmp_path / f"1.{ending}", [chat(0)])]
    lines = run("prep", inputs, tmp_path / "out")
    assert [line["reason"] for line in lines] == ["unsupported_field"] * 2 + [None]
    assert lines[0]["detail"].startswith("`messages[0].content`: ")


EMPTY: list[Any] = [None, "", [], {}, [None], {"a": None, "b": [{"c": ""}]}]


def test_empty_values_and_weights_that_change_nothing_are_no_refusal(tmp_path: Path) -> None:
    rows = [
        chat(index, said=dict.fromkeys(OF_MESSAGES, value), **dict.fromkeys(OF_ROWS, value))
        for index, value in enumerate(EMPTY)
    ]
    rows += [
        chat(10 + index, said={name: value})
        for index, (name, value) in enumerate(
            (name, value)
            for name in ("weight", "train", "loss", "trainable", "Loss_Weight")
            for value in (1, 1.0, True)
        )
    ]
    rows += [
        chat(30 + index, **{name: value})
        for index, (name, value) in enumerate(
            (name, value) for name in ("weight", "train", "loss_scale") for value in (1, 1.0, True)
        )
    ]
    # The system prompt is a message already.
    first = {"role": "system", "content": "Be brief."}
    rows.append({"messages": [first, *chat(40)["messages"]], "system": "Be brief."})
    # Fields that decide nothing, though others of their name do at other places.
    rows.append(chat(41, loss=2.0, training=0, name="x", thinking="z", tool_choice="auto"))
    rows.append(begun(42))
    rows.append(chat(43, prompt=chat(43)["messages"][0]["content"]))
    lines = run("prep", [saved(tmp_path / "rows.jsonl", rows)], tmp_path / "out")
    assert [line["outcome"] for line in lines] == ["written"] * len(rows), lines
    assert [text["messages"] for text in text_rows(tmp_path / "out", "train")] == [
        [{name: message[name] for name in ("role", "content")} for message in row["messages"]]
        for row in rows
    ]


REPEATED = {
    "tool_calls": '"tool_calls": [{"id": "c0"}], "tool_calls": null',
    "weight": '"weight": 0, "weight": 1',
    "thinking": '"thinking": "", "thinking": "It asks for a tree.", "thinking": []',
    "tool_call": r'"tool\u005fcall": {"id": "c0"}',
    "name": r'"name": null, "n\u0061me": "ann"',
}
"""Members of an answer that say something under a key that repeats or is escaped."""


def test_a_repeated_or_escaped_key_hides_nothing(tmp_path: Path) -> None:
    answer = '{{"role": "assistant", "content": "An oak.", {}}}'
    user = '{"role": "user", "content": "Name a tree."}'
    rows = [f'{{"messages": [{user}, {answer.format(more)}]}}' for more in REPEATED.values()]
    rows.append(f'{{"messages": [{user}], "tools": ["f"], "tools": []}}')
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([*rows, json.dumps(chat(0))]))
    *lines, last = run("prep", [path], tmp_path / "out")
    fields = [*(f"messages[1].{name}" for name in REPEATED), "tools"]
    assert [line["detail"].split(": ")[0] for line in lines] == [f"`{name}`" for name in fields]
    assert last["outcome"] == "written"
    for row in rows:
        with pytest.raises(Refused, match="unsupported_field"):
            dialogue("messages", fields_of(row.encode()))


def test_a_trained_question_is_refused_with_a_way_out(tmp_path: Path) -> None:
    rows = [chat(0, asked={"weight": 1}, said={"weight": 1}), chat(1, asked={"weight": 0})]
    bad, good = run("prep", [saved(tmp_path / "rows.jsonl", rows)], tmp_path / "out")
    assert bad["detail"].startswith("`messages[0].weight`: ")
    assert "only assistant messages are trained; remove it" in bad["detail"]
    assert good["outcome"] == "written"


def test_a_prompt_that_says_nothing_is_none_however_the_row_is_read(tmp_path: Path) -> None:
    """An escaped key makes a row unreadable for the fast reader, which must not matter."""
    fast = json.dumps(pair(0, prompt=[{"role": "", "content": ""}]))
    slow = fast.removesuffix("}") + r', "\u0078": 1}'
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{fast}\n{slow}\n")
    lines = run("binarize", [path], tmp_path / "out")
    assert [line["outcome"] for line in lines] == ["written"] * 2, lines


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_null_aligned_columns_are_no_refusal(ending: str, tmp_path: Path) -> None:
    """Parquet gives every row all fields, and objects whose members are all null."""
    rows = [
        chat(
            number,
            said={"function_call": {"name": None, "arguments": None}, "tool_calls": None},
            tools=[],
            images=None,
            chat_template_kwargs={"enable_thinking": None},
        )
        for number in range(3)
    ]
    lines = run("prep", [saved(tmp_path / f"rows.{ending}", rows)], tmp_path / "out")
    assert [line["outcome"] for line in lines] == ["written"] * 3


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_prompt_of_messages_goes_in_front_of_both_answers(ending: str, tmp_path: Path) -> None:
    first = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Name a moss."},
    ]
    explicit = bare(0, first)
    implicit = {side: [*first, *explicit[side]] for side in ("chosen", "rejected")}
    written = {}
    for name, row in (
        ("explicit", explicit),
        ("implicit", implicit),
        ("both", {"prompt": first, **implicit}),
    ):
        run("binarize", [saved(tmp_path / f"{name}.{ending}", [row])], tmp_path / name)
        written[name] = text_rows(tmp_path / name, "train")
    assert written["explicit"] == written["implicit"] == written["both"]
    (text,) = written["explicit"]
    assert text["chosen"] == implicit["chosen"] and text["rejected"] == implicit["rejected"]
