"""The real trainers read rows in our order: each once an epoch, resumed at the next row, the
same on one process and on two.
"""

import json
import os
import random
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

import slow_order
from numbered import numbered, numbered_pairs, pair_of
from recorded_ranks import Run, keep
from recorded_run import pairs_trainer_of, trained_rows, trainer_of
from zephyr_fast import ConfigError, InputError, open_shards
from zephyr_fast.load.index import index, with_lengths
from zephyr_fast.load.mixture import Mixture
from zephyr_fast.load.stream import LoaderState
from zephyr_fast.train.ordered import LoaderStateCallback

SEED = int(os.environ.get("ZEPHYR_FAST_SEED", random.randrange(10**6)))
# Two epochs in steps of 4: the sixth step takes the last 3 rows of one epoch and the first of the
# next.
ROWS, STEPS = 23, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered(tmp_path_factory.mktemp("shards") / "shards", ROWS, test_rows=4)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered_pairs(tmp_path_factory.mktemp("pairs") / "prefs", ROWS)


def wanted(batch: int = 4, steps: int = STEPS, tail: str = "carry") -> list[list[int]]:
    return list(islice(slow_order.steps(ROWS, 3, batch, tail), steps))


def state_of(checkpoint: Path) -> LoaderState:
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    return LoaderState.from_json(
        state["stateful_callbacks"]["LoaderStateCallback"]["attributes"]["loader_state"]
    )


