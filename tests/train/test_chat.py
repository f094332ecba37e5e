"""`zephyr-fast chat`: a dialogue in the model's own template, up to the tokens that end answers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from train_runs import train
from zephyr_fast import InputError
from zephyr_fast.train.chat import Chat
from zephyr_fast.train.merge import merge

COMMAND = [sys.executable, "-m", "zephyr_fast", "chat"]


@pytest.fixture
def model(shards: Path, start: Path, tmp_path: Path) -> Path:
    """A model that can chat."""
    out = shutil.copytree(start, tmp_path / "model")
    shutil.copytree(shards / "tokenizer", out, dirs_exist_ok=True)
    return out


def set_generation(model: Path, **settings: object) -> None:
    file = model / "generation_config.json"
    given = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(given | settings))


def wordless(model: Path) -> list[int]:
    """The ids that are not words, which a model with random weights would repeat."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    return [id for id in range(2048) if not tokenizer.decode([id]).strip().isalpha()]


def test_an_answer_ends_at_each_saved_end_token_and_nowhere_else(model: Path) -> None:
    others = [id for id in range(2048) if id != 0]
    for ends, ended, tokens in (([0, 2], True, 1), ([2], False, 6)):
        set_generation(model, eos_token_id=ends, suppress_tokens=others)
        answer = Chat(str(model), tokens_max=6, temperature=0).answer("Hi", lambda _: None)
        assert (answer.is_ended, answer.tokens, answer.text) == (ended, tokens, "")


def test_the_second_answer_is_that_to_the_whole_dialogue(model: Path) -> None:
    set_generation(model, suppress_tokens=wordless(model))
    dialogue, parts = Chat(str(model), tokens_max=9, temperature=0, system="Be brief."), []
    first = dialogue.answer("Hi", parts.append)
    second = dialogue.answer("And?", lambda _: None)
    assert "".join(parts).strip() == first.text and first.tokens == 9
    tokenizer = AutoTokenizer.from_pretrained(model)
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", first.text), ("user", "And?")]
    ids = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )["input_ids"]
    output = AutoModelForCausalLM.from_pretrained(model).generate(
        ids, max_new_tokens=9, do_sample=False
    )
    text = tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    assert second.text == text.strip()
    dialogue.forget()
    assert dialogue.answer("Hi", lambda _: None) == first


def test_an_adapter_answers_as_the_merged_model_and_with_its_own_end_tokens(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    settings = {"use_peft": True, "learning_rate": 3e-2, "max_steps": 3}
    adapter = train("sft", shards, start, tmp_path / "adapter", **settings)
    set_generation(adapter, eos_token_id=[2, 7])
    set_generation(adapter, suppress_tokens=wordless(adapter))
    merged = merge(str(adapter), tmp_path / "merged")
    found = [Chat(str(one), tokens_max=12, temperature=0) for one in (adapter, merged)]
    assert [one._model.generation_config.eos_token_id for one in found] == [[2, 7], [2, 7]]
    one, other = (chat.answer("Hi there", lambda _: None) for chat in found)
    assert one == other and one.text
    base = AutoModelForCausalLM.from_pretrained(start)
    ids = torch.arange(9)[None]
    assert not torch.allclose(found[0]._model(ids).logits, base(ids).logits, atol=1e-2)


def test_the_command_reads_messages_from_stdin(model: Path) -> None:
    set_generation(model, suppress_tokens=wordless(model))
    line = [*COMMAND, str(model), "--temperature", "0", "--max-tokens", "5"]
    done = subprocess.run(line, input=b"Hi\n\n/new\nHi\xff\n", capture_output=True)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.decode().splitlines()
    assert len(answers) == 2 and all(any(map(str.isalpha, answer)) for answer in answers)
    assert done.stderr.decode().count("did not stop within 5 tokens") == 2


def test_what_cannot_chat_is_refused_in_one_line(model: Path) -> None:
    with pytest.raises(InputError, match="has no chat template"):
        Chat(str(without_template(shutil.copytree(model, model.with_name("bare")))))
    code = (
        f"import sys; sys.modules.update(torch=None); sys.argv[1:] = ['chat', {str(model)!r}]; "
        "import zephyr_fast.__main__"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 4 and len(done.stderr.splitlines()) == 1
    assert "`chat` needs the `train` extra" in done.stderr


def without_template(model: Path) -> Path:
    file = model / "tokenizer_config.json"
    given = json.loads(file.read_text())
    del given["chat_template"]
    file.write_text(json.dumps(given))
    return model


def test_a_dialogue_longer_than_the_model_is_refused(model: Path) -> None:
    with pytest.raises(InputError, match="the model supports only 1,024"):
        Chat(str(model)).answer("word " * 2_000, lambda _: None)


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from zephyr_fast.cli import cli; "
        "cli(['chat', '--help'], standalone_mode=False); "
        "assert not {'torch', 'trl', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--temperature" in done.stdout, done.stderr
