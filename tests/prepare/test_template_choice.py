"""Which template a run uses, what ends an answer, and what the template sees: the defaults do what
a user of another model expects, or the run says what to do.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from real_data import real_path
from sample_tokenizer import with_config
from zephyr_fast import ConfigError, _core, prep
from zephyr_fast.cli import cli
from zephyr_fast.load.shards import Shards

chat = pytest.importorskip("transformers.utils.chat_template_utils")

SAMPLE = Path(_core.__file__).parent / "sample"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TURNS = [
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because."},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "So."},
]
PLAIN = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"
BARE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
BETWEEN = (
    "{% for m in messages %}{{ '' if loop.first else '<|end|>' }}<|{{ m.role }}|>{{ m.content }}"
    "{% endfor %}"
)
# A prompt that is always written, as that of Cohere's command-a.
PROMPTED = (
    "{% for m in messages %}<|turn|><|{{ m.role }}|>{{ m.content }}<|stop|><|end|>{% endfor %}"
    "<|turn|><|assistant|>"
)


def tokenizer(folder: Path, **config: Any) -> Path:
    """The sample tokenizer with this config."""
    return with_config(folder, SPECIAL | config)


def rows(folder: Path, *dialogues: list[dict[str, str]]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"messages": turns}) + "\n" for turns in dialogues))
    return path


def run(folder: Path, of: Path, *dialogues: list[dict[str, str]], **overrides: Any) -> Path:
    """Prepare dialogues as they are. Keys are written with two underscores for the dot."""
    recipe = folder / "plain.toml"
    recipe.write_text("")
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    settings |= {"shards.test_fraction": 0.0}
    prep(
        str(recipe),
        input=rows(folder, *dialogues),
        out=folder / "out",
        tokenizer=of,
        overrides=settings,
    )
    return folder / "out"


def trained(out: Path) -> str:
    """All label tokens of a dataset as text, in order."""
    from tokenizers import Tokenizer

    inner = Tokenizer.from_file(str(out / "tokenizer" / "tokenizer.json"))
    shards = Shards(out, "train")
    labels = [int(label) for row in range(len(shards)) for label in shards[row]["labels"]]
    return inner.decode([label for label in labels if label >= 0], skip_special_tokens=False)


def template_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "manifest.json").read_text())["template"]
    return found


def render(of: Path, template: str, *dialogues: list[dict[str, str]], **keys: str) -> list[Any]:
    """Render with a template text. `keys` are lines of the recipe."""
    file = of / "t.jinja"
    file.write_text(template, encoding="utf-8")
    recipe = [f'template.name = "{file}"', *(f"{key.replace('__', '.')} = {value}" for key, value in
              keys.items()), ""]  # fmt: skip
    by = (of, "\n".join(recipe))
    found: list[Any] = json.loads(_core.render(by, json.dumps(dialogues), False))
    return found


def answers(rendered: dict[str, Any]) -> list[str]:
    return [rendered["text"][start:end] for start, end in rendered["trained"]]


def test_auto_is_the_tokenizers_own_template_and_zephyrs_without_one(tmp_path: Path) -> None:
    own = run(tmp_path, tokenizer(tmp_path / "own", chat_template=PLAIN), TURNS)
    assert template_of(own)["name"] == "tokenizer"
    shutil.rmtree(own)
    base = run(tmp_path, tokenizer(tmp_path / "base"), TURNS)
    assert template_of(base)["name"] == "zephyr"
    assert template_of(base)["ends"] == ["</s>"]


def test_the_bundled_recipes_use_the_tokenizers_own_template(tmp_path: Path) -> None:
    qwen = real_path("tokenizers/qwen3")
    manifest = prep(input="sample", out=tmp_path / "out", tokenizer=qwen)
    assert manifest.template is not None and manifest.template.name == "tokenizer"
    assert manifest.template.end_tokens == (151_645,)
    assert manifest.template.foreign_markers == ()


def test_a_list_of_templates_uses_the_one_named_default(tmp_path: Path) -> None:
    listed = [{"name": "rag", "template": BARE}, {"name": "default", "template": PLAIN}]
    run(tmp_path, tokenizer(tmp_path / "listed", chat_template=listed), TURNS)
    assert "Because.</s>" in trained(tmp_path / "out")
    other = tokenizer(tmp_path / "other", chat_template=listed[:1])
    with pytest.raises(ConfigError, match="no template named `default`"):
        run(tmp_path, other, TURNS)


def test_a_template_without_an_end_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    of = tokenizer(tmp_path / "of")
    for template, place in ((BARE, "assistant message, so"), (BETWEEN, "that ends a dialogue")):
        with pytest.raises(ConfigError, match=place) as refused:
            render(of, template, TURNS)
        assert "--train-end append" in str(refused.value)


def test_an_end_is_appended_where_the_template_writes_none(tmp_path: Path) -> None:
    of = tokenizer(tmp_path / "of")
    [got] = render(of, BETWEEN, TURNS, tokenize__train_end='"append"')
    assert answers(got) == ["Because.<|end|>", "So.<|end|>"]
    [got] = render(of, BARE, TURNS, tokenize__train_end='"append"')
    assert answers(got) == ["Because.", "So.</s>"] and got["text"].endswith("So.</s>\n")
    [got] = render(of, BARE, TURNS, tokenize__train_end='"as-is"')
    assert answers(got) == ["Because.", "So."]


def test_every_end_is_trained_and_a_prompt_behind_it_is_not(tmp_path: Path) -> None:
    [got] = render(tokenizer(tmp_path / "of"), PROMPTED, TURNS)
    assert answers(got) == ["Because.<|stop|><|end|>", "So.<|stop|><|end|>"]


def test_reasoning_is_trained_where_the_template_writes_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    qwen = real_path("tokenizers/qwen3")
    turns = [dict(turn) for turn in TURNS]
    turns[1]["content"] = "<think>\nHm.\n</think>\n\nBecause."
    turns[3]["content"] = "<think>\nWell, <b>.\n</think>\n\nSo."
    text = AutoTokenizer.from_pretrained(qwen).apply_chat_template(turns, tokenize=False)
    [got] = json.loads(_core.render((qwen, "tokenizer"), json.dumps([turns]), False))
    assert got["text"] == text
    assert answers(got) == ["Because.<|im_end|>", "<think>\nWell, <b>.\n</think>\n\nSo.<|im_end|>"]
    # And such rows are written: `<think>` is no control token.
    out = run(
        tmp_path, qwen, turns, [*TURNS[:3], {"role": "assistant", "content": "<name>x</name>"}]
    )
    assert "Well, <b>.\n</think>\n\nSo.<|im_end|>" in trained(out)
    assert json.loads((out / "manifest.json").read_text())["rows"]["written"] == 2


def test_templates_see_every_special_token(tmp_path: Path) -> None:
    of = tokenizer(
        tmp_path / "of",
        sep_token={"content": "<sep>"},
        extra_special_tokens={"image_token": "<image>"},
    )
    [got] = render(of, PLAIN + "{{ sep_token }}{{ image_token }}", TURNS)
    assert got["text"].endswith("So.</s><sep><image>")


def test_the_date_of_a_template_is_that_of_the_recipe(tmp_path: Path) -> None:
    of, dated = tokenizer(tmp_path / "of"), "{{ strftime_now('%d %b %Y') }}" + PLAIN
    with pytest.raises(ConfigError, match=r"set `template\.date`"):
        render(of, dated, TURNS)
    [got] = render(of, dated, TURNS, template__date='"2024-07-26"')
    assert got["text"].startswith("26 Jul 2024<|user|>")
    with pytest.raises(ConfigError, match="expected a day"):
        render(of, dated, TURNS, template__date='"26 Jul 2024"')
    with pytest.raises(ConfigError, match=r"`template\.date` has no effect"):
        render(of, PLAIN, TURNS, template__date='"2024-07-26"')


def test_arguments_of_the_recipe_reach_the_template(tmp_path: Path) -> None:
    of = tokenizer(tmp_path / "of")
    switched = PLAIN + "{{ 'on' if enable_thinking else 'off' }}"
    for value, end in (("true", "on"), ("false", "off")):
        [got] = render(of, switched, TURNS, template__args__enable_thinking=value)
        assert got["text"].endswith(end)
    with pytest.raises(ConfigError, match="has no effect"):
        render(of, PLAIN, TURNS, template__args__enable_thinking="true")
    with pytest.raises(ConfigError, match="cannot be set"):
        render(of, PLAIN, TURNS, template__args__messages="[]")


@pytest.mark.parametrize("loop", ["{% for t in tools %}{% endfor %}", "{{ tools|join }}"])
def test_a_loop_over_none_is_refused_as_transformers_refuses_it(loop: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="NoneType"):
        chat.render_jinja_template([TURNS], chat_template=PLAIN + loop, **SPECIAL)
    with pytest.raises(ConfigError, match="loops over a value that is none"):
        render(tokenizer(tmp_path / "of"), PLAIN + loop, TURNS)


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        ("assistant", "Because.</s>So.</s>Yes.</s>"),
        ("last", "Yes.</s>"),
        ("completion", "So.</s>Yes.</s>"),
    ],
)
def test_only_the_answers_that_the_recipe_names_are_trained(
    train_on: str, expected: str, tmp_path: Path
) -> None:
    turns = [*TURNS, {"role": "assistant", "content": "Yes."}]
    out = run(tmp_path, tokenizer(tmp_path / "of"), turns, tokenize__train_on=train_on)
    assert trained(out).replace("\n", "") == expected


def test_the_summary_names_the_template_and_warns_of_one_for_another_model(tmp_path: Path) -> None:
    arguments = [
        "prep",
        "--input",
        "sample",
        "--template",
        "chatml",
        "--out",
        str(tmp_path / "out"),
    ]
    found = CliRunner().invoke(cli, arguments)
    assert found.exit_code == 0, found.output
    assert "chatml; assistant messages end with `<|im_end|>`" in found.output
    assert "the tokenizer splits into several tokens" in found.output.replace("\n", " ")
    assert template_of(tmp_path / "out")["foreign_markers"] == ["<|im_end|>", "<|im_start|>"]
    silent = ["prep", "--input", "sample", "--out", str(tmp_path / "own")]
    found = CliRunner().invoke(cli, silent)
    assert "splits" not in found.output and "zephyr; assistant messages end" in found.output


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_tokenizer_that_splits_special_tokens_is_refused(file: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    of = tokenizer(tmp_path / "of")
    run(tmp_path, tokenizer(tmp_path / "whole", split_special_tokens=False), TURNS)
    path = of / file
    config = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(config | {"split_special_tokens": True}))
    if file == "tokenizer_config.json":
        # What the setting does: the same text has other ids than those of `tokenizer.json`.
        [end] = transformers.AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer").encode(
            "</s>", add_special_tokens=False
        )
        assert len(transformers.AutoTokenizer.from_pretrained(of).tokenize("</s>")) > 1, end
    with pytest.raises(ConfigError, match="`split_special_tokens` to true"):
        run(tmp_path / "of", of, TURNS)
