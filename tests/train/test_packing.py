"""Packing is proven before the first step: documents that see each other are noticed, in many
architectures, and training goes on without packing, with the same loss.

`ZEPHYR_FAST_LONG=1` tries all architectures.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny_models import ALL, FAST, ISOLATING, VOCABULARY, build, tokens
from zephyr_fast import ConfigError, Shards
from zephyr_fast.load.collators import Layout, WindowCollator
from zephyr_fast.train import packing
from zephyr_fast.train.__main__ import main
from zephyr_fast.train.isolation_documents import LENGTHS, short_documents
from zephyr_fast.train.ref_logprobs import store
from zephyr_fast.train.ref_logprobs.compute import ref_logprobs
from zephyr_fast.train.ref_logprobs.weights import weights_digest

TRIED = sorted(ALL) if os.environ.get("ZEPHYR_FAST_LONG") else FAST
LEAKING = "gpt_oss"
SETTINGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "eval_strategy": "no",
    "disable_tqdm": True,
    "activation_checkpointing": False,
    "seed": 3,
    "max_steps": 2,
    "logging_steps": 1,
    "learning_rate": 1e-3,
    "warmup_steps": 0,
    "per_device_train_batch_size": 2,
}


@pytest.fixture(autouse=True)
def nothing_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_PROOFS", {})


def windows() -> list[dict[str, Any]]:
    """Two packed sequences with other documents than those of a proof."""
    ids = np.random.default_rng(5).integers(3, VOCABULARY, 60)
    lengths = [np.array([30, 7, 23]), np.array([4, 11, 3, 19])]
    starts = (0, 10)
    return [
        {
            "input_ids": ids[start : start + sum(own)],
            "labels": np.where(np.arange(sum(own)) % 3, ids[start : start + sum(own)], -100),
            "seq_lengths": own,
        }
        for start, own in zip(starts, lengths, strict=True)
    ]


def loss_of(model: Any, batch: dict[str, Any]) -> float:
    """The summed negative log-likelihood of the label tokens."""
    with torch.no_grad():
        output = model.eval()(**batch, use_cache=False, fused_lm_head=True)
    return -float(output.log_probs.sum())


def loss_apart(model: Any) -> float:
    """The same, with each document computed alone."""
    total = 0.0
    for window in windows():
        ends = np.cumsum(window["seq_lengths"])
        for end, length in zip(ends, window["seq_lengths"], strict=True):
            one = {
                name: torch.from_numpy(window[name][end - length : end])[None]
                for name in ("input_ids", "labels")
            }
            total += loss_of(model, one)
    return total


def attentions(name: str) -> list[str]:
    found = []
    for attention in ("sdpa", "eager"):
        try:
            build(name, attention)
            found.append(attention)
        except ValueError as error:
            assert "scaled_dot_product_attention" in str(error)
    return found


@pytest.mark.parametrize("name", TRIED)
def test_a_model_is_packed_only_if_its_documents_are_isolated(name: str) -> None:
    for attention in attentions(name):
        model = build(name, attention)
        proof = packing.prove(model, tokens(), "rows", width=256)
        assert proof.holds == (name in ISOLATING), proof
        batch = WindowCollator("rows", 0)(windows())
        apart = loss_apart(model)
        assert loss_of(model, packing.unpacked(batch, 0)) == pytest.approx(apart, rel=1e-5)
        assert (loss_of(model, batch) == pytest.approx(apart, rel=1e-5)) == proof.holds


def test_the_default_run_tries_a_dozen_and_the_long_one_more_than_45() -> None:
    assert len(FAST) >= 12
    assert len(ALL) >= 45
    assert set(FAST) < set(ALL)


@pytest.mark.parametrize("layout", ["rows", "varlen"])
def test_a_batch_is_unpacked_to_its_documents(layout: Layout) -> None:
    batch = WindowCollator(layout, 0, 16)(windows())
    rows = packing.unpacked(batch, 0)
    assert rows["attention_mask"].sum(dim=1).tolist() == [30, 7, 23, 4, 11, 3, 19]
    assert rows["input_ids"].shape == (7, 30)
    assert (rows["labels"] != -100).sum() == (batch["labels"] != -100).sum()
    assert not ((rows["attention_mask"] == 0) & (rows["labels"] != -100)).any()


def test_a_batch_without_label_tokens_keeps_one_row() -> None:
    batch = WindowCollator("rows", 0)(windows())
    batch["labels"].fill_(-100)
    assert packing.unpacked(batch, 0)["input_ids"].shape == (1, 30)


def test_a_model_made_to_ignore_positions_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("mistral")
    backbone = model.base_model.forward
    monkeypatch.setattr(
        model.base_model, "forward", lambda position_ids=None, **given: backbone(**given)
    )
    proof = packing.prove(model, tokens(), "rows", width=256)
    assert not proof.holds and proof.measure.difference > 0.1


def test_a_leak_into_a_single_document_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mean over documents would hide it."""
    model = build("mistral")
    forward = model.forward

    def leaking(**given: Any) -> Any:
        output = forward(**given)
        if len(output.log_probs) > 1:
            output.log_probs[-1, 3] += 1e-3
        return output

    model.forward = leaking
    assert not packing.prove(model, tokens(), "rows", width=256).holds


def test_numbers_that_are_none_and_errors_are_no_proof() -> None:
    model = build("mistral")
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))
    assert not packing.prove(model, tokens(), "rows", width=256).holds
    without = build("qwen3")
    backbone = without.base_model.forward

    def refusing(**given: Any) -> Any:
        if "position_ids" in given:
            raise TypeError("unexpected keyword argument 'position_ids'")
        return backbone(**given)

    without.base_model.forward = refusing
    proof = packing.prove(without, tokens(), "rows", width=256)
    assert not proof.holds
    assert "(TypeError: unexpected keyword argument 'position_ids')" in proof.problem


