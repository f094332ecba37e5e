"""Filters, methods and operators of templates with many values and arguments: the engine writes
what Python's Jinja writes, or refuses by name; never other text.
"""

import itertools
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from sample_tokenizer import with_config
from zephyr_fast import ConfigError, _core

chat = pytest.importorskip("transformers.utils.chat_template_utils")
logging.getLogger("transformers").setLevel(logging.ERROR)

SAMPLE = Path(_core.__file__).parent / "sample" / "tokenizer"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
CONTENT = " <b>Straße 'a' \"q\" \\ & 日本 e\u0301\u2028ΑΣ\x1c\n12 "
WRITES = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}"
SETS = (
    "{% set c = messages[0].content %}{% set l = [3, 1, 2] %}{% set w = ['b', 'B', 'a', 'é'] %}"
    "{% set d = {'b': 1, 'A': 2, 'a': 0, 'é': 3} %}{% set t = [3, '1', none] %}"
    "{% set p = [{'n': 'b', 'k': {'x': 2}}, {'n': 'A', 'k': {'x': 1}}, {'n': 'b', 'k': {}}] %}"
    "{% set ns = namespace(n=1) %}"
)
BATCH = 150

TEXTS = ["c", "''", "'-5'", "' +12 '", "'aXbXc'", "'<b>'|safe", "'x'", "(c|safe)"]
VALUES = [
    *TEXTS, "0", "-3", "2.5", "1.0", "true", "none", "nothing", "l", "w", "d", "t", "p", "[]", "{}",
    "(1, 2)", "l[1:]", "[1.5, 2, true]", "['a', 'A']", "[[2], [1]]", "ns", "l + [9]",
]  # fmt: skip
FILTERS = [
    "trim", "trim('x -')", "trim(chars='ab ')", "trim(none)", "trim(nothing)", "trim('')",
    "min", "max", "min(true)", "max(case_sensitive=true)", "min(attribute='n')",
    "max(attribute='k.x')", "min(attribute='items')", "min(false, 'n')", "max(attribute=0)",
    "sort", "sort(true)", "sort(reverse=true, case_sensitive=true)", "sort(attribute='n')",
    "sort(attribute='k.x')", "sort(attribute='n,k')", "dictsort", "dictsort(true)",
    "dictsort(by='value')", "dictsort(false, 'key', true)", "dictsort(reverse=true)",
    "unique|list", "unique(true)|list", "unique(attribute='n')|list", "unique|length", "unique",
    "sum", "sum(start=10)", "sum(attribute='k.x')", "sum(start=[])",
    "batch(2)|list", "batch(2, 'x')|list", "batch(0)|list", "batch(2)|length", "slice(2)|list",
    "slice(2, 'x')|list", "slice(5)|list", "slice(0)|list", "batch(2)", "first", "last", "length",
    "round", "round(1)", "round(0, 'floor')", "round(1, 'ceil')", "round(-1)", "float", "float(7)",
    "int", "int(9)", "indent", "indent(2)", "indent(2, true)", "indent(width='> ', first=true)",
    "indent(2, blank=true)", "indent(-1)", "escape", "e", "string", "safe", "upper", "lower",
    "capitalize", "title", "replace('a', '<')", "replace('a', 'b', 1)", "replace('', '-', 2)",
    "replace('a'|safe, '<'|safe)", "replace(1, 2)", "join", "join(', ')", "join('<'|safe)",
    "map('trim')|list", "map('upper')|join(',')", "map(attribute='n')|join(',')", "reverse|list",
    "select|list", "reject('none')|list", "list", "wordcount", "center(20)", "abs",
    "map('min')|list", "default('x')", "default('x', true)", "items|list", "format(1)",
]  # fmt: skip
JSONS = [
    "tojson", "tojson(true)", "tojson(false, 2)", "tojson(indent=0)", "tojson(indent=-1)",
    "tojson(indent=true)", "tojson(indent='\\t')", "tojson(indent=40)", "tojson(indent=1.5)",
    "tojson(separators=(',', ':'))", "tojson(separators=[' ,', ' : '], indent=1)",
    "tojson(separators=(',',))", "tojson(separators=none)", "tojson(sort_keys=true)",
    "tojson(ensure_ascii=true, sort_keys=true, indent=3, separators=(';', '='))",
    "tojson(ensure_ascii=none)", "tojson(ensure_ascii=nothing)", "tojson(indent=nothing)",
    "tojson(false, none, (',', ':'), true)", "tojson(unknown=1)",
]  # fmt: skip
JSON_VALUES = [
    *VALUES, "{'b': [1, {'a': none}], 'a': c}", "{1: 2, 'x': 3}", "{2: 1, 1: 2}", "{true: 1}",
    "{none: []}", "{1.5: 1}", "[c, [], {}]", "'\\x7f\\u0000\\u2028'", "'😀é'", "[c|safe]",
]  # fmt: skip
METHODS = [
    "strip()", "strip('x ')", "lstrip('- ')", "rstrip(none)", "split()", "split('X')",
    "split(none, 1)", "split(sep='X', maxsplit=1)", "split(maxsplit=1)", "split('')",
    "rsplit('X', 1)", "rsplit(maxsplit=1)", "splitlines()", "splitlines(keepends=true)",
    "partition('X')", "rpartition('X')[2]", "partition('X')[0]", "partition('')",
    "partition('X')|length", "partition('X')|list", "rpartition('zz')|list", "find('a')",
    "find('X', 2)", "find('X', -3)", "find('', 99)", "find('X', 0, -2)", "rfind('X', 0, 4)",
    "index('X')", "rindex('X')", "count('X')", "count('')", "count('X', 2)", "zfill(5)",
    "zfill(-1)", "zfill(true)", "ljust(8)", "ljust(8, '*')", "rjust(8, 'é')", "center(9)",
    "center(8, '*')", "center(8, 'ab')", "removeprefix('a')", "removeprefix('')",
    "removesuffix('c')", "swapcase()", "casefold()", "title()", "upper()", "lower()",
    "capitalize()", "isdigit()", "isdecimal()", "isnumeric()", "isalpha()", "isalnum()",
    "isupper()", "islower()", "isspace()", "istitle()", "isascii()", "isidentifier()",
    "isprintable()", "startswith('a')", "startswith(('a', ' '))", "endswith('c')", "endswith('')",
    "startswith('X', 1)", "replace('X', 'Y')", "replace('X', 'YY', 1)", "replace('', '-')",
    "expandtabs()", "encode()", "format(1)", "join(['a', 'b'])", "join(w)", "join('ab')",
    "get('b')", "keys()|list", "copy()", "index(1)", "append(1)", "pop()", "update({})",
]  # fmt: skip
LATER = ["", " + '<'", "|upper", " ~ '<'", "|length", "|string + '>'", "|trim + '&'"]
OPERANDS = ["c", "'<'", "('<'|safe)", "1", "true", "2.5", "none", "nothing", "l", "(1, 2)", "d"]
PERCENTS = ["%s", "%d", "%02d", "%5d", "%-3d", "%.2f", "%5.1f", "%x", "%r", "%%", "a%", "%s %s"]
ODD = [
    "(c|safe + '<') + '>'", "'<' + (c|safe) + '<' ~ '<'", "('<' + '<'|safe)|length",
    "('<'|safe ~ '<'|safe) + '<'", "(('<'|safe) ~ ('<'|safe)) + '<'", "'a' 'b+' + ('<'|safe)",
    "( ( '<' ) ) + ( ('<'|safe) )", "(1 + 2) * 3 ~ ('<'|safe)", "1 + 2 * 3 + (4 - 1)|abs",
    "-1 + 2 ~ '<'|safe", "[('<'|safe)]|join + '<'", "(c if true else '') + '<'|safe",
    "'%s' % ('<'|safe) + '<'", "'a%sb' % 'x' + 'y'", "'%d-%d' % (1, 2) ~ 3", "('%s') % (c)",
    "'%02d' % l|length", "'%02d' % (l|length)", "'%s' % c.strip()", "('%s' ~ '') % 1",
    "'x'.join(['<'|safe]) + '<'", "('<'|escape) + '<'", "c|escape", "('<'|escape)|escape",
    "'<'|safe == '<'", "'<'|safe in ['<']", "{'<': 1}['<'|safe]", "'<'|safe is string",
    "('a<'|safe).upper() + '<'", "('a<'|safe).strip('a') + '<'", "('a<'|safe)|upper + '<'",
    "('a<'|safe)[1:] + '<'", "('a<'|safe) * 2", "('a<'|safe).replace('a', '<')",
    "'min' is filter", "'even' is test", "'<'|safe is escaped", "d|dictsort|map('first')|join",
    "p|map(attribute='items')|list|length", "p|groupby('n')|list|length", "w|unique|join",
    "{'ſ': 1, 'S': 2, 't': 3}|dictsort|map('last')|join", "{'ς': 1, 'σ': 2}|dictsort|list|length",
    "{'É': 1, 'e': 2, '_': 3, 'Z': 4}|dictsort|map('first')|join", "{1: 1, 'a': 2}|dictsort",
    "range(3)|min", "range(0)|max is defined", "'abc'|max", "d.keys()|sort|join",
    "d.values()|sum", "d.values()|max", "d.items()|list|length", "(l|sort)[0]", "l|sort == [1,2,3]",
    "l|unique == [3, 1, 2]", "(l|batch(2))[0]", "l|batch(2)|map('first')|join",
    "l|slice(2)|map('join', '-')|join(';')",
]  # fmt: skip


