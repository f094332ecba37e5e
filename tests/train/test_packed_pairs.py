"""Packed answers have stock TRL's loss, metrics and gradients: every loss type, on the packaged
pairs and on hostile ones.
"""

import gzip
import re
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import DPOConfig
from trl import DPOTrainer as StockTrainer

from zephyr_fast import ConfigError, Shards, binarize, open_shards
from zephyr_fast.load.collators import Layout, PairCollator
from zephyr_fast.train import packing
from zephyr_fast.train.dpo import DPOTrainer
from zephyr_fast.train.ref_logprobs import store
from zephyr_fast.train.ref_logprobs.attach import with_reference
from zephyr_fast.train.ref_logprobs.compute import ref_logprobs
from zephyr_fast.train.ref_logprobs.weights import weights_digest

LOSSES = [
    *(
        "sigmoid",
        "hinge",
        "ipo",
        "exo_pair",
        "nca_pair",
        "robust",
        "bco_pair",
        "sppo_hard",
        "aot",
        "aot_unpaired",
    ),
    *("apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
]
WINDOW = 256
QUIET: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "seed": 3,
}


def hostile_pairs() -> list[dict[str, Any]]:
    """What breaks sums and borders: a prompt that leaves one token, answers of one token, two
    equal answers, a one-token prompt.
    """
    ids = np.random.default_rng(0).integers(3, 2000, 4 * WINDOW).astype(np.int32)
    answers = [
        (ids[: WINDOW - 1], ids[500:501], ids[501:502]),
        (ids[10:40], ids[502:503], ids[503:504]),
        (ids[40:60], ids[60:120], ids[60:120]),
        (ids[:1], ids[200:330], ids[330:332]),
    ]
    return [
        dict(zip(("prompt_ids", "chosen_ids", "rejected_ids"), pair, strict=True))
        for pair in answers
    ]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile pairs as shards."""
    import shards_by_hand

    rows = [
        {name: ids.tolist() for name, ids in pair.items()}
        | {"score_chosen": 1.0, "score_rejected": 0.0, "row_id": row, "pair": 0}
        for row, pair in enumerate(hostile_pairs())
    ]
    return shards_by_hand.write(
        tmp_path_factory.mktemp("hostile") / "prefs", "preference", {"train": rows}, WINDOW
    )


@pytest.fixture(scope="module")
def samples(
    prefs: Path, hostile: Path, start: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """Pairs of both kinds, with the stored log-probs of `start`."""
    copied = shutil.copytree(prefs, tmp_path_factory.mktemp("stored") / "prefs")
    found: list[dict[str, Any]] = []
    for folder, count in ((copied, 4), (hostile, len(hostile_pairs()))):
        ref_logprobs(folder, str(start), splits=("train",))
        key = store.Key.of(*weights_digest(str(start)), "float32", Shards(folder, "train").manifest)
        dataset = with_reference(open_shards(folder), [str(folder)], [key], "train")
        found += [dataset[row] for row in range(count)]
    return found


@pytest.fixture(scope="module")
def built(
    prefs: Path, start: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StockTrainer, DPOTrainer]:
    """Stock TRL with its reference in memory, and ours without one, with the same policy: not
    the reference, so no ratio is 0.
    """
    out, tokenizer = (
        tmp_path_factory.mktemp("trainers"),
        AutoTokenizer.from_pretrained(prefs / "tokenizer"),
    )
    text = Dataset.from_list([{"prompt": "a b", "chosen": " c d e", "rejected": " f"}])
    config = DPOConfig(output_dir=str(out / "stock"), max_length=1024, use_weighting=True, **QUIET)
    stock = StockTrainer(
        model=str(start), args=config, train_dataset=text, processing_class=tokenizer
    )
    config = DPOConfig(
        output_dir=str(out / "ours"),
        precompute_ref_log_probs=True,
        use_weighting=True,
        remove_unused_columns=False,
        **QUIET,
    )
    columns = {"row": [0], "ref_chosen_logps": [0.0], "ref_rejected_logps": [0.0]}
    collator = PairCollator(tokenizer.pad_token_id)
    ours = DPOTrainer(
        str(start),
        config,
        data_collator=collator,
        train_dataset=Dataset.from_dict(columns),
        processing_class=tokenizer,
    )
    ours.pack_pairs()
    torch.manual_seed(1)
    with torch.no_grad():
        for theirs, mine in zip(stock.model.parameters(), ours.model.parameters(), strict=True):
            theirs.add_(torch.randn_like(theirs) * 0.02)
            mine.copy_(theirs)
    return stock, ours


@pytest.fixture
def trainers(built: tuple[StockTrainer, DPOTrainer]) -> tuple[StockTrainer, DPOTrainer]:
    """The two trainers as they were built, whatever the test before has set."""
    for trainer in built:
        trainer.loss_types, trainer.loss_weights, trainer.use_weighting, trainer.label_smoothing = (
            ["sigmoid"],
            [1.0],
            False,
            0.1,
        )
        trainer.f_divergence_type = "reverse_kl"
        trainer.model.zero_grad()
        trainer._metrics["train"].clear()
        trainer.model.train()
    return built


def stock_batch(stock: StockTrainer, samples: list[dict[str, Any]]) -> dict[str, Any]:
    ids = ("prompt_ids", "chosen_ids", "rejected_ids")
    batch: dict[str, Any] = stock.data_collator(
        [{name: sample[name].tolist() for name in ids} for sample in samples]
    )
    return batch


def compare(trainers: tuple[StockTrainer, DPOTrainer], samples: list[dict[str, Any]]) -> None:
    """Loss and every metric of one batch."""
    stock, ours = trainers
    theirs = stock.compute_loss(stock.model, stock_batch(stock, samples))
    mine = ours.compute_loss(ours.model, ours.data_collator(samples))
    assert torch.isfinite(theirs)
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    assert (
        set(stock._metrics["train"])
        == set(ours._metrics["train"])
        >= {"rewards/margins", "logps/chosen", "entropy", "logits/rejected"}
    )
    for name in stock._metrics["train"].keys() - {"num_tokens"}:
        assert ours._metrics["train"][name] == pytest.approx(
            stock._metrics["train"][name], rel=1e-5, abs=1e-5
        ), name


@pytest.mark.parametrize("loss_type", LOSSES)
def test_each_loss_on_packed_pairs_with_a_stored_reference_is_that_of_stock_trl(
    trainers: tuple[StockTrainer, DPOTrainer], samples: list[dict[str, Any]], loss_type: str
) -> None:
    for trainer in trainers:
        trainer.loss_types = [loss_type]
    compare(trainers, samples)


def test_genuine_pairs_have_the_loss_of_stock_trl(
    trainers: tuple[StockTrainer, DPOTrainer], real: Path, start: Path, tmp_path: Path
) -> None:
    """Of UltraFeedback, ties, equal answers and an empty one among them."""
    with gzip.open(
        real / "ultrafeedback" / "binarized_real.jsonl.gz", "rt", encoding="utf-8"
    ) as lines:
        (tmp_path / "rows.jsonl").write_text("".join(islice(lines, 30)), encoding="utf-8")
    settings = {"shards.test_fraction": 0.0, "binarize.max_length": 640}
    binarize(
        input=tmp_path / "rows.jsonl",
        tokenizer="sample",
        out=tmp_path / "prefs",
        overrides=settings,
    )
    ref_logprobs(tmp_path / "prefs", str(start))
    key = store.Key.of(
        *weights_digest(str(start)), "float32", Shards(tmp_path / "prefs", "train").manifest
    )
    dataset = with_reference(
        open_shards(tmp_path / "prefs"), [str(tmp_path / "prefs")], [key], "train"
    )
    assert len(dataset) >= 12
    compare(trainers, [dataset[row] for row in range(12)])


def test_these_are_all_the_losses_that_the_installed_trl_has(
    trainers: tuple[StockTrainer, DPOTrainer], samples: list[dict[str, Any]]
) -> None:
    ours = trainers[1]
    ours.loss_types = ["none"]
    with pytest.raises(ValueError, match="Should be one of") as refused:
        ours.compute_loss(ours.model, ours.data_collator(samples[:1]))
    assert re.findall(r"'(\w+)'", str(refused.value)) == LOSSES


def test_mixed_losses_weights_and_divergences_are_those_of_stock_trl(
    trainers: tuple[StockTrainer, DPOTrainer], samples: list[dict[str, Any]]
) -> None:
    for trainer in trainers:
        trainer.loss_types, trainer.loss_weights = ["sigmoid", "ipo"], [1.0, 0.5]
        trainer.use_weighting, trainer.f_divergence_type = True, "js_divergence"
    compare(trainers, samples)


@pytest.mark.parametrize("layout", ["rows", "varlen"])
def test_gradients_are_those_of_stock_trl_in_both_layouts(
    trainers: tuple[StockTrainer, DPOTrainer], samples: list[dict[str, Any]], layout: Layout
) -> None:
    stock, ours = trainers
    stock.compute_loss(stock.model, stock_batch(stock, samples)).backward()
    ours.compute_loss(ours.model, PairCollator(0, 8, layout)(samples)).backward()
    for (name, theirs), mine in zip(
        stock.model.named_parameters(), ours.model.parameters(), strict=True
    ):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert max(float(parameter.grad.abs().max()) for parameter in stock.model.parameters()) > 1e-3


def test_a_packed_batch_computes_fewer_tokens_than_a_padded_one_and_never_more(
    samples: list[dict[str, Any]],
) -> None:
    for layout in ("rows", "varlen"):
        for some in (samples, samples[:1], samples[4:5]):
            batch = PairCollator(0, layout=layout)(some)
            assert batch["packed"]["indices"].numel() <= batch["input_ids"].numel()
        whole = PairCollator(0, layout=layout)(samples)
        assert whole["packed"]["indices"].numel() < 0.8 * whole["input_ids"].numel()


@pytest.mark.parametrize("layout", ["rows", "varlen"])
def test_every_token_of_every_answer_is_in_the_plan_once(
    samples: list[dict[str, Any]], layout: Layout
) -> None:
    batch = PairCollator(0, 16, layout)(samples)
    places = batch["packed"]["indices"].flatten()
    padding = batch["input_ids"].numel()
    taken, counts = places[places != padding].unique(return_counts=True)
    assert torch.equal(taken, batch["attention_mask"].flatten().nonzero().flatten())
    assert (counts == 1).all()


def test_the_model_is_given_packed_rows_and_no_attention_mask(
    trainers: tuple[StockTrainer, DPOTrainer],
    samples: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, seen = trainers[1], []
    ours._is_packed = True
    backbone = ours.model.base_model.forward
    monkeypatch.setattr(
        ours.model.base_model, "forward", lambda **given: (seen.append(given), backbone(**given))[1]
    )
    batch = ours.data_collator(samples)
    ours.compute_loss(ours.model, batch)
    assert len(seen) == 1
    assert (
        seen[0]["input_ids"].shape == batch["packed"]["indices"].shape != batch["input_ids"].shape
    )
    assert seen[0].get("attention_mask") is None


@pytest.fixture
def unproven(
    trainers: tuple[StockTrainer, DPOTrainer], monkeypatch: pytest.MonkeyPatch
) -> tuple[StockTrainer, DPOTrainer]:
    """The trainers, in a process that has proven nothing."""
    monkeypatch.setattr(packing, "_PROOFS", {})
    monkeypatch.setattr(trainers[1], "_is_packed", None)
    monkeypatch.setattr(trainers[1], "pack", "auto")
    return trainers


def test_attention_that_cannot_keep_answers_apart_is_refused_or_not_packed(
    unproven: tuple[StockTrainer, DPOTrainer],
) -> None:
    ours = unproven[1]
    config, collator = ours.model.config, ours.data_collator
    before, config._attn_implementation_internal = config._attn_implementation, "paged|sdpa"
    try:
        ours.data_collator = PairCollator(0)
        ours.pack_pairs()
        assert ours.data_collator.layout is None
        ours.pack = "true"
        with pytest.raises(ConfigError, match="pack: auto"):
            ours.pack_pairs()
    finally:
        config._attn_implementation_internal = before
        ours.data_collator = collator


def test_chunked_attention_is_not_packed_although_the_first_batch_is_narrow(
    unproven: tuple[StockTrainer, DPOTrainer],
    samples: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A later batch may be wider, and so may that of another rank."""
    ours = unproven[1]
    batch = ours.data_collator(samples[:1])
    chunk = batch["packed"]["indices"].shape[1]
    assert chunk < ours.args.max_length
    monkeypatch.setattr(ours.model.config, "attention_chunk_size", chunk, raising=False)
    ours.compute_loss(ours.model, batch)
    assert ours._is_packed is False


