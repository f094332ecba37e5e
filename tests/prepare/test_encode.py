"""`encode` equals `apply_chat_template(…, return_assistant_tokens_mask=True)` of transformers."""

import gzip
import json
import random
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from out_folder import documents
from real_data import real_path
from zephyr_fast import ConfigError, InputError

transformers = pytest.importorskip("transformers")
trl = pytest.importorskip("trl")

PACKAGE = Path(zephyr_fast.__file__).parent
SAMPLE = PACKAGE / "sample" / "tokenizer"
TEMPLATES = ["qwen2_5_training", "llama3_training", "phi3_training"]
HOSTILE = [
    "",
    " ",
    "\n\n",
    "é🙂\u200d🙂",
    "</s> <s>",
    "<|user|>\n<|assistant|>",
    "{{ messages }}{% generation %}",
    '\u0000\u001f\\"',
    "\r\n a\tb ",
    "<|im_start|>assistant\n",
    "x" * 3_000,
]

Dialogue = list[dict[str, str]]


def slow(dialogues: list[Dialogue], tokenizer: Any, template: str) -> list[dict[str, Any]]:
    """Ids, labels and text of each dialogue, by transformers."""
    rows = []
    for dialogue in dialogues:
        made = tokenizer.apply_chat_template(
            dialogue,
            chat_template=template,
            return_assistant_tokens_mask=True,
            return_dict=True,
        )
        ids, mask = made["input_ids"], made["assistant_masks"]
        labels = [one if is_trained else -100 for one, is_trained in zip(ids, mask, strict=True)]
        text = tokenizer.apply_chat_template(dialogue, chat_template=template, tokenize=False)
        rows.append({"input_ids": ids, "labels": labels, "text": text})
    return rows


def dialogue(*texts: str) -> Dialogue:
    return [
        {"role": ("user", "assistant")[number % 2], "content": text}
        for number, text in enumerate(texts)
    ]


def hostile_dialogues(seed: int) -> list[Dialogue]:
    """Dialogues whose every text is one or two hostile ones. Answers are never blank, because
    templates cut white space off differently.
    """
    draw = random.Random(seed)
    made = []
    for _ in range(60):
        texts = [
            "".join(draw.choices(HOSTILE, k=2)) + ("" if number % 2 == 0 else "Yes.")
            for number in range(2 * draw.randint(1, 3))
        ]
        made.append(dialogue(*texts))
    return made


def template_text(name: str) -> str:
    return files(trl).joinpath("chat_templates", f"{name}.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_labels_and_text_of_hostile_dialogues_equal_those_of_transformers(
    name: str, tmp_path: Path
) -> None:
    path = tmp_path / f"{name}.jinja"
    path.write_text(template_text(name), encoding="utf-8")
    tokenizer = transformers.AutoTokenizer.from_pretrained(SAMPLE)
    dialogues = hostile_dialogues(17)
    table = zephyr_fast.encode(dialogues, "sample", str(path), text=True)
    assert table.to_pylist() == slow(dialogues, tokenizer, template_text(name))


