"""Added tokens that only the config of a tokenizer names give the ids that `transformers` gives.

`AutoTokenizer` is the oracle, on directories whose files name tokens at random.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from sample_tokenizer import with_config
from zephyr_fast import ConfigError

TOKENS = ["<|im_end|>", "</s>", "<s>", "<|a|>", "<|b|>", "bread", " the", "[PAD]", "ſt", ""]
TEXT = "Bread  <|im_end|> the </s>\n<s>so<|a|>\n\n<|b|> of the bread [PAD]x <unk>ſt st.<|im_end|> "
USUAL = ["bos", "eos", "unk", "sep", "pad", "cls", "mask"]
DIALOGUE = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
TEMPLATE = (
    "{{ text }}{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{{ eos_token }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
).replace("text", json.dumps(TEXT))
FLAGS = ["lstrip", "rstrip", "single_word", "normalized", "special"]


def one_token(chance: random.Random, *, typed: bool) -> Any:
    """A token as a text or as an object, with some of its properties."""
    content = chance.choice(TOKENS)
    if chance.random() < 0.5:
        return content
    flags = {name: chance.random() < 0.5 for name in FLAGS if chance.random() < 0.7}
    kind = {"__type": "AddedToken"} if typed else {}
    return {**kind, "content": content, **flags}


def files(chance: random.Random) -> dict[str, Any]:
    """The contents of a tokenizer's directory."""
    config: dict[str, Any] = {"eos_token": one_token(chance, typed=True)}
    names = [f"{name}_token" for name in USUAL] + ["image_token", "end_of_turn_token"]
    for name in chance.sample(names, chance.randrange(5)):
        config[name] = one_token(chance, typed=True)
    for name in ("additional_special_tokens", "extra_special_tokens"):
        if chance.random() < 0.2:
            config[name] = [one_token(chance, typed=True) for _ in range(chance.randrange(3))]
    if chance.random() < 0.1:
        config["extra_special_tokens"] = {"audio_token": one_token(chance, typed=True)}
    if chance.random() < 0.1:
        config["model_specific_special_tokens"] = {"x_token": one_token(chance, typed=True)}
    if chance.random() < 0.3:
        config["added_tokens_decoder"] = {
            str(chance.choice([0, 1, 2, 5, 300, 2048, 2049, 9000])): dict.fromkeys(FLAGS, False)
            | {"content": chance.choice(TOKENS)}
            | {name: True for name in FLAGS if chance.random() < 0.3}
            for _ in range(chance.randrange(4))
        }
    found = {"tokenizer_config.json": config}
    if chance.random() < 0.3:
        found["special_tokens_map.json"] = {
            name: chance.choice([None, one_token(chance, typed=False)])
            for name in chance.sample(names, chance.randrange(4))
        }
        for name in ("additional_special_tokens", "extra_special_tokens"):
            if chance.random() < 0.2:
                listed = [one_token(chance, typed=False) for _ in range(chance.randrange(3))]
                found["special_tokens_map.json"][name] = listed
    if chance.random() < 0.2:
        found["added_tokens.json"] = {
            chance.choice(TOKENS): 2048 + number for number in range(chance.randrange(3))
        }
    return found


def written(folder: Path, contents: dict[str, Any], chance: random.Random) -> Path:
    with_config(folder, contents["tokenizer_config.json"] | {"chat_template": TEMPLATE})
    for name in ("special_tokens_map.json", "added_tokens.json"):
        if name in contents:
            (folder / name).write_text(json.dumps(contents[name]), encoding="utf-8")
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    for token in tokenizer["added_tokens"]:
        token |= {name: True for name in FLAGS if chance.random() < 0.1}
    if chance.random() < 0.3:
        tokenizer["added_tokens"] = tokenizer["added_tokens"][: chance.randrange(3)]
    for content in ("bread", "<|a|>", "<|im_end|>"):  # other ids than those they get
        if chance.random() < 0.1:
            added = dict.fromkeys(FLAGS, False) | {"content": content}
            tokenizer["added_tokens"].append({"id": chance.choice([2048, 2050, 2055]), **added})
    if chance.random() < 0.1:
        tokenizer["padding"] = {
            "strategy": "BatchLongest",
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": chance.choice(["[PAD]", "</s>"]),
        }
    file.write_text(json.dumps(tokenizer), encoding="utf-8")
    return folder


def expected(folder: Path) -> list[int] | str:
    """The ids of `transformers`, or its error."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return tokenizer.apply_chat_template(DIALOGUE, return_dict=True)["input_ids"]
    except Exception as error:
        return repr(error)


@pytest.mark.parametrize("seed", range(4))
def test_ids_equal_those_of_transformers(seed: int, tmp_path: Path) -> None:
    chance, equal = random.Random(seed), 0
    for number in range(30):
        contents = files(chance)
        folder = written(tmp_path / str(number), contents, chance)
        wanted = expected(folder)
        if isinstance(wanted, str):
            continue
        try:
            table = zephyr_fast.encode([DIALOGUE], tokenizer=folder, template="tokenizer")
        except ConfigError as error:
            assert "no token that ends an assistant message" in str(error)
            continue
        assert table["input_ids"][0].as_py() == wanted, (folder, contents)
        equal += 1
    assert equal > 5


def unigram(folder: Path, chance: random.Random) -> Path:
    """A tokenizer whose scores have as many digits as trained ones. Some splits nearly tie."""
    letters = sorted(set("userassistant:q \u2581WaitdoneHm"))
    scores = [chance.uniform(-4, -3), chance.uniform(-9, -8)]
    vocab: list[list[Any]] = [["<unk>", 0.0], ["</s>", 0.0], *([one, -9.5] for one in letters)]
    space = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"}
    end = {"id": 1, "content": "</s>", **dict.fromkeys(FLAGS, False), "special": True}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [end],
        "pre_tokenizer": {**space, "split": True},
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [
                *vocab,
                *([dots, score] for dots, score in zip([".", "..."], scores, strict=True)),
            ],
            "byte_fallback": False,
        },
    }
    missing = dict.fromkeys(["truncation", "padding", "normalizer", "post_processor", "decoder"])
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(missing | tokenizer))
    template = "{% for m in messages %}{{ m.role }} {{ m.content }}{{ eos_token }}{% endfor %}"
    config = {"eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def test_splits_that_nearly_tie_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    said = [[DIALOGUE[0], {"role": "assistant", "content": "Hm" + "." * n}] for n in range(60)]
    chance = random.Random(1)
    for number in range(10):
        folder = unigram(tmp_path / str(number), chance)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        wanted = [tokenizer.apply_chat_template(one, return_dict=True)["input_ids"] for one in said]
        assert zephyr_fast.encode(said, tokenizer=folder)["input_ids"].to_pylist() == wanted


def test_the_tokenizer_of_a_dataset_has_the_tokens_of_the_config(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    config = {"eos_token": "<|im_end|>", "extra_special_tokens": ["<|a|>"]}
    given = with_config(tmp_path / "tokenizer", config | {"chat_template": TEMPLATE})
    zephyr_fast.prep(
        input="sample",
        tokenizer=given,
        out=tmp_path / "out",
        overrides={"template.name": "tokenizer", "tokenize.control_tokens": "allow"},
    )
    one, two = (AutoTokenizer.from_pretrained(path) for path in (given, tmp_path / "out/tokenizer"))
    assert one(TEXT).input_ids == two(TEXT).input_ids and two.eos_token_id == 2048
    assert len(one) == len(two) == 2050
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["tokenizer"]["vocab_size"] == 2050
