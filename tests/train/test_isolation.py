"""The proof of packing cannot be empty: small leaks, long rows, coarse dtypes, wrapped models."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PromptTuningConfig, get_peft_model

from tiny_models import VOCABULARY, build, tokens
from zephyr_fast import ConfigError, InputError
from zephyr_fast.load.order import Shuffled
from zephyr_fast.load.stream import Stream
from zephyr_fast.train import dpo, isolation, packing, run, sft
from zephyr_fast.train.distill import DistillationTrainer
from zephyr_fast.train.isolation import FAILED, Measure
from zephyr_fast.train.isolation_documents import long_documents, short_documents
from zephyr_fast.train.ref_logprobs import compute
from zephyr_fast.train.trust import refused_weights


@pytest.fixture(autouse=True)
def nothing_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_PROOFS", {})


def prove(model: Any, width: int = 256, **rest: Any) -> packing.Proof:
    return packing.prove(model, tokens(), "rows", width=width, **rest)


@pytest.mark.parametrize("width", [256, 1024])
def test_keys_in_blocks_from_the_start_of_a_row_are_noticed(width: int) -> None:
    proof = prove(build("deepseek_v4", max_position_embeddings=1024), width)
    assert not proof.holds and proof.measure.leak > 1e-3


@pytest.mark.parametrize(("name", "isolates"), [("llama", True), ("gpt_oss", False)])
def test_rows_of_several_windows_are_measured_too(name: str, isolates: bool) -> None:
    proof = packing.prove(build(name, None), tokens(), "varlen", width=64, windows=3)
    assert proof.holds == isolates and proof.reason is None


def test_long_documents_fill_the_row_and_no_border_is_at_the_border_of_a_block() -> None:
    for width, windows in ((64, 1), (2048, 1), (255, 3)):
        found = long_documents(tokens(), VOCABULARY, width, windows)
        assert sum(len(one) for one in found.ids) == width * windows
        assert all(len(row) == 3 for rows in found.batches for row in rows)
        assert len(found.batches) == 3
        first, second, _ = (len(one) for one in found.ids[:3])
        assert first % 2 == (first + second) % 2 == 1


def test_changed_documents_have_other_tokens_everywhere() -> None:
    documents = short_documents(tokens(), VOCABULARY)
    for kept in range(documents.kinds):
        for number, (one, other) in enumerate(
            zip(documents.ids, documents.changed(kept).ids, strict=True)
        ):
            assert (one == other).all() if number == kept else (one != other).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["mamba", "bloom", "lfm2", "qwen3_next"])
def test_leaks_of_small_weights_are_noticed(name: str, dtype: torch.dtype) -> None:
    model = build(name, initializer_range=0.02).to(dtype)
    proof = prove(model)
    assert not proof.holds and proof.measure.leak > proof.measure.noise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "mixtral", "deepseek_v3"])
def test_isolated_documents_do_not_change_at_all(name: str, dtype: torch.dtype) -> None:
    proof = prove(build(name, initializer_range=0.05).to(dtype))
    assert proof.holds and proof.measure.leak == proof.measure.noise == 0


def test_a_model_that_ignores_its_context_proves_nothing() -> None:
    model = build("lfm2")
    torch.nn.init.zeros_(model.lm_head.weight)
    proof = prove(model)
    assert not proof.holds and "hardly depend on earlier tokens" in proof.problem
    packing._PROOFS.clear()
    tiny = prove(build("lfm2", initializer_range=0.006).bfloat16())
    assert tiny.measure.leak == 0 and not tiny.holds


def test_rounding_is_that_of_products_not_of_storage() -> None:
    model, eps = build("mistral"), torch.finfo(torch.bfloat16).eps
    assert isolation._rounding(model, None) is None
    assert isolation._rounding(model, torch.bfloat16) == eps
    for dtype in (torch.float8_e8m0fnu, torch.float8_e4m3fn):
        model.base_model.norm.weight.data = model.base_model.norm.weight.data.to(dtype)
        assert isolation._rounding(model, None) == eps


def test_noise_allows_for_eight_roundings_at_most() -> None:
    documents = short_documents(tokens(), VOCABULARY)
    apart = [torch.zeros(len(one) - 1) for one in documents.ids]

    def noisy(inputs: dict[str, Any]) -> torch.Tensor:
        return torch.randn(inputs["input_ids"].shape)[:, 1:]

    torch.manual_seed(0)
    assert isolation._tolerance(noisy, documents, apart, 2.0, 0.01) == 8 * 0.01 * 2.0
    found = isolation._measured(noisy, documents, "rows", 1e-6)
    assert found.noise == found.tolerance < 1e-3


def test_what_is_no_number_is_the_largest_and_the_worst() -> None:
    nan, one = torch.tensor([float("nan")]), torch.tensor([1.0])
    assert np.isnan(isolation._largest(iter([one, nan])))
    assert np.isnan(isolation._largest(iter([nan, one])))
    good = Measure(0.0, 1e-5, 0.0, 0.0, 1.0, 1e-5)
    for bad in (
        FAILED,
        good._replace(difference=float("nan")),
        good._replace(leak=float("nan")),
        good._replace(leak=1e-9),
        good._replace(control=0.0),
    ):
        assert good.holds and not bad.holds
        assert isolation.worst([good, bad]) is isolation.worst([bad, good]) is bad


def test_all_ranks_get_the_result_of_the_worst() -> None:
    bad = Measure(0.5, 1e-5, 0.25, 0.0, 1.0, 1e-5)
    proof = prove(build("llama"), gather=lambda own: torch.cat([own, torch.tensor([bad])]))
    assert not proof.holds and proof.measure.difference == 0.5
    packing._PROOFS.clear()
    assert prove(build("llama"), gather=lambda own: torch.cat([own, own])).holds


@pytest.mark.parametrize("is_wrapped", [False, True])
def test_adapters_that_put_tokens_before_a_row_are_not_packed(is_wrapped: bool) -> None:
    model = get_peft_model(
        build("llama"), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    )
    proof = prove(torch.nn.DataParallel(model) if is_wrapped else model)
    assert not proof.holds and "its adapter puts tokens before each row" in proof.problem


def test_inputs_go_to_the_given_device() -> None:
    class StopError(Exception):
        pass

    model, seen = build("llama"), []

    def stop(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        seen.append(given["input_ids"].device.type)
        raise StopError

    model.register_forward_pre_hook(stop, with_kwargs=True)
    with pytest.raises(StopError):
        prove(model, device=torch.device("meta"))
    assert seen == ["meta"]


def failing(error: Exception) -> Any:
    """A model whose forward pass fails when it is given position ids."""
    model = build("llama")

    def fail(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        if given.get("position_ids") is not None:
            raise error

    model.register_forward_pre_hook(fail, with_kwargs=True)
    return model


@pytest.mark.parametrize("error", [RuntimeError("sizes differ"), AssertionError("sizes differ")])
def test_the_reason_of_a_failed_forward_pass_is_given(error: Exception) -> None:
    proof = prove(failing(error))
    assert not proof.holds and f"({type(error).__name__}: sizes differ)" in proof.problem
    assert not packing.allowed("auto", proof)
    with pytest.raises(ConfigError, match="sizes differ"):
        packing.allowed("true", proof)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), torch.AcceleratorError("lost")])
def test_trouble_of_the_machine_is_no_proof(error: Exception) -> None:
    with pytest.raises(type(error)):
        prove(failing(error))

    def create_model_from_path() -> None:
        raise error

    with pytest.raises(type(error)), refused_weights("the model"):
        create_model_from_path()
    model = build("llama")
    model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        compute._try_forward(model, "m")


def test_a_proof_of_stored_log_probs_may_run_out_of_memory(
    prefs: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    def full(*_given: Any, **_rest: Any) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(packing, "prove", full)
    copied = shutil.copytree(prefs, tmp_path / "prefs")
    with pytest.raises(torch.OutOfMemoryError):
        compute.ref_logprobs(copied, str(start), dtype="float32")


def test_an_inconsistent_model_is_refused_in_one_line() -> None:
    model = build("llama")
    model.config.num_attention_heads = 3
    model.lm_head = torch.nn.Linear(7, VOCABULARY)
    with pytest.raises(InputError, match="cannot load the model `m`"):
        compute._try_forward(model, "m")


def test_a_teacher_must_isolate_documents_too(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoConfig
    from trl import SFTConfig

    from zephyr_fast import open_shards

    size = AutoConfig.from_pretrained(start).vocab_size
    teacher = tmp_path / "teacher"
    build("gpt_oss", vocab_size=size, max_position_embeddings=1024).save_pretrained(teacher)
    config = SFTConfig(
        output_dir=str(tmp_path / "out"),
        max_length=256,
        use_cpu=True,
        bf16=False,
        report_to="none",
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
    )
    from transformers import AutoTokenizer

    trainer = DistillationTrainer(
        model=str(start),
        args=config,
        train_dataset=open_shards(shards),
        processing_class=AutoTokenizer.from_pretrained(shards / "tokenizer"),
    )
    trainer.model_wrapped = trainer.model
    trainer.model.set_attn_implementation("eager")
    trainer.set_teacher(str(teacher), 0.5)
    trainer.collate(0)
    batch = trainer.data_collator([open_shards(shards)[0]])
    assert "attention_mask" in trainer._prepare_inputs(batch)
    assert trainer._is_packed is False
    assert "`gpt_oss` with attention `eager` does not isolate" in capsys.readouterr().err


@pytest.mark.parametrize("act", [sft, dpo])
@pytest.mark.parametrize("value", ["foo", "true", "3", "null", "Drop", "[carry]"])
def test_values_of_remainder_and_pack_are_checked_in_yaml(
    act: Any, value: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    rest = ["--config", str(file), "--shards", "s", "--output_dir", str(tmp_path)]
    rest += ["--use_cpu", "true", "--bf16", "false"]
    file.write_text(f"remainder: {value}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="`remainder` must be one of carry, pad, drop, not"):
        act.parse(rest)
    file.write_text(f"pack: {value}\n", encoding="utf-8")
    if value == "true":
        assert packing.choice(act.parse(rest)[0].pack) == "true"
        return
    with pytest.raises(ConfigError, match="`pack` must be one of auto, true, false, not"):
        act.parse(rest)


def test_a_stream_takes_no_other_remainder() -> None:
    remainder: Any = "Drop"
    with pytest.raises(ConfigError, match="`remainder` must be one of carry, pad, drop"):
        Stream(Shuffled(size=5, seed=1), 2, remainder)


def test_rows_are_as_long_as_those_of_the_evaluation(shards: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from zephyr_fast import Manifest

    manifest = Manifest.read(shards)
    test = replace(manifest.split("test"), seq_len=manifest.split("train").seq_len + 64)
    manifest = replace(manifest, splits=dict(manifest.splits) | {"test": test})
    for strategy, expected in (("no", test.seq_len - 64), ("steps", test.seq_len)):
        words = ["--shards", str(shards), "--output_dir", str(tmp_path), "--use_cpu", "true"]
        words += ["--bf16", "false", "--eval_strategy", strategy, "--eval_steps", "5"]
        data, training, _ = sft.parse(words)
        run.apply_shard_settings(data, training, [manifest])
        assert training.max_length == expected