def expressions() -> Iterator[str]:
    yield from (f"{value}|{name}" for value, name in itertools.product(VALUES, FILTERS))
    yield from (f"({value})|{name}" for value, name in itertools.product(JSON_VALUES, JSONS))
    yield from (f"({text}).{name}" for text, name in itertools.product([*TEXTS, "d", "l"], METHODS))
    yield from (f"({value}|trim){then}" for value, then in itertools.product(VALUES, LATER))
    yield from (f"{one} + {other}" for one, other in itertools.product(OPERANDS, OPERANDS))
    yield from (f"'{form}' % {value}" for form, value in itertools.product(PERCENTS, OPERANDS))
    yield from ODD


def theirs(expression: str) -> str | None:
    """The text of `transformers`, or `None` if it raises or writes an address."""
    template = f"{SETS}[{{{{ {expression} }}}}]"
    try:
        [text], _ = chat.render_jinja_template([dialogue(0)], chat_template=template, **SPECIAL)
    except Exception:
        return None
    return None if " at 0x" in text else str(text)


def dialogue(number: int) -> list[dict[str, str]]:
    texts = {"user": CONTENT, "assistant": "Yes."}
    turns = [{"role": role, "content": text} for role, text in texts.items()]
    return [*turns, {"role": "user", "content": f"number {number}"}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_config(tmp_path_factory.mktemp("tokenizer"), SPECIAL)


def ours(chosen: list[str], tokenizer: Path) -> list[str | None]:
    """The text of each expression here, or `None` if it is refused. A template chooses the
    expression by the last message, so that each is refused alone.
    """
    branches = "".join(
        f"{{% elif k == 'number {number}' %}}[{{{{ {expression} }}}}]"
        for number, expression in enumerate(chosen)
    )
    first = "{% set k = messages[-1].content %}{% if k[:7] != 'number ' %}"
    file = tokenizer / "functions.jinja"
    file.write_text(f"{SETS}{first}{WRITES}{branches}{{% endif %}}", encoding="utf-8")
    rows = [dialogue(number) for number in range(len(chosen))]
    try:
        found = json.loads(_core.render((tokenizer, str(file)), json.dumps(rows), True))
    except ConfigError as error:
        assert "functions.jinja" in str(error)
        if len(chosen) == 1:
            return [None]
        half = len(chosen) // 2
        return [*ours(chosen[:half], tokenizer), *ours(chosen[half:], tokenizer)]
    return [one.get("text") for one in found]


@pytest.mark.parametrize("marks", [True, False])
def test_functions_write_what_python_writes_or_are_refused(tokenizer: Path, marks: bool) -> None:
    # Guards are other ones in a template that names `safe` or `escape` anywhere.
    chosen = [one for one in expressions() if marks or not ("safe" in one or "escape" in one)]
    equal = 0
    for start in range(0, len(chosen), BATCH):
        batch = chosen[start : start + BATCH]
        for expression, text in zip(batch, ours(batch, tokenizer), strict=True):
            expected = theirs(expression)
            if text is not None and expected is not None:
                assert text == expected, expression
                equal += 1
    assert equal > 1300
