"""A model that was trained on the rows of a template stops by itself where its answers end.

Small models are trained by the command, from a base model that knows another end, and answer
prompts that they were not trained on. `ZEPHYR_FAST_LONG=1` trains on real tokenizers too.
"""

import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from real_data import real_path
from train_runs import train
from zephyr_fast import prep
from zephyr_fast.train.chat import Chat

LONG = bool(os.environ.get("ZEPHYR_FAST_LONG"))
SAMPLE = Path(__file__).parents[2] / "python" / "zephyr_fast" / "sample" / "tokenizer"
CLOSING = "That is all."
THINGS = {
    "colours": ["red", "blue", "green", "black"],
    "times": ["day", "night", "summer", "winter", "spring"],
    "meals": ["bread", "tea", "rice", "water"],
}
PROMPTS, SAMPLES, LENGTH, STEPS = 20, 5, 64, 160
CHATML_WITHOUT_END = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}{% endgeneration %}"
    "{% else %}{{ message.content }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML whose tags leave out what ends an answer."""


@dataclass(frozen=True)
class Setup:
    """A template, the tokenizer of a model that it is made for, and the end of its base model."""

    tokenizer: str
    template: str
    base_end: str
    system: str = ""
    """A system message of every dialogue. The template of Mistral at hand fails without one."""


REAL = {
    "zephyr": Setup("zephyr-7b-beta-composed", "zephyr", "</s>"),
    "chatml": Setup("smollm2-135m-instruct", "chatml", "<|endoftext|>"),
    "llama-3": Setup("llama-3", "tokenizer", "<|end_of_text|>"),
    "qwen3": Setup("qwen3", "tokenizer", "<|endoftext|>"),
    "mistral": Setup("mistral-7b-instruct-v0.2", "tokenizer", "</s>", "Be brief."),
}


def messages(random_: random.Random, turns: int, system: str) -> list[dict[str, str]]:
    """A dialogue in which every answer is a list of some length, closed by the same words."""
    dialogue = [{"role": "system", "content": system}] if system else []
    for _ in range(turns):
        things = random_.choice(list(THINGS))
        count = random_.randint(1, 4)
        named = " and ".join(random_.sample(THINGS[things], count))
        asked = f"{random_.choice(['Name', 'List', 'Write'])} {count} {things}."
        dialogue += [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": f"{named}. {CLOSING}"},
        ]
    return dialogue


def prepared(folder: Path, tokenizer: Path, template: str, system: str = "", **keys: Any) -> Path:
    """A dataset of such dialogues."""
    random_ = random.Random(0)
    rows = [{"messages": messages(random_, 1 + at % 2, system)} for at in range(96)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prep(
        "chat",
        input=folder / "rows.jsonl",
        out=folder / "shards",
        tokenizer=tokenizer,
        overrides={"pack.seq_len": 256, "template.name": template, **keys},
    )
    return folder / "shards"


def trained(folder: Path, shards: Path, base_end: str) -> Path:
    """The saved model of a run on them, from a base model with random weights."""
    tokenizer = AutoTokenizer.from_pretrained(shards / "tokenizer")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.convert_tokens_to_ids(base_end),
    )
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    return train(
        "sft", shards, folder / "base", folder / "out", max_steps=STEPS, learning_rate=1e-2,
        per_device_train_batch_size=1, gradient_accumulation_steps=1, do_eval=False,
        max_grad_norm=1.0, logging_steps=STEPS,
    )  # fmt: skip


@dataclass
class Count:
    """Samples, those that ended by themselves, and those that ended where an answer does."""

    samples: int = 0
    stopped: int = 0
    complete: int = 0


def measured(out: Path, system: str = "", stops: int | None = None) -> Count:
    """Answers of the saved model to prompts that it has not seen, greedy and sampled.

    Half of them are the second of a dialogue. `stops` replaces the ids at which it stops.
    """
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out).eval()
    if stops is not None:
        model.generation_config.eos_token_id = stops
    given = model.generation_config.eos_token_id
    ends = torch.tensor(given if isinstance(given, list) else [given])
    torch.manual_seed(1)
    random_, found = random.Random(1), Count()
    for at in range(PROMPTS):
        dialogue = messages(random_, 1 + at % 2, system)[:-1]
        dialogue[-1]["content"] = f"Please tell me {at + 2} {random_.choice(list(THINGS))}."
        ids = tokenizer.apply_chat_template(
            dialogue, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        sampled = {"do_sample": True, "temperature": 0.7, "top_k": 0}
        sampled["num_return_sequences"] = SAMPLES - 1
        for sampling in ({"do_sample": False}, sampled):
            made = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=LENGTH,
                pad_token_id=tokenizer.pad_token_id, **sampling,
            )  # fmt: skip
            for one in made[:, ids.shape[1] :]:
                text = tokenizer.decode(one, skip_special_tokens=True)
                has_stopped = bool(torch.isin(one, ends).any())
                found.samples += 1
                found.stopped += has_stopped
                found.complete += has_stopped and text.strip().endswith(CLOSING)
                found.complete -= text.count(CLOSING) > 1
    return found


def assert_stops(found: Count) -> None:
    assert found.samples == PROMPTS * SAMPLES
    assert found.stopped >= 0.95 * found.samples, found
    assert found.complete >= 0.9 * found.samples, found  # not just anywhere


def with_markers(folder: Path) -> Path:
    """The packaged tokenizer with the markers of ChatML, whose end is not its EOS."""
    shutil.copytree(SAMPLE, folder / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder / "tokenizer"


def test_a_model_stops_where_its_answers_end_and_not_with_another_end(tmp_path: Path) -> None:
    shards = prepared(tmp_path, with_markers(tmp_path), "chatml")
    out = trained(tmp_path, shards, "</s>")
    assert_stops(measured(out))
    for temperature in (0, 0.7):
        chat = Chat(str(out), tokens_max=LENGTH, temperature=temperature)
        for asked in ("Please tell me 3 meals.", "Please tell me 6 colours."):
            answer = chat.answer(asked, lambda _: None)
            assert answer.is_ended and answer.text.endswith(CLOSING)
    assert measured(out, stops=2).stopped <= 5  # at the end of the base model alone


@pytest.mark.skipif(not LONG, reason="set ZEPHYR_FAST_LONG=1")
def test_a_model_that_was_not_trained_on_the_end_does_not_stop(tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(CHATML_WITHOUT_END)
    keys = {"tokenize.train_end": "as-is"}
    shards = prepared(tmp_path, with_markers(tmp_path), str(template), **keys)
    found = measured(trained(tmp_path, shards, "</s>"))
    assert found.stopped <= 5


@pytest.mark.skipif(not LONG, reason="set ZEPHYR_FAST_LONG=1")
@pytest.mark.parametrize("name", REAL)
def test_a_model_of_a_real_tokenizer_stops_where_its_answers_end(name: str, tmp_path: Path) -> None:
    setup = REAL[name]
    tokenizer = real_path(f"tokenizers/{setup.tokenizer}")
    shards = prepared(tmp_path, tokenizer, setup.template, setup.system)
    out = trained(tmp_path, shards, setup.base_end)
    found = measured(out, setup.system)
    print(f"{name}: {found}")
    assert_stops(found)
