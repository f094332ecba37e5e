"""Expressions of Jinja: the engine writes what Python's Jinja writes, or refuses; never other text."""

import json
import logging
import shutil
from pathlib import Path

import pytest

from zephyr_fast import RecipeError, _core

chat = pytest.importorskip("transformers.utils.chat_template_utils")
logging.getLogger("transformers").setLevel(logging.ERROR)

SAMPLE = Path(_core.__file__).parent / "sample" / "tokenizer"
MESSAGES = [
    {"role": "user", "content": " Straße\x1c\u2028ΑΣ 'a\"b' \\ a,b,,c  d\r\ne\x85f </think>x "},
    {"role": "assistant", "content": "Yes."},
]
WRITES = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}"
SETS = "{% set c = messages[0].content %}{% set l = [3, 1, 2] %}{% set d = {'b': 1, 'a': [true, none, 1.5]} %}{% set ns = namespace(n=1) %}"

# Written as expressions, as templates have them.
EXPRESSIONS = """
c|trim|c.strip()|c.lstrip()|c.rstrip()|c.strip(' x')|c|upper|c|lower|c.upper()|c.lower()|c|capitalize|c.capitalize()|c|title|c.title()|c|length
c.split()|c.split(',')|c.split(',', 1)|c.split(None, 1)|c.splitlines()|c.splitlines(true)|c.replace('a', 'bb')|c.replace('a', 'b', 1)|c|replace('a', 'b')
c|replace('a', 'b', 1)|c.replace('', '-')|c.startswith(' S')|c.endswith(('x ', 'y'))|c.find('a')|c.rfind('a')|c.count('a')|c.count('')|c.isspace()
c.isdigit()|c.isalpha()|c.isalnum()|c.islower()|c.isupper()|c.isascii()|c.partition(',')|c.rsplit(',', 1)|c.removeprefix(' ')|c.title()|c.swapcase()
c.index('a')|c.zfill(40)|c.center(40)|c.ljust(40)|c.encode()|c.casefold()|c.format(1)|c.join(['x', 'y'])|'{} {}'.format(1, 'a')|'%s-%d' % ('a', 1)
'%s'|format('a')|c[0]|c[-1]|c[1:4]|c[::-1]|c[::2]|c[99]|c[-3:]|c[:-1]|c * 2|c + 'x'|c ~ 1|c ~ none|c ~ true|c ~ [1]|c ~ undefined_name|1 ~ 2
'a' in c|'z' not in c|c is string|c is iterable|c is sequence|c is mapping|c is number|c is defined|c is none|undefined_name is undefined
none is iterable|none is sequence|undefined_name is iterable|undefined_name is sequence|d is sequence|d is iterable|d is mapping|l is sequence|l is mapping
true is number|true is integer|1 is integer|1.0 is integer|1.0 is float|true is boolean|none is none|1 is odd|2 is even|4 is divisibleby 2
'a' is lower|'A' is upper|1 is sameas 1|c is eq c|1 is in l|true is true|false is false|1 is true|l is callable|l|tojson|d|tojson|d|tojson(indent=2)
c|tojson|none|tojson|true|tojson|1.5|tojson|1e20|tojson|{}|tojson|[]|tojson(indent=2)|c|tojson(ensure_ascii=true)|d|tojson(sort_keys=true)
d|tojson(separators=(',', ':'))|undefined_name|tojson|l|l|first|l|last|l|length|l|join(',')|l|join|l|sort|l|reverse|list|l|sum|l|min|l|max|l|unique|list
l|list|c|list|d|list|d|items|list|d|dictsort|d.items()|list|d.keys()|list|d.values()|list|d.get('x')|d.get('x', 1)|d['b']|d.b|d.a[0]|d.nothing
d|length|l|string|d|string|c|string|1.0|string|none|string|true|string|l[0]|l[-1]|l[1:]|l[::-1]|l + [4]|l * 2|l == [3, 1, 2]|1 in l|'b' in d|l.count(1)
l.index(1)|messages|length|messages[0].role|messages[-1]['role']|messages[5]|messages[0].nothing|messages[0]|messages|messages[1:]|length
messages|map(attribute='role')|join(',')|messages|selectattr('role', 'equalto', 'user')|list|length|messages|rejectattr('role', 'eq', 'user')|list|length
l|map('string')|join|l|select('odd')|list|l|reject('odd')|list|l|map('upper')|list|l|batch(2)|list|l|slice(2)|list|[[1, 2], [3]]|sum(start=[])|l|random
true|false|none|undefined_name|1.0|1.5|100000000000000000000|1e100|1e16|0.1 + 0.2|7 // 2|-7 // 2|7 % 3|-7 % 3|7 / 2|2 ** 10|2 ** -1|1 + true|1 == true
1 == 1.0|'a' < 'b'|1 < 2 < 3|not c|c and 1|none or 'x'|'' or 'x'|c if true else 'y'|'y' if false|[] == ()|(1, 2)|(1,)|()|[1, 'a', none, true, 1.5]
{'a': 'b'}|{'a': {'b': [1]}}|['a"b']|["a'b"]|['\\n']|['é']|'a\\tb'|'\\u00e9'|'\\x41'|'\\\\'|"it's"|'a' 'b'|3|abs|-3|abs|'3'|int|'3.5'|float|3.567|round(1)
c|default('x')|undefined_name|default('x')|none|default('x')|none|default('x', true)|''|d('x', true)|c|safe|c|e|c|escape|'<&>'|e|c|indent(2)|'a\\nb'|indent
'a\\nb'|indent(4, true)|c|wordcount|c|truncate(5)|'a b'|urlencode|c|center(30)|c|striptags|c|wordwrap(5)|c|first|c|last|c|reverse|c|count|d|pprint
range(3)|list|range(1, 7, 2)|list|range(3)|range(3)|length|dict(a=1)|dict(a=1)|tojson|namespace(a=1).a|ns.n|ns|cycler('a', 'b').next()|joiner(',')()|lipsum(1)
'abc'[1]|'abc'[5]|'abc'.nothing|l.nothing|none.nothing|c.strip|c.split('</think>')[-1]|c.split('</think>')[0].strip()|c.split('')|loop|raise_exception('no')
caller|messages[0].items()|list|messages[0].keys()|list|'role' in messages[0]|messages[0].get('tool_calls')|messages[0].content is defined|tools|documents
tools is none|tools is defined|add_generation_prompt|bos_token|eos_token|bos_token is defined|'a'|replace('a', '')|'aaa'|replace('aa', 'b')|1 is string
""".strip()


