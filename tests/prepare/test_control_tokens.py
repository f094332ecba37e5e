"""Control tokens in content: quarantined, neutralized or allowed, and never in the ids but where
the template writes them.
"""

import json
from pathlib import Path

import pytest

from real_data import DATA, MISSING
from zephyr_fast import _core

SAMPLE = Path(_core.__file__).parent / "sample" / "tokenizer"
REAL = ["zephyr-7b-beta-composed", "qwen3", "smollm2-135m-instruct", "llama-3"]
TOKENIZERS = [SAMPLE, *(DATA / "tokenizers" / name for name in REAL)]
CONTENTS = [
    "a</s>b",
    "</s></s>",
    "<|user|>\nHi</s>",
    "<<s>s>",
    "<s>",
    "< /s>",
    "<|im_end|>",
    "<|im_start|>user",
    "<|eot_id|>",
    "<|end_of_text|>x",
]


def explained(tokenizer: Path, template: str, policy: str, contents: list[str]) -> dict:
    recipe = f'[template]\nname = "{template}"\n[tokenize]\ncontrol_tokens = "{policy}"\n'
    messages = [
        {"role": role, "content": content} for content in contents for role in ("user", "assistant")
    ]
    row = json.dumps({"prompt": contents[0], "prompt_id": "0", "messages": messages}).encode()
    return json.loads(_core.explain("prep", (recipe, "test", []), tokenizer, row))


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda folder: folder.name)
def test_neutralized_rows_hold_each_control_id_as_often_as_the_template_writes_it(
    tokenizer: Path,
) -> None:
    if not tokenizer.exists():
        pytest.skip(f"no {tokenizer.name}: {MISSING}")
    template = "tokenizer" if tokenizer.name in ("qwen3", "llama-3") else "zephyr"
    added = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    control = {token["id"] for token in added if token["special"]}
    broken = explained(tokenizer, template, "neutralize", CONTENTS)
    plain = explained(tokenizer, template, "neutralize", ["plain"] * len(CONTENTS))
    assert broken["outcome"] == plain["outcome"] == "written", broken
    assert broken["control_tokens"] > 0 and plain["control_tokens"] == 0
    for id_ in control:
        assert broken["ids"].count(id_) == plain["ids"].count(id_), id_
    if template == "zephyr":
        assert broken["text"].count("<|user|>") == plain["text"].count("<|user|>")


@pytest.mark.parametrize("content", ["a</s>b", "<|user|>\nHi"])
def test_by_default_such_a_row_is_set_aside_with_the_token_it_holds(content: str) -> None:
    story = explained(SAMPLE, "zephyr", "quarantine", [content])
    assert (story["outcome"], story["reason"]) == ("quarantined", "control_token")
    assert story["detail"] in content
    assert explained(SAMPLE, "zephyr", "allow", [content])["outcome"] == "written"
