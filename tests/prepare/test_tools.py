"""Tool calls, reasoning and flags of messages: text and trained ranges must be those of
`transformers`, or the row is refused by name.
"""

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from real_data import DATA
from sample_tokenizer import with_config
from zephyr_fast import ConfigError, _core

trl = pytest.importorskip("trl")
chat = pytest.importorskip("transformers.utils.chat_template_utils")

PACKAGE = Path(_core.__file__).parent
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
SEED = 20_261_127
ROWS = 40

Row = dict[str, Any]

# Templates of ours, without and with tags. The second one loops over arguments.
PLAIN = """{%- if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>
{%- endif %}
{%- for m in messages %}<|{{ m.role }}|>
{%- if m.role == 'assistant' %}
{%- if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}
{{- m.content or '' }}{% for call in m.tool_calls or [] %}<call>{{ call.function.name }}
{{- call.function.arguments if call.function.arguments is string
    else call.function.arguments | tojson }}</call>{% endfor %}
{%- else %}{{ m.content }}{% endif %}<e>
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""
TAGGED = """{%- for tool in tools or [] %}{{ tool | tojson(indent=2) }}{% endfor %}
{%- for m in messages %}<|{{ m.role }}|>
{%- if m.role == 'assistant' %}{% generation %}
{{- m.thinking or '' }}{{ m.content or '' }}
{%- for call in m.tool_calls or [] %}[{{ call.function.name }}
{%- if call.function.arguments is mapping %}
{%- for key, value in call.function.arguments.items() %} {{ key }}={{ value | tojson }}
{%- endfor %}{% else %} {{ call.function.arguments }}{% endif %}]{% endfor %}<e>{% endgeneration %}
{%- else %}{{ m.content }}<e>{% endif %}
{% endfor %}"""

READS_NO_REASONING = {"qwen2_5", "llama3_1", "qwen3_vl"}

TEXTS = [
    "word", " Two words.\n", "{{ braces }}", "Grüße 日本語", "\x1c\x85\u2028", '"quoted" \\n',
    "</think>", "<tool_call>", "[w]", "{\"a\": 1}", "x" * 200, "None", "",
]  # fmt: skip
VALUES: list[Any] = [
    *TEXTS, 0, -7, 1.0, 0.25, 10**15, True, False, None, [], {}, [1, ["a"], None],
    {"ключ": {"b": [True, "ü"]}, "a b": 1.5},
]  # fmt: skip


def call(draw: random.Random, number: int) -> Row:
    arguments: Any = {f"k{n}": draw.choice(VALUES) for n in range(draw.randint(0, 3))}
    if draw.random() < 0.4:
        arguments = json.dumps(arguments)
    function = {"name": draw.choice(["w", "get_it", "a.b"]), "arguments": arguments}
    return {"id": f"call{number:05}", "type": "function", "function": function}


def answer(draw: random.Random, reasoning: str) -> Row:
    message: Row = {"role": "assistant", "content": draw.choice(TEXTS) + "!"}
    if reasoning and draw.random() < 0.4:
        message[reasoning] = draw.choice(TEXTS)
    return message


def row(draw: random.Random, reasoning: str) -> Row:
    """A dialogue in which the assistant calls, thinks and answers."""
    messages: list[Row] = []
    if draw.random() < 0.3:
        messages.append({"role": "system", "content": "Be good. " + draw.choice(TEXTS)})
    for _ in range(draw.randint(1, 3)):
        messages.append({"role": "user", "content": draw.choice(TEXTS) + "?"})
        for number in range(draw.choice([0, 0, 1, 1, 2])):
            calls = [call(draw, number) for _ in range(draw.choice([1, 1, 2]))]
            asks = answer(draw, reasoning)
            asks["content"] = draw.choice([asks["content"], "", None])
            messages.append({**asks, "tool_calls": calls})
            messages += [
                {"role": "tool", "tool_call_id": one["id"], "content": draw.choice(TEXTS) + "="}
                for one in calls
            ]
        messages.append(answer(draw, reasoning))
    made: Row = {"messages": messages}
    if draw.random() < 0.7:
        parameters = {"type": "object", "properties": {"k0": {"default": draw.choice(VALUES)}}}
        made["tools"] = [{"type": "function", "function": {"name": "w", "parameters": parameters}}]
    return made


def templates() -> Iterator[tuple[str, str, str]]:
    """Name, text, and the member with which the template reads reasoning, if it does."""
    yield "plain", PLAIN, "reasoning_content"
    yield "tagged", TAGGED, "thinking"
    folder = Path(trl.__file__).parent / "chat_templates"
    for name in (
        "qwen2_5", "qwen3", "qwen3_training", "qwen3_5_think", "glm4moe_training", "llama3_1",
        "lfm2_2_5_v2", "nemotron_3_nano", "nemotron_3_nano_training", "qwen3_vl",
    ):  # fmt: skip
        reasoning = "" if name in READS_NO_REASONING else "reasoning_content"
        yield name, (folder / f"{name}.jinja").read_text(encoding="utf-8"), reasoning
    config = DATA / "tokenizers" / "qwen3" / "tokenizer_config.json"
    if config.exists():
        yield "hub", json.loads(config.read_text())["chat_template"], "reasoning_content"


TEMPLATES = {name: (text, reasoning) for name, text, reasoning in templates()}


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_config(tmp_path_factory.mktemp("tokenizer"), SPECIAL)


def rendered(tokenizer: Path, file: Path, template: str, rows: list[Row]) -> list[Row]:
    file.write_bytes(template.encode())
    found: list[Row] = json.loads(_core.render((tokenizer, str(file)), json.dumps(rows), False))
    return found


def expected(template: str, row: Row) -> tuple[str | None, list[list[int]]]:
    try:
        texts, ranges = chat.render_jinja_template(
            [row["messages"]],
            tools=row.get("tools"),
            chat_template=template,
            return_assistant_tokens_mask=True,
            **row.get("chat_template_kwargs", {}),
            **SPECIAL,
        )
    except Exception:
        return None, []
    return texts[0], [list(one) for one in ranges[0] if one[0] < one[1]]


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_and_ranges_are_those_of_transformers(
    name: str, tokenizer: Path, tmp_path: Path
) -> None:
    template, reasoning = TEMPLATES[name]
    draw = random.Random(f"{SEED} {name}")
    print(f"seed: {SEED} {name}")
    rows = [row(draw, reasoning) for _ in range(ROWS)]
    written = 0
    for made, got in zip(
        rows, rendered(tokenizer, tmp_path / "t.jinja", template, rows), strict=True
    ):
        text, ranges = expected(template, made)
        if "reason" in got:
            assert got["detail"], (made, got)
            continue
        written += 1
        assert got["text"] == text, (made, got)
        if "{% generation %}" in template or "{%- generation %}" in template:
            assert got["trained"] == ranges, (made, got)
        trained = [got["text"][start:end] for start, end in got["trained"]]
        assert len(trained) == sum(one["role"] == "assistant" for one in made["messages"]) or ranges
        for message in made["messages"]:
            if message["role"] in ("tool", "user"):
                said = message["content"].strip()
                assert len(said) < 150 or not any(said in part for part in trained), (made, got)
    assert written > ROWS // 8, f"only {written} rows were written"


def marked(name: str) -> Row:
    """A row in which every part is a word of its own."""
    reasoning = TEMPLATES[name][1]
    one = {"type": "function", "function": {"name": "fOne", "arguments": {"key": "argOne"}}}
    return {
        "tools": [{"type": "function", "function": {"name": "fOne", "parameters": {}}}],
        "messages": [
            {"role": "user", "content": "askOne"},
            {"role": "assistant", "content": "sayOne", reasoning: "thinkOne", "tool_calls": [one]},
            {"role": "tool", "content": "resultOne"},
            {"role": "assistant", "content": "sayTwo"},
        ],
    }


def words(got: Row) -> set[str]:
    trained = "".join(got["text"][start:end] for start, end in got["trained"])
    return set(re.findall(r"(?:ask|say|think|arg|result|f)(?:One|Two)", trained))


READS_REASONING = [
    "plain",
    "tagged",
    "qwen3",
    "qwen3_training",
    "glm4moe_training",
    "qwen3_5_think",
]


@pytest.mark.parametrize("name", READS_REASONING)
def test_calls_and_reasoning_are_trained_and_results_are_not(
    name: str, tokenizer: Path, tmp_path: Path
) -> None:
    [got] = rendered(tokenizer, tmp_path / "t.jinja", TEMPLATES[name][0], [marked(name)])
    assert words(got) == {"sayOne", "thinkOne", "fOne", "argOne", "sayTwo"}, got


@pytest.mark.parametrize("flag", [{"weight": 0}, {"train": False}, {"loss": 0.0}])
@pytest.mark.parametrize("name", READS_REASONING)
def test_an_answer_marked_as_untrained_is_context(
    name: str, flag: Row, tokenizer: Path, tmp_path: Path
) -> None:
    first, last = marked(name), marked(name)
    first["messages"][1] |= flag
    last["messages"][3] |= flag
    got = rendered(tokenizer, tmp_path / "t.jinja", TEMPLATES[name][0], [first, last])
    assert words(got[0]) == {"sayTwo"}
    assert words(got[1]) == {"sayOne", "thinkOne", "fOne", "argOne"}
    assert got[0]["text"] == got[1]["text"]


def test_what_a_template_ignores_is_refused_by_name(tokenizer: Path, tmp_path: Path) -> None:
    zephyr = (PACKAGE / "templates" / "zephyr.jinja").read_text()
    blind = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<e>{% endfor %}"
    deaf = "{% for m in messages if m.role != 'tool' %}<{{ m.role }}>{{ m.content }}<e>{% endfor %}"
    whole = marked("plain")
    without_tools = {"messages": whole["messages"]}
    silent = {"messages": [dict(one) for one in whole["messages"]]}
    del silent["messages"][1]["tool_calls"], silent["messages"][1]["reasoning_content"]
    named = {"messages": [{**silent["messages"][0], "name": "ann"}, silent["messages"][3]]}
    argued = {"messages": silent["messages"][::3], "chat_template_kwargs": {"mood": "good"}}
    for template, row, field in [
        (zephyr, whole, "tools"),
        (zephyr, without_tools, "messages[1].reasoning_content"),
        (zephyr, named, "messages[0].name"),
        (zephyr, argued, "chat_template_kwargs.mood"),
        (blind, whole, "tools"),
        (blind, without_tools, "messages[1].reasoning_content"),
        (blind, named, "messages[0].name"),
        (blind, argued, "chat_template_kwargs.mood"),
        (PLAIN, named, "messages[0].name"),
    ]:
        [got] = rendered(tokenizer, tmp_path / "t.jinja", template, [row])
        assert got.get("reason") == "unsupported_field", (template, row, got)
        assert got["detail"].startswith(f"`{field}`: "), got
        assert "t.jinja" in got["detail"], got
    for template in (zephyr, deaf):
        [got] = rendered(tokenizer, tmp_path / "t.jinja", template, [silent])
        assert got["reason"] == "mask_not_provable", got
        assert "message 2" in got["detail"] and "`tool`" in got["detail"], got
    [got] = rendered(tokenizer, tmp_path / "t.jinja", blind, [silent])
    assert "text" in got


def test_a_call_of_several_that_is_ignored_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    first_only = PLAIN.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]")
    row = marked("plain")
    row["messages"][1]["tool_calls"] *= 2
    [got] = rendered(tokenizer, tmp_path / "t.jinja", first_only, [row])
    assert got["detail"].startswith("`messages[1].tool_calls["), got


def test_more_calls_than_can_be_checked_are_refused(tokenizer: Path, tmp_path: Path) -> None:
    """Each is checked by a rendering of all, so this would take quadratic time."""
    row = marked("plain")
    row["messages"][1]["tool_calls"] *= 5_000
    [got] = rendered(tokenizer, tmp_path / "t.jinja", PLAIN, [row])
    assert got["detail"].startswith("`tool_calls`: too many to check"), got


@pytest.mark.parametrize("member", ["name", "arguments"])
def test_a_member_of_a_call_that_is_ignored_is_refused(
    member: str, tokenizer: Path, tmp_path: Path
) -> None:
    without = PLAIN.replace("<call>{{ call.function.name }}", "<call>")
    if member == "arguments":
        start, end = PLAIN.index("{{- call.function.arguments if"), PLAIN.index("</call>")
        without = PLAIN[:start] + PLAIN[end:]
    row = marked("plain")
    row["messages"][1]["tool_calls"][0]["index"] = 0
    [whole] = rendered(tokenizer, tmp_path / "t.jinja", PLAIN, [row])
    assert "text" in whole, whole
    [got] = rendered(tokenizer, tmp_path / "t.jinja", without, [row])
    assert got["detail"].startswith(f"`messages[1].tool_calls[0].function.{member}`: "), got


def test_a_tool_of_several_that_is_ignored_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    """Though a call has the name of that tool."""
    row = marked("plain")
    row["tools"] = [{"type": "function", "function": {"name": "other"}}, *row["tools"]]
    [whole] = rendered(tokenizer, tmp_path / "t.jinja", PLAIN, [row])
    assert "text" in whole, whole
    first_only = PLAIN.replace("for tool in tools %}", "for tool in tools[:1] %}")
    [got] = rendered(tokenizer, tmp_path / "t.jinja", first_only, [row])
    assert got["detail"].startswith("`tools[1]`: "), got


TWINS = {
    "qwen2_5": "", "qwen3_vl": "", "qwen3": "reasoning_content",
    "qwen3_5_think": "reasoning_content", "nemotron_3_nano": "reasoning_content",
    "lfm2_v2": "",
}  # fmt: skip
"""Templates that TRL also has with tags, and the member with their reasoning."""
OPENINGS = re.compile(r"\s*(<think>\s*(</think>\s*)?)?")
"""What the tags of TRL may include before the first word of the assistant."""


@pytest.mark.parametrize("name", TWINS)
def test_without_tags_the_ranges_are_those_of_the_tagged_twin(
    name: str, tokenizer: Path, tmp_path: Path
) -> None:
    """Also where TRL begins or ends with white space that the prompt or the next message has."""
    folder = Path(trl.__file__).parent / "chat_templates"
    plain, tagged = (folder / f"{name}{end}.jinja" for end in ("", "_training"))
    draw = random.Random(f"{SEED} {name} twin")
    rows = [row(draw, TWINS[name]) for _ in range(ROWS)]
    compared = 0
    text = plain.read_text(encoding="utf-8")
    for made, got in zip(rows, rendered(tokenizer, tmp_path / "t.jinja", text, rows), strict=True):
        theirs, ranges = expected(tagged.read_text(encoding="utf-8"), made)
        if "reason" in got or got["text"] != theirs:
            continue
        compared += 1
        assert len(got["trained"]) == len(ranges), (made, got, ranges)
        for (start, end), (first, last) in zip(got["trained"], ranges, strict=True):
            assert first <= start and end <= last, (made, got, ranges)
            assert OPENINGS.fullmatch(theirs[first:start]), (made, got, ranges)
            assert not theirs[end:last].strip(), (made, got, ranges)
    assert compared >= 4, f"only {compared} rows have the same text"


def test_looping_over_null_fails_as_it_does_in_python(tokenizer: Path, tmp_path: Path) -> None:
    template = PLAIN.replace(
        "{{- m.content or '' }}", "{% for part in m.content %}{{ part }}{% endfor %}"
    )
    row = marked("plain")
    row["messages"][1]["content"] = None
    [got] = rendered(tokenizer, tmp_path / "t.jinja", template, [row])
    assert expected(template, row)[0] is None
    assert got["reason"] == "template_error"


def test_arguments_reach_the_template(tokenizer: Path, tmp_path: Path) -> None:
    template = PLAIN + "{% if mood is defined %}{{ mood }}{% endif %}"
    row = {**marked("plain"), "chat_template_kwargs": {"mood": "good"}}
    [got] = rendered(tokenizer, tmp_path / "t.jinja", template, [row])
    assert got["text"] == expected(template, row)[0] and got["text"].endswith("good")


def test_tools_as_text_are_the_tools_within(tokenizer: Path, tmp_path: Path) -> None:
    row = marked("plain")
    as_text = {**row, "tools": json.dumps(row["tools"])}
    one, other = rendered(tokenizer, tmp_path / "t.jinja", PLAIN, [row, as_text])
    assert one == other and "fOne" in one["text"]


def test_content_in_one_part_is_passed_as_a_list(tokenizer: Path, tmp_path: Path) -> None:
    parts = (
        "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{{ p.text }}{% endfor %}<e>"
        "{% endfor %}"
    )
    both = parts.replace(
        "{% for p in", "{% if m.content is string %}{{ m.content }}{% else %}{% for p in"
    )
    both = both.replace("{% endfor %}<e>", "{% endfor %}{% endif %}<e>")
    part = [{"type": "text", "text": "yes"}]
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": part}]}
    [got] = rendered(tokenizer, tmp_path / "t.jinja", both, [row])
    assert got["text"] == expected(both, row)[0]
    assert [got["text"][start:end] for start, end in got["trained"]] == ["yes<e>"]
    with pytest.raises(ConfigError):
        rendered(tokenizer, tmp_path / "t.jinja", parts, [row])
    [got] = rendered(
        tokenizer, tmp_path / "t.jinja", (PACKAGE / "templates/zephyr.jinja").read_text(), [row]
    )
    assert got["reason"] == "template_error"
