"""Rows as published datasets have them: read as they mean it, or refused by the name of a field."""

import json
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from out_folder import documents, ledger, text_rows

TOKENIZER = Path(zephyr_fast.__file__).parent / "sample" / "tokenizer"
TEXT = {"shards": {"tokens": False}}
ASKED, ANSWERED = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}

Row = dict[str, Any]


def run(row: Row, out: Path, **options: Any) -> dict[str, Any]:
    """Run `prep chat` on a row and one that is written. Returns the row's line in the ledger."""
    path = out.with_suffix(".jsonl")
    good = {"messages": [ASKED, {"role": "assistant", "content": "good"}]}
    path.write_text(json.dumps(row) + "\n" + json.dumps(good) + "\n")
    zephyr_fast.prep("chat", input=path, out=out, **options)
    return ledger(out)[0]


def test_lima_has_a_list_of_texts(tmp_path: Path) -> None:
    said = ["q1", "a1", "q2", "a2"]
    assert run({"conversations": said, "source": "x"}, tmp_path / "out", overrides=TEXT)
    turns = text_rows(tmp_path / "out", "train")[0]["messages"]
    assert [turn["content"] for turn in turns] == said
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 2
    mixed = run({"conversations": ["q", {"from": "gpt"}]}, tmp_path / "b", overrides=TEXT)
    assert mixed["detail"].startswith("`conversations[1]` is an object, expected text")


def test_slimorca_weighs_its_messages(tmp_path: Path) -> None:
    said = [("system", "s", None), ("human", "q1", 0), ("gpt", "no", 0.0), ("human", "q2", 0)]
    said.append(("gpt", "yes", 1.0))
    row = {
        "conversations": [dict(zip(("from", "value", "weight"), one, strict=True)) for one in said]
    }
    line = run(row, tmp_path / "out", tokenizer=TOKENIZER, overrides={"template.name": "zephyr"})
    assert (line["outcome"], line["reason"]) == ("written", None)
    labels = documents(tmp_path / "out", "train")[0]["labels"]
    trained = [label for label in labels if label != -100]
    text = zephyr_fast.encode(
        [[{"role": "user", "content": "q"}, {"role": "assistant", "content": "yes"}]],
        TOKENIZER,
        "zephyr",
    )
    assert trained == [label for label in text["labels"][0].as_py() if label != -100]


@pytest.mark.parametrize(("speaker", "weight"), [("human", 1), ("gpt", 0.5), ("system", True)])
def test_a_weight_that_cannot_be_kept_refuses_the_row(
    speaker: str, weight: Any, tmp_path: Path
) -> None:
    row = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    row["conversations"].insert(0, {"from": speaker, "value": "x", "weight": weight})
    line = run(row, tmp_path / "out", overrides=TEXT)
    assert line["reason"] == "unsupported_field"
    assert line["detail"].startswith("`conversations[0].weight`")


def test_an_input_may_be_a_list_of_messages(tmp_path: Path) -> None:
    row = {"input": [ASKED, ANSWERED, ASKED], "output": "b", "system_prompt": "s", "category": "c"}
    assert run(row, tmp_path / "out", overrides=TEXT)["outcome"] == "written"
    turns = text_rows(tmp_path / "out", "train")[0]["messages"]
    assert [turn["content"] for turn in turns] == ["s", "q", "a", "q", "b"]


@pytest.mark.parametrize("other", ["s", "another"])
@pytest.mark.parametrize("names", [("input", "output"), ("prompt", "completion")])
def test_a_system_prompt_in_a_column_and_in_the_messages_is_there_once(
    names: tuple[str, str], other: str, tmp_path: Path
) -> None:
    asked, answered = names
    row = {asked: [{"role": "system", "content": "s"}, ASKED], answered: "a", "system": other}
    line = run(row, tmp_path / "out", overrides=TEXT)
    assert line["reason"] == (None if other == "s" else "invalid_row")
    if other == "s":
        turns = text_rows(tmp_path / "out", "train")[0]["messages"]
        assert [turn["content"] for turn in turns] == ["s", "q", "a"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss_mask", 0),
        ("lossMask", 0),
        ("train_on_turn", False),
        ("is_masked", True),
        ("token_weights", [0.5]),
        ("experimental_attachments", [{"url": "x"}]),
        ("attachments", ["a.png"]),
        ("num_images", 2),
    ],
)
def test_a_field_of_a_message_that_its_name_tells_refuses_the_row(
    name: str, value: Any, tmp_path: Path
) -> None:
    for message in (0, 1):
        said = [dict(ASKED), dict(ANSWERED)]
        said[message][name] = value
        line = run({"messages": said}, tmp_path / f"out{message}", overrides=TEXT)
        assert line["reason"] == "unsupported_field"
        assert line["detail"].startswith(f"`messages[{message}].{name}`")


@pytest.mark.parametrize(
    ("name", "value", "is_refused"),
    [
        ("loss_mask", [0, 1], True),
        ("sample_weight", 0.5, True),
        ("sample_weight", 1, False),
        ("page_images", ["x"], True),
        ("num_images", 0, False),
        ("has_image", False, False),
        ("attention_mask", [1, 1], False),
        ("used_in_training", "no", False),
    ],
)
def test_a_column_that_its_name_tells_refuses_the_row(
    name: str, value: Any, is_refused: bool, tmp_path: Path
) -> None:
    row = {"messages": [ASKED, ANSWERED], name: value}
    line = run(row, tmp_path / "out", overrides=TEXT)
    assert line["reason"] == ("unsupported_field" if is_refused else None)
    ignored = {**TEXT, "source": {"ignore": [name]}}
    assert run(row, tmp_path / "ignored", overrides=ignored)["outcome"] == "written"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (
            {"query": "a query", "response": "a longer text", "type": "t"},
            "`--map instruction=query`",
        ),
        ({"id": "1", "answers": "a", "tools": "t"}, "`--map prompt=…` and `--map completion=…`"),
        ({"messages": [{"role": "USER", "content": "q"}, ANSWERED]}, "unknown role `USER`"),
    ],
)
def test_the_way_out_of_a_refusal_is_named(row: Row, told: str, tmp_path: Path) -> None:
    assert told in run(row, tmp_path / "out", overrides=TEXT)["detail"]
