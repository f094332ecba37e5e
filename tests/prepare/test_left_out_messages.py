"""A message that the chat template leaves out is never lost: its row is quarantined by name."""

import json
from pathlib import Path

import pytest

import zephyr_fast
from out_folder import ledger

ASKED = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "an answer"}]
OF_KNOWN = (
    "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}"
    "<{{ m.role }}>{{ m.content }}</s>{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("template", ["zephyr", OF_KNOWN], ids=["native", "jinja"])
@pytest.mark.parametrize("role", ["developer", "tool"])
def test_a_row_whose_message_would_be_lost_is_not_written(
    template: str, role: str, tmp_path: Path
) -> None:
    if template != "zephyr":
        (tmp_path / "t.jinja").write_text(template)
        template = str(tmp_path / "t.jinja")
    other = {"role": role, "content": "the rule"}
    rows = [{"messages": [other, *ASKED]}, {"messages": ASKED}]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    zephyr_fast.prep(
        "chat", input=path, out=tmp_path / "out", tokenizer="sample",
        overrides={"template.name": template, "dedup.exact": False},
    )  # fmt: skip
    lost, kept = ledger(tmp_path / "out")
    assert (lost["reason"], kept["reason"]) == ("mask_not_provable", None)
    assert role in lost["detail"]