def test_ids_and_labels_of_real_dialogues_equal_those_of_transformers(tmp_path: Path) -> None:
    folder = real_path("tokenizers/qwen3")
    with gzip.open(real_path("ultrachat/200k_real.jsonl.gz"), "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line, _ in zip(lines, range(40), strict=False)]
    path = tmp_path / "template.jinja"
    path.write_text(template_text("qwen3_training"), encoding="utf-8")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    dialogues = [row["messages"] for row in rows]
    expected = slow(dialogues, tokenizer, template_text("qwen3_training"))
    for given in (dialogues, rows, iter(dialogues)):
        table = zephyr_fast.encode(given, folder, str(path))
        assert table.column_names == ["input_ids", "labels"]
        assert table["input_ids"].to_pylist() == [row["input_ids"] for row in expected]
        assert table["labels"].to_pylist() == [row["labels"] for row in expected]


def test_a_dialogue_without_tokens_is_named_and_nothing_is_left_out() -> None:
    good = dialogue("Hi", "Yes.")
    for bad, why in [
        ([{"role": "user"}], "dialogue 1: invalid_row"),
        ({"prompt": "Hi"}, "dialogue 1: invalid_row"),
        (["Hi"], "dialogue 1: invalid_row"),
        ("Hi", "dialogue 1"),
        ([{"role": "user", "content": float("nan")}], "dialogue 1 .*JSON"),
        (dialogue("Hi", "\ud800"), "dialogue 1: invalid"),
        (
            dialogue("\ud800 ", "A"),
            r"1: invalid_json: `messages\[0\]\.content` is not valid Unicode",
        ),
        (
            {"messages": dialogue("Hi", "\udfff"), "id": 1},
            r"1: .*`messages\[1\]\.content` is not valid",
        ),
        (None, "dialogue 1: it is NoneType, expected a list of messages"),
        (3, "dialogue 1: it is int"),
    ]:
        with pytest.raises(InputError, match=why):
            zephyr_fast.encode([good, bad], "sample", "zephyr")  # type: ignore[list-item]
    robot, torn = [{"role": "robot", "content": "a"}], dialogue("\ud800")
    with pytest.raises(InputError, match=r"dialogue 1: .*robot"):
        zephyr_fast.encode([good, robot, torn], "sample", "zephyr")
    for whole in (None, {"messages": good}, "Hi"):
        with pytest.raises(InputError, match=r"`dialogues` is .*expected an iterable of dialogues"):
            zephyr_fast.encode(whole, "sample", "zephyr")  # type: ignore[arg-type]
    assert zephyr_fast.encode([], "sample", "zephyr").num_rows == 0


def test_the_ids_of_prep_are_those_with_bos(tmp_path: Path) -> None:
    rows = [{"messages": dialogue(f"What is {number}?", "A number.")} for number in range(3)]
    options: dict[str, Any] = {
        "truecase": {"enabled": False},
        "dedup": {"exact": False, "near": False},
        "filter": [],
        "shards": {"test_fraction": 0.0},
        "template": {"name": "zephyr"},
    }
    out = tmp_path / "out"
    zephyr_fast.prep(input=rows, tokenizer="sample", out=out, overrides=options)
    written = documents(out, "train")
    table = zephyr_fast.encode(rows, "sample", "zephyr", bos=True)
    assert [written[row] for row in range(3)] == [
        {"ids": row["input_ids"], "labels": row["labels"]} for row in table.to_pylist()
    ]
    without = zephyr_fast.encode(rows, "sample", "zephyr")
    assert without["input_ids"].to_pylist() == [ids[1:] for ids in table["input_ids"].to_pylist()]


def test_usual_messages_and_rows_as_json_give_the_same() -> None:
    dialogues = hostile_dialogues(3)
    dialogues += [[{"role": "system", "content": "Rules."}, *dialogue("Hi", "Yes.")]]
    dialogues += [[], dialogue("Hi")]
    by_rows = zephyr_fast.encode([{"messages": one} for one in dialogues], "sample", "zephyr")
    assert zephyr_fast.encode(dialogues, "sample", "zephyr").equals(by_rows)
    too_many = dialogue(*["a"] * 1_025)
    for bad in ([{"role": "robot", "content": "a"}], too_many):
        with pytest.raises(InputError) as of_messages:
            zephyr_fast.encode([bad], "sample", "zephyr")
        with pytest.raises(InputError) as of_row:
            zephyr_fast.encode([{"messages": bad}], "sample", "zephyr")
        assert str(of_messages.value) == str(of_row.value)


def test_the_first_dialogue_that_fails_is_named() -> None:
    good, bad = dialogue("Hi", "Yes."), [{"role": "robot", "content": "a"}]
    for first in (0, 255, 256, 700):
        dialogues = [good] * first + [bad] * 600
        with pytest.raises(InputError, match=f"dialogue {first}:"):
            zephyr_fast.encode(dialogues, "sample", "zephyr")


def test_a_changed_tokenizer_is_loaded_again(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    shutil.copytree(SAMPLE, tokenizer)
    hi = [dialogue("Hi", "Yes.")]
    before = zephyr_fast.encode(hi, tokenizer, "zephyr", text=True)
    assert zephyr_fast.encode(hi, tokenizer, "zephyr", text=True).equals(before)
    config = tokenizer / "tokenizer_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps(settings | {"eos_token": "<unk>"}), encoding="utf-8")
    after = zephyr_fast.encode(hi, tokenizer, "zephyr", text=True)
    assert after["text"][0].as_py() == before["text"][0].as_py().replace("</s>", "<unk>")
    (tokenizer / "chat_template.jinja").write_text("{{ raise_exception('no') }}", encoding="utf-8")
    with pytest.raises(ConfigError, match="rejected"):
        zephyr_fast.encode(hi, tokenizer, "tokenizer")
