"""Expressions and statements of Jinja: the engine writes what Python's Jinja writes, or refuses;
never other text.
"""

import json
import logging
from pathlib import Path

import pytest

from sample_tokenizer import with_config
from zephyr_fast import ConfigError, _core

chat = pytest.importorskip("transformers.utils.chat_template_utils")
logging.getLogger("transformers").setLevel(logging.ERROR)

SAMPLE = Path(_core.__file__).parent / "sample" / "tokenizer"
MESSAGES = [
    {"role": "user", "content": " Straße\x1c\u2028ΑΣ 'a\"b' \\ a,b,,c  d\r\ne\x85f </think>x "},
    {"role": "assistant", "content": "Yes."},
]
WRITES = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
SETS = (
    "{% set c = messages[0].content %}{% set l = [3, 1, 2] %}"
    "{% set d = {'b': 1, 'a': [true, none, 1.5]} %}{% set ns = namespace(n=1) %}"
)

# One a line; add one and it is a test. `c` is a content, `l` a list, `d` a map, `ns` a namespace.
FIXTURES = Path(__file__).parents[1] / "fixtures"
EXPRESSIONS = (FIXTURES / "jinja_expressions.txt").read_text(encoding="utf-8").splitlines()
STATEMENTS = (FIXTURES / "jinja_statements.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_config(tmp_path_factory.mktemp("tokenizer"), SPECIAL)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_engine_writes_what_python_writes_or_refuses(
    expression: str, tokenizer: Path, tmp_path: Path
) -> None:
    compare(f"{SETS}{WRITES}[{{{{ {expression} }}}}]", tokenizer, tmp_path)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_statements_write_what_python_writes_or_are_refused(
    statement: str, tokenizer: Path, tmp_path: Path
) -> None:
    compare(f"{SETS}{WRITES}[{statement}]", tokenizer, tmp_path)


def compare(template: str, tokenizer: Path, folder: Path) -> None:
    file = folder / "expression.jinja"
    file.write_text(template, encoding="utf-8")
    try:
        [got] = json.loads(_core.render((tokenizer, str(file)), json.dumps([MESSAGES]), True))
    except ConfigError as error:
        assert "expression.jinja" in str(error)
        return
    if "text" not in got:
        return
    try:
        [text], _ = chat.render_jinja_template(
            [MESSAGES],
            chat_template=template,
            add_generation_prompt=True,
            bos_token="<s>",
            eos_token="</s>",
        )
    except Exception:
        return  # Where Python has no text there is none to differ from.
    if " at 0x" in text:
        return  # An address, another one each time.
    assert got["text"] == text


@pytest.mark.parametrize("opens", ["{% raw %}", "{%- raw %}", "{% raw -%}", "{%raw%}"])
@pytest.mark.parametrize("closes", ["{% endraw %}", "{%- endraw %}", "{% endraw -%}"])
def test_raw_blocks_keep_the_line_ends_that_python_keeps(
    opens: str, closes: str, tokenizer: Path, tmp_path: Path
) -> None:
    lines = f"\n  {opens}\n\n  {{{{ x }}}}\n  {closes}\n\n."
    for part in (
        lines,
        lines.replace("\n\n", "\n"),
        lines.replace("\n", "\r\n"),
        f"{opens}x{closes}",
    ):
        template = f"{WRITES}[{part}]"
        file = tmp_path / "raw.jinja"
        file.write_bytes(template.encode())
        [got] = json.loads(_core.render((tokenizer, str(file)), json.dumps([MESSAGES]), True))
        [text], _ = chat.render_jinja_template([MESSAGES], chat_template=template, **SPECIAL)
        assert got["text"] == text
