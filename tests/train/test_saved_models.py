"""What is saved is ready to chat: it stops where trained turns end, and begins as documents do."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from trl import SFTConfig

from train_runs import SETTINGS, train
from zephyr_fast import IntegrityError, Manifest, Shards, open_shards, prep
from zephyr_fast.train.saving import end_tokens, template_with_bos
from zephyr_fast.train.trainers import SFTTrainer

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
    assert end_tokens([Manifest.read(ended)], tokenizer) == [unknown]
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
    tokenizer.chat_template = template_with_bos(Shards(data, "train"), tokenizer)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], return_dict=False)
    row = Shards(data, "train")[0]
    trained = row["input_ids" if act == "sft" else "prompt_ids"]
    assert ids[0] == trained[0] == tokenizer.bos_token_id != ids[1]
    assert ids[:4] == trained[:4].tolist() or not np.array_equal(trained[1:3], ids[1:3])
    assert template_with_bos(Shards(data, "train"), tokenizer) == tokenizer.chat_template


def test_several_datasets_give_the_union_of_their_end_tokens(
    shards: Path, ended: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shards / "tokenizer")
    manifests = [Manifest.read(shards), Manifest.read(ended)]
    unknown = tokenizer.convert_tokens_to_ids("<unk>")
    assert end_tokens(manifests, tokenizer) == sorted([unknown, tokenizer.eos_token_id])
    wrong = replace(manifests[0], template=replace(manifests[0].template, end_tokens=(9_999,)))
    with pytest.raises(IntegrityError, match="lists 9999 as a token that ends messages"):
        end_tokens([wrong], tokenizer)


def test_a_model_that_learns_no_single_end_token_comes_with_a_warning(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "chatml"
    keys = {"pack.seq_len": 256, "template.name": "chatml"}
    prep(input="sample", out=data, overrides=keys)
    train("sft", data, start, tmp_path / "out", max_steps=1)
    said = capsys.readouterr().err
    assert "may not stop by itself, because messages end with `<|im_end|>`, which is" in said
    train("sft", shards, start, tmp_path / "out", max_steps=1)
    assert "may not stop" not in capsys.readouterr().err


def test_a_model_of_a_notebook_stops_and_begins_as_one_of_the_command_does(
    ended: Path, start: Path, tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(ended / "tokenizer")
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
    trainer = SFTTrainer(
        str(start),
        args=SFTConfig(str(tmp_path), **SETTINGS),
        train_dataset=open_shards(ended).select(range(4)),
        processing_class=tokenizer,
    )
    trainer.save_model(tmp_path)
    stops = GenerationConfig.from_pretrained(tmp_path).eos_token_id
    assert sorted(stops) == sorted([tokenizer.convert_tokens_to_ids("<unk>"), 2])
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template.startswith("{{ bos_token }}")
