"""Rows with tools, calls, reasoning and template arguments: the ids of real tokenizers are those
of `apply_chat_template`, and the labels are the trained ranges of the text.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from test_tools import PLAIN, SEED, Row, row

import zephyr_fast
from real_data import DATA
from zephyr_fast import _core

trl = pytest.importorskip("trl")
transformers = pytest.importorskip("transformers")

ROWS = 30
OWN = "its own"
"""Stands for the chat template of the tokenizer."""
CASES = [
    ("qwen3", OWN, "reasoning_content"),
    ("qwen3", "qwen3_training.jinja", "reasoning_content"),
    ("llama-3", "llama3_1.jinja", ""),
    ("mistral-7b-v0.1", PLAIN, "reasoning_content"),
    ("smollm2-135m-instruct", "qwen2_5.jinja", ""),
]


def template_of(tokenizer: Path, name: str) -> str:
    if name == OWN:
        config = json.loads((tokenizer / "tokenizer_config.json").read_text())
        return str(config["chat_template"])
    if name.endswith(".jinja"):
        return (Path(trl.__file__).parent / "chat_templates" / name).read_text(encoding="utf-8")
    return name


def labels_of(text: str, trained: list[list[int]], encoded: Any) -> list[int]:
    """The id of each token that shares a character with a trained range, and -100 of others."""
    is_trained = [any(start < end and at[0] < end and start < at[1] for start, end in trained)
                  for at in encoded["offset_mapping"]]  # fmt: skip
    ids: list[int] = encoded["input_ids"]
    return [one if flag else -100 for one, flag in zip(ids, is_trained, strict=True)]


@pytest.mark.parametrize(("name", "template", "reasoning"), CASES, ids=[c[0] for c in CASES])
def test_ids_and_labels_are_those_of_apply_chat_template(
    name: str, template: str, reasoning: str, tmp_path: Path
) -> None:
    folder = DATA / "tokenizers" / name
    if not (folder / "tokenizer.json").exists():
        pytest.skip("no real tokenizers here")
    text = template_of(folder, template)
    file = tmp_path / "t.jinja"
    file.write_bytes(text.encode())
    draw = random.Random(f"{SEED} {name} {template} ids")
    rows: list[Row] = [row(draw, reasoning) for _ in range(ROWS)]
    if "enable_thinking" in text:
        rows += [{**one, "chat_template_kwargs": {"enable_thinking": False}} for one in rows]
    rendered = json.loads(_core.render((folder, str(file)), json.dumps(rows), False))
    kept = [(one, got) for one, got in zip(rows, rendered, strict=True) if "text" in got]
    assert len(kept) > ROWS // 6, rendered
    table = zephyr_fast.encode([one for one, _ in kept], folder, str(file), text=True)
    slow = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder))
    for (one, got), fast in zip(kept, table.to_pylist(), strict=True):
        said = slow.apply_chat_template(
            one["messages"],
            tools=one.get("tools"),
            chat_template=text,
            tokenize=False,
            **one.get("chat_template_kwargs", {}),
        )
        encoded = slow(said, add_special_tokens=False, return_offsets_mapping=True)
        assert fast["text"] == said == got["text"], one
        assert fast["input_ids"] == encoded["input_ids"], one
        assert fast["labels"] == labels_of(said, got["trained"], encoded), one