def expressions() -> list[str]:
    """The pieces between bars, with each filter put back behind what it follows."""
    filters = {
        "trim", "upper", "lower", "capitalize", "title", "length", "tojson", "first", "last", "join", "sort", "reverse", "sum", "min", "max",
        "unique", "list", "items", "dictsort", "string", "random", "abs", "int", "float", "safe", "e", "escape", "wordcount", "striptags",
        "count", "pprint", "indent", "urlencode",
    }  # fmt: skip
    found: list[str] = []
    for line in EXPRESSIONS.splitlines():
        opened = False
        for piece in line.split("|"):
            is_filter = piece in filters or any(piece.startswith(f"{name}(") for name in [*filters, "replace", "format", "map", "select",
                "selectattr", "rejectattr", "reject", "batch", "slice", "round", "default", "d", "truncate", "center", "wordwrap"])  # fmt: skip
            if opened and is_filter:
                found.append(f"{found[-1]}|{piece}")
            else:
                found.append(piece)
            opened = True
    return sorted(set(found))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    shutil.copy(SAMPLE / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>"}))
    return folder


@pytest.mark.parametrize("expression", expressions())
def test_the_engine_writes_what_python_writes_or_refuses(expression: str, tokenizer: Path, tmp_path: Path) -> None:
    template = f"{SETS}{WRITES}[{{{{ {expression} }}}}]"
    file = tmp_path / "expression.jinja"
    file.write_text(template, encoding="utf-8")
    try:
        [got] = json.loads(_core.render(tokenizer, str(file), json.dumps([MESSAGES]), True))
    except RecipeError as error:
        assert "expression.jinja" in str(error)
        return
    if "text" not in got:
        return
    try:
        [text], _ = chat.render_jinja_template(
            [MESSAGES], chat_template=template, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
        )
    except Exception:
        return  # Where Python has no text there is none to differ from.
    if " at 0x" in text:
        return  # An address, another one each time.
    assert got["text"] == text