def test_training_reads_the_stream_and_a_checkpoint_says_where_it_stands(
    folder: Path, tmp_path: Path
) -> None:
    trainer_of(
        folder,
        tmp_path,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=2,
        dataloader_num_workers=2,
    ).train()
    assert trained_rows(tmp_path) == wanted()
    for step in range(1, STEPS + 1):
        state = state_of(tmp_path / f"checkpoint-{step}")
        assert (state.epoch, state.index_in_epoch) == divmod(4 * step, ROWS)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "dataloader_num_workers": 1,
        },
    ],
)
def test_a_resumed_run_reads_on_at_the_next_row_and_ends_the_same(
    folder: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = trainer_of(folder, whole, save_strategy="no")
    uninterrupted.train()
    for stop in (3, 6, 7):  # in the first epoch, with the step that ends it, in the second
        trainer = trainer_of(folder, parts)
        trainer.add_callback(_Stop(stop))
        trainer.train(resume_from_checkpoint=stop > 3)
    trainer = trainer_of(folder, parts, **settings)
    trainer.train(resume_from_checkpoint=True)
    assert trained_rows(parts) == trained_rows(whole) == wanted()
    if not settings:  # the same sums: dropout's random numbers, too, go on where they stopped
        for name, weights in uninterrupted.model.state_dict().items():
            assert torch.equal(weights, trainer.model.state_dict()[name]), name


def test_with_another_step_size_the_rows_go_on_in_the_same_order_to_the_same_end(
    folder: Path, tmp_path: Path
) -> None:
    trainer = trainer_of(folder, tmp_path)
    trainer.add_callback(_Stop(5))
    trainer.train()
    trainer_of(folder, tmp_path, per_device_train_batch_size=3).train(resume_from_checkpoint=True)
    rows = [row for step in trained_rows(tmp_path) for row in step]
    assert rows == [row for step in wanted(1, len(rows)) for row in step]
    assert 0 <= len(rows) - 2 * ROWS < 3


def test_epochs_are_the_streams_own(folder: Path, tmp_path: Path) -> None:
    settings = {
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "logging_strategy": "epoch",
        "num_train_epochs": 3,
    }
    trainer = trainer_of(folder, tmp_path, **settings)
    trainer.train()
    evaluated = [entry["epoch"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert evaluated == pytest.approx([24 / ROWS, 48 / ROWS, 72 / ROWS])
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == [
        "checkpoint-12",
        "checkpoint-18",
        "checkpoint-6",
    ]
    assert trainer.state.num_train_epochs == 3 and trainer.state.max_steps == 18


@pytest.mark.parametrize(("tail", "steps"), [("pad", 12), ("drop", 10)])
def test_other_tails_end_each_epoch_by_themselves(
    folder: Path, tmp_path: Path, tail: Any, steps: int
) -> None:
    trainer = trainer_of(folder, tmp_path, save_strategy="no")
    trainer.remainder = tail
    trainer.train()
    assert trained_rows(tmp_path) == wanted(4, steps, tail)


def test_max_steps_and_parts_of_epochs_end_the_run_where_they_say(
    folder: Path, tmp_path: Path
) -> None:
    trainer_of(folder, tmp_path / "steps", save_strategy="no", max_steps=15).train()
    assert trained_rows(tmp_path / "steps") == wanted(4, 15)
    trainer_of(folder, tmp_path / "half", save_strategy="no", num_train_epochs=0.5).train()
    assert trained_rows(tmp_path / "half") == wanted(4, 3)


def test_a_mixture_trains_through_the_same_trainer(folder: Path, tmp_path: Path) -> None:
    mixture = Mixture([folder, numbered(tmp_path / "other", 10, first=1000)], "train", [1, 1])
    trainer_of(
        folder, tmp_path / "out", dataset=index(mixture), save_strategy="no", max_steps=5
    ).train()
    rows = [row for step in trained_rows(tmp_path / "out") for row in step]
    assert sorted(row for row in rows if row >= 1000) == list(range(1000, 1010))
    assert len({row for row in rows if row < 1000}) == 10


def test_a_checkpoint_of_other_shards_another_seed_or_another_trainer_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    trainer_of(folder, out, max_steps=1).train()
    with pytest.raises(ConfigError, match="set `seed: 3`"):
        trainer_of(folder, out, data_seed=4).train(resume_from_checkpoint=True)
    with pytest.raises(ConfigError, match="other shards"):
        trainer_of(numbered(tmp_path / "other", ROWS + 1), out).train(resume_from_checkpoint=True)
    stock = tmp_path / "stock"
    shutil.copytree(out / "checkpoint-1", stock)
    state = json.loads((stock / "trainer_state.json").read_text())
    del state["stateful_callbacks"]["LoaderStateCallback"]
    (stock / "trainer_state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match="no data position"):
        trainer_of(folder, out).train(resume_from_checkpoint=str(stock))


def test_a_checkpoint_of_the_first_version_is_refused_with_the_way_out(
    folder: Path, tmp_path: Path
) -> None:
    trainer_of(folder, tmp_path, max_steps=1).train()
    path = tmp_path / "checkpoint-1" / "trainer_state.json"
    state = json.loads(path.read_text())
    kept = json.loads(
        state["stateful_callbacks"].pop("LoaderStateCallback")["attributes"]["loader_state"]
    )
    first = {"manifest": kept["data_sha256"], "seed": 3, "epoch": 0, "cursor": 4, "order": 1}
    state["stateful_callbacks"]["OrderState"] = {
        "args": {},
        "attributes": {"json": json.dumps(first)},
    }
    path.write_text(json.dumps(state))
    with pytest.raises(InputError, match=r"version 1, .* resume with .* or start a new run"):
        trainer_of(folder, tmp_path).train(resume_from_checkpoint=True)


def test_pairs_are_read_in_the_same_order_each_with_its_stored_reference(
    pairs: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    uninterrupted = pairs_trainer_of(pairs, whole, save_strategy="no")
    uninterrupted.train()
    for stop in (3, 7, 0):  # in the first epoch, in the second, to the end
        trainer = pairs_trainer_of(pairs, parts)
        trainer.add_callback(_Stop(stop))
        trainer.train(resume_from_checkpoint=stop != 3)
    assert trained_rows(parts) == trained_rows(whole) == wanted()
    for name, weights in uninterrupted.model.state_dict().items():
        assert torch.equal(weights, trainer.model.state_dict()[name]), name
    losses = [
        [entry["loss"] for entry in one.state.log_history if "loss" in entry]
        for one in (uninterrupted, trainer)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS


def test_pairs_of_a_mixture_keep_their_stored_reference(pairs: Path, tmp_path: Path) -> None:
    mixture = index(
        Mixture([pairs, numbered_pairs(tmp_path / "other", 10, first=1000)], "train", [1, 1])
    )
    pairs_trainer_of(
        pairs, tmp_path / "out", dataset=mixture, save_strategy="no", max_steps=5
    ).train()
    rows = [row for step in trained_rows(tmp_path / "out") for row in step]
    assert sorted(row for row in rows if row >= 1000) == list(range(1000, 1010))


def test_pairs_that_are_to_be_padded_are_refused_before_the_first_step(
    pairs: Path, tmp_path: Path
) -> None:
    trainer = pairs_trainer_of(pairs, tmp_path)
    trainer.remainder = "pad"
    with pytest.raises(ConfigError, match="use `carry` or `drop`"):
        trainer.train()


def test_the_index_of_pairs_has_their_lengths_where_they_are_asked_for(tmp_path: Path) -> None:
    dataset = with_lengths(open_shards(numbered_pairs(tmp_path / "prefs", 7)))
    pairs = [pair_of(number) for number in range(7)]
    assert dataset["length"][:] == [
        len(one["prompt_ids"]) + max(len(one["chosen_ids"]), len(one["rejected_ids"]))
        for one in pairs
    ]


def test_another_sampling_strategy_is_left_to_transformers(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_of(
        folder,
        tmp_path,
        train_sampling_strategy="sequential",
        num_train_epochs=1,
        save_strategy="no",
    )
    trainer.train()
    rows = [row for step in trained_rows(tmp_path) for row in step]
    assert rows == list(range(ROWS))


def test_a_state_that_counts_what_the_trainer_fetched_ahead_does_not_pass(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sabotage: the check above must fail on it."""
    honest = LoaderStateCallback.state

    def ahead(self: LoaderStateCallback) -> Any:
        self._done += 1
        try:
            return honest(self)
        finally:
            self._done -= 1

    monkeypatch.setattr(LoaderStateCallback, "state", ahead)
    trainer = trainer_of(folder, tmp_path)
    trainer.add_callback(_Stop(3))
    trainer.train()
    trainer_of(folder, tmp_path).train(resume_from_checkpoint=True)
    assert trained_rows(tmp_path) != wanted()


@pytest.mark.parametrize(
    ("act", "start"),
    [("sft", "launch"), ("dpo", "launch"), ("sft", "fork"), ("dpo", "fork"), ("dpo", "fork again")],
)
def test_two_processes_killed_one_resumed_killed_two_resumed_read_what_one_process_reads(
    folder: Path, pairs: Path, tmp_path: Path, act: str, start: str
) -> None:
    """2 → 1 → 2 ranks, each broken off by `kill -9` at a random step, one of the kills beyond
    the first epoch's end.
    """
    chance, data = random.Random(f"{SEED} {act} {start}"), folder if act == "sft" else pairs
    for case in range(5 if os.environ.get("ZEPHYR_FAST_LONG") else 1):
        run = Run(act, str(data), tmp_path / str(case), start == "launch")
        first, second = chance.randint(2, 5), chance.randint(7, 10)
        two, one = (
            {"per_device_train_batch_size": 2},
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        )
        run.ranks(2, two, kill=first)
        rows = trained_rows(run.out)  # by now the only record with two ranks
        assert rows == wanted(4, first), f"ZEPHYR_FAST_SEED={SEED}"
        keep(run.out, rows, first - 1)
        run.ranks(1, one, kill=second, resume=True)
        keep(run.out, trained_rows(run.out), second - 1)
        run.ranks(2, {**two, "dataloader_num_workers": 1}, resume=True)
        assert (
            json.loads((run.out / "kept.json").read_text()) + trained_rows(run.out) == wanted()
        ), f"ZEPHYR_FAST_SEED={SEED}"
        # Without dropout the sums, too, are those of one process that nobody killed.
        if act == "dpo":
            alone = pairs_trainer_of(pairs, tmp_path / f"alone-{case}", save_strategy="no", **one)
            alone.train()
            history = json.loads(
                (run.out / f"checkpoint-{STEPS}" / "trainer_state.json").read_text()
            )["log_history"]
            ended, unbroken = (
                [entry["loss"] for entry in entries if "loss" in entry]
                for entries in (history, alone.state.log_history)
            )
            assert ended == pytest.approx(unbroken, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("act", ["sft", "dpo"])
def test_two_processes_killed_and_resumed_end_with_the_same_bits(
    folder: Path, pairs: Path, tmp_path: Path, act: str
) -> None:
    """Dropout's random numbers of each rank included."""
    data, ended = folder if act == "sft" else pairs, []
    for name, kill in (
        ("whole", 0),
        ("killed", random.Random(f"{SEED} {act} bits").randint(2, STEPS - 1)),
    ):
        run = Run(act, str(data), tmp_path / name, is_launched=False)
        for last in [kill, 0] if kill else [0]:
            run.ranks(
                2, {"per_device_train_batch_size": 2}, kill=last, resume=bool(kill and not last)
            )
        ended.append(load_file(run.out / f"checkpoint-{STEPS}" / "model.safetensors"))
    for weight, values in ended[0].items():
        assert torch.equal(values, ended[1][weight]), f"{weight}, ZEPHYR_FAST_SEED={SEED}"


def test_two_processes_with_different_data_both_say_so(folder: Path, tmp_path: Path) -> None:
    other = numbered(tmp_path / "other", ROWS, first=100)
    said = Run("sft", f"{folder}|{other}", tmp_path / "out", is_launched=True).ranks(
        2, {"per_device_train_batch_size": 2}, fails=True
    )
    assert said.count("the ranks disagree on the data to read: `manifest` is") >= 2, said


class _Stop(TrainerCallback):
    """Ends training after a step, its checkpoint included."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        control.should_training_stop |= state.global_step == self.step
