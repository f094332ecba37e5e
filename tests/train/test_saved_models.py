"""What is saved is ready to chat: it stops where trained turns end, and begins as documents do."""

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from train_runs import train
from zephyr_fast import Shards, prep
from zephyr_fast.train.saving import end_tokens, template_with_bos

SAVES = {"save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    """The packaged dialogues in a template whose turns end with a token other than EOS."""
    folder = tmp_path_factory.mktemp("ended")
    tokenizer = AutoTokenizer.from_pretrained(shards / "tokenizer")
    template = (
        "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}]"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<unk>"
        "{% endgeneration %}{% else %}{{ message['content'] }}<unk>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    (folder / "turns.jinja").write_text(template)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder / "tokenizer")
    prep(
        input="sample",
        out=folder / "shards",
        overrides={"pack.seq_len": 256, "template.name": str(folder / "turns.jinja")},
    )
    return folder / "shards"


def test_a_model_stops_at_the_token_that_ends_trained_turns_and_at_eos(
    ended: Path, start: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(ended / "tokenizer")
    unknown = tokenizer.convert_tokens_to_ids("<unk>")
    assert end_tokens(str(ended), tokenizer) == [unknown]
    out = train("sft", ended, start, tmp_path, **SAVES)
    for folder in (out, out / "checkpoint-1"):
        stops = GenerationConfig.from_pretrained(folder).eos_token_id
        assert sorted(stops) == sorted([unknown, tokenizer.eos_token_id])
    model = AutoModelForCausalLM.from_pretrained(out)
    ids = tokenizer("Hi", return_tensors="pt")["input_ids"]
    head = model.get_output_embeddings()
    head.bias = None
    model.generation_config.suppress_tokens = [id for id in range(2048) if id != unknown]
    assert model.generate(ids, max_new_tokens=5).shape[1] == ids.shape[1] + 1


@pytest.mark.parametrize("settings", [{}, {"use_peft": True}])
def test_every_checkpoint_has_its_cache_on_and_the_tokens_at_which_it_stops(
    settings: dict[str, bool], shards: Path, start: Path, tmp_path: Path
) -> None:
    out = train("sft", shards, start, tmp_path, **SAVES, **settings)
    for folder in (out, out / "checkpoint-1", out / "checkpoint-2"):
        if not settings:
            assert json.loads((folder / "config.json").read_text())["use_cache"] is True
        assert GenerationConfig.from_pretrained(folder).eos_token_id == 2


@pytest.mark.parametrize("act", ["sft", "dpo"])
def test_the_saved_template_begins_as_the_documents_of_the_data_do(
    act: str, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    tokenizer = AutoTokenizer.from_pretrained(data / "tokenizer")
    tokenizer.chat_template = template_with_bos(str(data), tokenizer)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], return_dict=False)
    row = Shards(data, "train")[0]
    trained = row["input_ids" if act == "sft" else "prompt_ids"]
    assert ids[0] == trained[0] == tokenizer.bos_token_id != ids[1]
    assert ids[:4] == trained[:4].tolist() or not np.array_equal(trained[1:3], ids[1:3])
    assert template_with_bos(str(data), tokenizer) == tokenizer.chat_template


def test_a_token_that_rarely_ends_a_turn_does_not_stop_the_model(shards: Path) -> None:
    """Of a turn that was truncated, say."""
    tokenizer = AutoTokenizer.from_pretrained(shards / "tokenizer")
    tokenizer.add_tokens([AddedToken("never", special=True)])
    assert end_tokens(str(shards), tokenizer) == [tokenizer.eos_token_id]