def test_noise_in_training_is_not_taken_for_answers_that_see_each_other(
    unproven: tuple[StockTrainer, DPOTrainer], samples: list[dict[str, Any]]
) -> None:
    ours, embeddings = unproven[1], unproven[1].model.get_input_embeddings()
    noise = embeddings.register_forward_hook(
        lambda module, _ids, out: out + torch.randn_like(out) if module.training else out
    )
    ours.compute_loss(ours.model, ours.data_collator(samples))
    noise.remove()
    assert ours._is_packed and ours.model.training


def test_answers_that_see_each_other_are_noticed_although_no_row_of_the_batch_holds_two(
    unproven: tuple[StockTrainer, DPOTrainer],
    samples: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = unproven[1]
    batch = ours.data_collator(samples[:1])
    assert (batch["packed"]["position_ids"] == 0).sum(dim=1).max() <= 2  # the second is padding
    ours.compute_loss(ours.model, batch)
    assert ours._is_packed
    backbone = ours.model.base_model.forward

    def deaf(position_ids: torch.Tensor | None = None, **given: Any) -> Any:
        """A backbone that does not hear of restarting positions, as linear attention and
        state-space layers may not.
        """
        return backbone(**given)

    monkeypatch.setattr(ours.model.base_model, "forward", deaf)
    monkeypatch.setattr(packing, "_PROOFS", {})
    ours._is_packed, ours.pack = None, "true"
    with pytest.raises(ConfigError, match="does not isolate packed documents"):
        ours.compute_loss(ours.model, batch)
    ours.pack = "auto"
    ours._metrics["train"].clear()
    compare(unproven, samples)  # unpacked, and so right
    assert ours._is_packed is False
