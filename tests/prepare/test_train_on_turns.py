"""Which messages are trained where the recipe chooses among them and the rows do so too: messages
with calls or reasoning count as answers, and an untrained answer shifts no other.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from zephyr_fast import _core, prep
from zephyr_fast.load.shards import Shards

SAMPLE = Path(_core.__file__).parent / "sample"
CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}
PLAIN = """{%- for m in messages %}<|{{ m.role }}|>
{%- if m.role == 'assistant' %}
{%- if m.thinking %}<think>{{ m.thinking }}</think>{% endif %}{{ m.content or '' }}
{%- for call in m.tool_calls or [] %}<call>{{ call.function.name }} {{ call.function.arguments.at }}
{{- '' }}</call>{% endfor %}
{%- else %}{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""
TAGGED = PLAIN.replace("'assistant' %}", "'assistant' %}{% generation %}", 1).replace(
    "{%- else %}", "{{ eos_token }}{% endgeneration %}{%- else %}"
).replace("{{ m.content }}{% endif %}{{ eos_token }}", "{{ m.content }}{{ eos_token }}{% endif %}")  # fmt: skip
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


def outcome(folder: Path, template: str, row: dict[str, Any], **overrides: str) -> tuple[str, str]:
    """The label tokens as text and the reason, one of them empty."""
    from tokenizers import Tokenizer

    of = folder / "of"
    of.mkdir()
    shutil.copy(SAMPLE / "tokenizer" / "tokenizer.json", of)
    (of / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    (folder / "t.jinja").write_text(template)
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(OTHER) + "\n")
    (folder / "r.toml").write_text("")
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    prep(
        str(folder / "r.toml"),
        input=folder / "rows.jsonl",
        out=folder / "out",
        tokenizer=of,
        overrides={
            "template.name": str(folder / "t.jinja"),
            "shards.test_fraction": 0.0,
            "structure.order": "any",
            **settings,
        },
        max_bad_rows=1.0,
    )
    inner = Tokenizer.from_file(str(of / "tokenizer.json"))
    shards = Shards(folder / "out", "train")
    labels = [int(label) for part in range(len(shards)) for label in shards[part]["labels"]]
    said = inner.decode([label for label in labels if label >= 0], skip_special_tokens=False)
    reasons = json.loads((folder / "out" / "manifest.json").read_text())["rows"]
    return said.replace("\n", ""), json.dumps(reasons)
