"""Which messages are trained where the recipe chooses among them and the rows do so too: messages
with calls or reasoning count as answers, and an untrained answer shifts no other.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from out_folder import ledger, shard_rows
from sample_tokenizer import with_config
from zephyr_fast import _core, prep

SAMPLE = Path(_core.__file__).parent / "sample"
CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}
PLAIN = """{%- for m in messages %}<|{{ m.role }}|>
{%- if m.role == 'assistant' %}
{%- if m.thinking %}<think>{{ m.thinking }}</think>{% endif %}{{ m.content or '' }}
{%- for call in m.tool_calls or [] %}<call>{{ call.function.name }} {{ call.function.arguments.at }}
{{- '' }}</call>{% endfor %}
{%- else %}{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""
TAGGED = (
    PLAIN.replace("'assistant' %}", "'assistant' %}{% generation %}", 1)
    .replace("{% endif %}{{ eos_token }}", "{{ eos_token }}{% endif %}")
    .replace("{%- else %}", "{{ eos_token }}{% endgeneration %}{%- else %}")
)
LOOK = "Hm.<call>look sky</call></s>"


def asked(*flags: dict[str, Any]) -> dict[str, Any]:
    """A row with three assistant messages, with these members."""
    first, call, last = [*flags, {}, {}, {}][:3]
    return {
        "messages": [
            {"role": "user", "content": "Hello?"},
            {"role": "assistant", "content": "Yes.", **first},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "Hm.", "tool_calls": [CALL], **call},
            {"role": "tool", "content": "rain"},
            {"role": "assistant", "content": "Wet.", **last},
        ]
    }


def outcome(folder: Path, template: str, row: dict[str, Any], train_on: str) -> str:
    """The label tokens as text, or the reason."""
    from tokenizers import Tokenizer

    of = with_config(folder / "of", {"bos_token": "<s>", "eos_token": "</s>"})
    (folder / "t.jinja").write_text(template)
    kept = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    rows = [row, {**kept, "id": "kept"}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (folder / "r.toml").write_text("")
    prep(
        str(folder / "r.toml"),
        input=folder / "rows.jsonl",
        out=folder / "out",
        tokenizer=of,
        overrides={
            "template.name": str(folder / "t.jinja"),
            "shards.test_fraction": 0.0,
            "tokenize.train_on": train_on,
        },
    )
    first = ledger(folder / "out")[0]
    if first["reason"]:
        return str(first["reason"])
    inner = Tokenizer.from_file(str(of / "tokenizer.json"))
    parts = shard_rows(folder / "out", "train")
    labels = [label for part in parts for label in part["labels"] if label >= 0]
    said: str = inner.decode(labels, skip_special_tokens=False)
    # The answer of the row that is kept in any case, before or after.
    return said.replace("\n", "").removesuffix("b</s>").removeprefix("b</s>")


@pytest.mark.parametrize("template", [PLAIN, TAGGED], ids=["plain", "tagged"])
@pytest.mark.parametrize(
    ("train_on", "flags", "expected"),
    [
        ("assistant", [], f"Yes.</s>{LOOK}Wet.</s>"),
        ("last", [], "Wet.</s>"),
        ("completion", [], f"{LOOK}Wet.</s>"),
        ("assistant", [{"weight": 0}], f"{LOOK}Wet.</s>"),
        ("last", [{"weight": 0}], "Wet.</s>"),
        ("completion", [{"weight": 0}], f"{LOOK}Wet.</s>"),
        ("completion", [{}, {"train": False}], "Wet.</s>"),
        ("last", [{}, {"train": False}], "Wet.</s>"),
        ("completion", [{}, {}, {"train": False}], LOOK),
        ("last", [{}, {}, {"train": False}], "no_assistant_tokens"),
        ("all", [{"weight": 0}], "unsupported_field"),
    ],
)
def test_the_recipe_chooses_among_the_trained_messages(
    template: str, train_on: str, flags: list[dict[str, Any]], expected: str, tmp_path: Path
) -> None:
    assert outcome(tmp_path, template, asked(*flags), train_on) == expected


def test_an_argument_with_two_values_is_refused_by_name(tmp_path: Path) -> None:
    template = PLAIN + "{% if mood is defined %}{{ mood }}{% endif %}"
    (tmp_path / "t.jinja").write_text(template)
    with_config(tmp_path, {"eos_token": "</s>"})
    recipe = f'template.name = "{tmp_path / "t.jinja"}"\ntemplate.args.mood = "good"\n'
    rows = [{**asked(), "chat_template_kwargs": {"mood": mood}} for mood in ("good", "bad")]
    good, bad = json.loads(_core.render((tmp_path, recipe), json.dumps(rows), False))
    assert good["text"].endswith("good")
    assert bad["reason"] == "unsupported_field" and "template.args.mood" in bad["detail"]


@pytest.mark.parametrize("train_on", ["assistant", "last", "completion", "all"])
def test_truncated_label_tokens_are_those_after_the_cut(train_on: str, tmp_path: Path) -> None:
    """Cut dialogues end with an earlier message, which may have more tokens than the last one."""
    said = ["Why?", "word " * 40, "And?", "word " * 150, "So?", "Yes."]
    roles = ["user", "assistant"] * 3
    row = {"messages": [{"role": r, "content": c} for r, c in zip(roles, said, strict=True)]}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(row) + "\n")
    settings: dict[str, Any] = {"tokenize.train_on": train_on, "shards.test_fraction": 0.0}
    made = {}
    for length in (128, 2048):
        settings["pack.seq_len"] = length
        out = tmp_path / str(length)
        made[length] = prep("chat", input=rows, tokenizer="sample", out=out, overrides=settings)
    cut, whole = (made[length].splits["train"] for length in (128, 2048))
    assert cut.tokens + cut.tokens_truncated == whole.tokens and whole.label_tokens_truncated == 0
    if train_on in ("assistant", "all"):
        assert cut.label_tokens + cut.label_tokens_truncated == whole.label_tokens
    else:  # nothing of the last message is left
        assert cut.label_tokens_truncated == whole.label_tokens < cut.label_tokens