@pytest.mark.parametrize(("name", "isolates"), [("mistral", True), (LEAKING, False)])
def test_the_tolerance_follows_the_dtype(name: str, isolates: bool) -> None:
    exact = packing.prove(build(name), tokens(), "rows", width=256)
    coarse = packing.prove(build(name).bfloat16(), tokens(), "rows", width=256)
    assert exact.holds == coarse.holds == isolates
    assert exact.measure.tolerance < 1e-4 < coarse.measure.tolerance < 1.0


def test_the_proof_changes_nothing_in_the_model_or_the_generators() -> None:
    model = build("gpt2").train()
    model.transformer.h[0].eval()
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    packing.prove(model, tokens(), "rows", width=256)
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_proof_is_kept_for_the_same_configuration_alone() -> None:
    first = packing.prove(build("mistral"), tokens(), "rows", width=256)
    assert packing.prove(build("mistral"), tokens(), "rows", width=256) is first
    assert packing.prove(build("mistral", "sdpa"), tokens(), "rows", width=256) is not first
    deeper = build("mistral", num_hidden_layers=3)
    assert packing.prove(deeper, tokens(), "rows", width=256) is not first


def test_chunked_attention_is_not_packed_in_rows_longer_than_a_chunk() -> None:
    model = build("mistral")
    model.config.attention_chunk_size = 64
    assert packing.prove(model, tokens(), "rows", width=64).holds
    assert not packing.prove(model, tokens(), "rows", width=65).holds


@pytest.mark.parametrize("ids", [np.zeros(500, np.int64), np.arange(3, 9)])
def test_monotonous_or_few_tokens_still_make_a_proof(ids: Any) -> None:
    proof = packing.prove(build(LEAKING), ids, "rows", width=256)
    assert not proof.holds and proof.measure.difference > 0.1


def test_each_document_stands_at_each_position() -> None:
    (rows,) = short_documents(tokens(), VOCABULARY).batches
    whole = range(len(LENGTHS) - 1)
    assert all({row[place] for row in rows} == set(range(5)) for place in whole)


def test_the_argument_takes_truth_values_of_yaml() -> None:
    assert [packing.choice(value) for value in ("auto", True, False)] == ["auto", "true", "false"]
    with pytest.raises(ConfigError, match="`pack` must be one of auto, true, false"):
        packing.choice("yes")


@pytest.fixture(scope="module")
def leaking(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose documents see each other, saved as a directory."""
    from transformers import AutoConfig

    path = tmp_path_factory.mktemp("leaking") / "model"
    size = AutoConfig.from_pretrained(start).vocab_size
    build(LEAKING, vocab_size=size, max_position_embeddings=1024).save_pretrained(path)
    return path


def run(act: str, folder: Path, model: Path, out: Path, **settings: Any) -> tuple[int, list[float]]:
    pairs = {**SETTINGS, "output_dir": out, "shards": folder, "model_name_or_path": model}
    pairs |= settings
    code = main([act, *(word for key, value in pairs.items() for word in (f"--{key}", str(value)))])
    if code:
        return code, []
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    return code, [entry["loss"] for entry in history if "loss" in entry]


@pytest.mark.parametrize("act", ["sft", "dpo"])
def test_a_run_goes_on_unpacked_and_says_so(
    act: str,
    request: pytest.FixtureRequest,
    leaking: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = request.getfixturevalue("shards" if act == "sft" else "prefs")
    auto = run(act, folder, leaking, tmp_path / "auto")
    said = capsys.readouterr().err
    assert f"`{LEAKING}` with attention `eager` does not isolate packed documents" in said
    assert "continuing with one document per row" in said and "more memory" in said
    never = run(act, folder, leaking, tmp_path / "never", pack="false")
    assert auto[0] == never[0] == 0
    assert auto[1] == pytest.approx(never[1], rel=1e-5)
    assert run(act, folder, leaking, tmp_path / "must", pack="true")[0] == ConfigError.exit_code
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(error) == 1 and f"`{LEAKING}`" in error[0] and "nats" in error[0]


@pytest.mark.parametrize("act", ["sft", "dpo"])
def test_packed_and_unpacked_runs_learn_the_same(
    act: str,
    request: pytest.FixtureRequest,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = request.getfixturevalue("shards" if act == "sft" else "prefs")
    packed = run(act, folder, start, tmp_path / "packed", pack="true")
    assert "packed documents are isolated" in capsys.readouterr().err
    apart = run(act, folder, start, tmp_path / "apart", pack="false")
    assert packed[0] == apart[0] == 0
    assert packed[1] == pytest.approx(apart[1], rel=1e-4)


def test_stored_log_probs_of_a_leaking_model_are_those_of_completions_apart(
    prefs: Path, leaking: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(prefs, tmp_path / "prefs")
    ref_logprobs(copied, str(leaking), splits=("test",), dtype="float32", attention="eager")
    pairs = Shards(copied, "test")
    key = store.Key.of(*weights_digest(str(leaking)), "float32", pairs.manifest)
    found = store.read(copied, key, "test")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(leaking, dtype=torch.float32).eval()
    for row in range(3):
        for side, name in enumerate(("chosen_ids", "rejected_ids")):
            prompt = pairs[row]["prompt_ids"]
            ids = torch.from_numpy(np.concatenate([prompt, pairs[row][name]]).astype(np.int64))
            with torch.no_grad():
                logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
            values = logits.log_softmax(-1).gather(1, ids[1:, None])[len(prompt) - 1 :]
            assert found[row][side] == pytest.approx(float(values.sum()), rel=1e-5)
