"""Templates in the style of many families: text, ids and labels equal those of `transformers`, or
the row is refused. Add a file to `tests/fixtures/other_templates` and it is tested.
"""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sample_tokenizer import with_config
from zephyr_fast import ConfigError, InputError, _core

pytest.importorskip("transformers")

import transformers

from template_table import SPECIAL, Row, row

logging.getLogger("transformers").setLevel(logging.ERROR)

TEMPLATES = sorted((Path(__file__).parents[1] / "fixtures" / "other_templates").glob("*.jinja"))


def tool(name: str, **properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": [*properties][:1]}
    function = {"name": name, "description": f"<{name}> & 'more'", "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS = [
    tool("weather", city={"type": "string", "description": "A city.\nIts name."},
         Days={"type": "array", "items": {"type": "integer"}}),
    tool("Add", terms={"type": "string", "enum": ["a", 'b"']},
         deep={"type": "object", "properties": {"x": {"type": "number"}}}),
]  # fmt: skip
ARGUMENTS = {"city": "<Paris> & 'é'", "days": [1, 2.5, None, True], "map": {"b": "<", "a": {}}}


def called(content: str) -> Row:
    asked = row("Will it rain?", tools=TOOLS)
    function = {"name": "weather", "arguments": ARGUMENTS}
    asked["messages"] += [
        {"role": "assistant", "content": content, "tool_calls": [
            {"id": "call00001", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": "Rain."},
        {"role": "assistant", "content": "Yes."},
    ]  # fmt: skip
    return asked


ROWS = [
    row("Why?", "Because."),
    row("Why?", "Because.", "And?", "So.", "Then?", "Done."),
    row("Why?", "Because.", system="Be good."),
    row("12", "34", "\n 5\r\n6 \n", "7\n8\n"),
    row("Grüße 日本語 👩‍👩‍👧", "e\u0301 ſtraße\u2028İ", "\xa0\u200b?", "Ja\u202e!"),
    row("{{ 7 * 7 }}{% if x %} \n", "  <think>hm</think>\n<b>&amp;</b> ", "%s \\n", "'\" {}"),
    row("Will it rain?", "Yes.", tools=TOOLS),
    called(""),
    called("I will look."),
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_config(tmp_path_factory.mktemp("tokenizer"), SPECIAL)


def theirs(of: Any, template: str, row: Row) -> tuple[str, list[int], list[int]] | None:
    """Text, ids and mask of `transformers`, or `None` if it raises."""
    given: Any = {"tools": row.get("tools"), "chat_template": template}
    try:
        text = of.apply_chat_template(row["messages"], tokenize=False, **given)
        encoded = of.apply_chat_template(
            row["messages"], return_dict=True, return_assistant_tokens_mask=True, **given
        )
    except Exception:
        return None
    return text, encoded["input_ids"], encoded["assistant_masks"]


def ours(folder: Path, file: Path, row: Row) -> tuple[str, list[int], list[int]] | None:
    """Text, ids and labels here, or `None` if the template or the row is refused."""
    try:
        stream = _core.encode((folder, str(file), False, False), [(json.dumps(row), [])])
    except (ConfigError, InputError):
        return None
    table = pa.ipc.open_stream(pa.py_buffer(stream)).read_all()
    [found] = json.loads(_core.render((folder, str(file)), json.dumps([row]), False))
    return found["text"], table["input_ids"][0].as_py(), table["labels"][0].as_py()


@pytest.mark.parametrize("file", TEMPLATES, ids=[path.stem for path in TEMPLATES])
def test_text_ids_and_labels_are_those_of_transformers(file: Path, tokenizer: Path) -> None:
    template = file.read_text(encoding="utf-8")
    of = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer / "tokenizer.json"), **SPECIAL
    )
    equal = 0
    for number, one in enumerate(ROWS):
        expected, got = theirs(of, template, one), ours(tokenizer, file, one)
        if expected is None or got is None:
            continue
        equal += 1
        assert got[0] == expected[0], number
        assert got[1] == expected[1], number
        if file.stem.startswith("generation"):
            mask = [int(label != -100) for label in got[2]]
            assert mask == expected[2], number
    assert equal, "every row is refused"


def test_tags_whose_text_is_stored_train_the_text_where_it_is_written(tokenizer: Path) -> None:
    [file] = [path for path in TEMPLATES if path.stem == "stored_generation"]
    of = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer / "tokenizer.json"), **SPECIAL
    )
    found = ours(tokenizer, file, ROWS[1])
    assert found is not None
    labels = [label for label in found[2] if label != -100]
    assert of.decode(labels) == "Because.</s>So.</s>Done.</s>"
    expected = theirs(of, file.read_text(encoding="utf-8"), ROWS[1])
    assert expected is not None and expected[2] != [int(label != -100) for label in found[2]]
