"""A small run of a real trainer that writes down what each step trained on; as a program, one
rank of it, which may kill itself.

python recorded_run.py '{"act": "sft", "folder": …, "out": …, "settings": {…}, "kill": 3,
"world": 2}'
"""

import json
import os
import signal
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import MistralConfig, MistralForCausalLM, TrainerCallback
from trl import DPOConfig, SFTConfig

from numbered import LENGTH, numbers
from shards_by_hand import tokenizer
from zephyr_fast import open_shards
from zephyr_fast.load.collators import PairCollator, WindowCollator
from zephyr_fast.load.index import with_columns
from zephyr_fast.train.distill import DistillationTrainer
from zephyr_fast.train.dpo import DPOTrainer
from zephyr_fast.train.trainers import SFTTrainer

SETTINGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "activation_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "seed": 3,
    "remove_unused_columns": False,
    "max_length": LENGTH,
    "num_train_epochs": 2,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 4,
    "learning_rate": 1e-2,
    "save_steps": 1,
    "logging_steps": 1,
    "ddp_find_unused_parameters": False,
}


class Recorded(SFTTrainer):
    """Writes a line for each micro batch: step, rows."""

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        weight = (inputs["labels"] != -100).any(dim=1).tolist()
        _record(
            self,
            [
                row if real else -1
                for row, real in zip(numbers(inputs["input_ids"]), weight, strict=True)
            ],
        )
        return super().training_step(model, inputs, *rest, **named)


class RecordedDistilled(Recorded, DistillationTrainer):
    """As `Recorded`, with a teacher."""


class RecordedPairs(DPOTrainer):
    """As `Recorded`. The stored reference of a pair is its number, so that it can be seen to be
    that pair's.
    """

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        rows = numbers(inputs["input_ids"].chunk(2)[0])
        assert inputs["ref_chosen_logps"].tolist() == rows
        assert inputs["ref_rejected_logps"].tolist() == [-row for row in rows]
        _record(self, rows)
        return super().training_step(model, inputs, *rest, **named)


def _record(trainer: Any, rows: list[int]) -> None:
    with (Path(trainer.args.output_dir) / f"rows-{trainer.args.process_index}.jsonl").open(
        "a"
    ) as file:
        file.write(json.dumps([trainer.state.global_step, rows]) + "\n")


class Killed(TrainerCallback):
    """`kill -9` after the optimizer's step, before the checkpoint is written."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def model_of(**settings: Any) -> MistralForCausalLM:
    """A model of a few thousand parameters, the same every time."""
    torch.manual_seed(0)
    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
    }
    return MistralForCausalLM(
        MistralConfig(vocab_size=2048, max_position_embeddings=LENGTH, **shape, **settings)
    )


def trainer_of(
    folder: Path,
    out: Path,
    kind: type[SFTTrainer] = Recorded,
    dataset: Any = None,
    dropout: float = 0.5,
    **settings: Any,
) -> Any:
    """A dSFT run; settings are SFTConfig's."""
    config = SFTConfig(
        output_dir=str(out),
        dataset_kwargs={"skip_prepare_dataset": True},
        **{**SETTINGS, **settings},
    )
    out.mkdir(parents=True, exist_ok=True)
    trainer = kind(
        model=model_of(attention_dropout=dropout),
        args=config,
        train_dataset=open_shards(folder) if dataset is None else dataset,
        eval_dataset=open_shards(folder, "test") if config.eval_strategy != "no" else None,
        processing_class=tokenizer(),
    )
    trainer.data_collator = WindowCollator("rows", tokenizer().pad_token_id)
    return trainer


def pairs_trainer_of(folder: Path, out: Path, dataset: Any = None, **settings: Any) -> DPOTrainer:
    """A dDPO run on packed pairs with a stored reference; settings are DPOConfig's."""
    config = DPOConfig(
        output_dir=str(out), precompute_ref_log_probs=True, **{**SETTINGS, **settings}
    )
    out.mkdir(parents=True, exist_ok=True)
    rows = open_shards(folder) if dataset is None else dataset
    numbered = numbers(np.array([pair["prompt_ids"] for pair in rows]))
    columns = {
        "ref_chosen_logps": np.array(numbered, np.float32),
        "ref_rejected_logps": -np.array(numbered, np.float32),
    }
    collator = PairCollator(tokenizer().pad_token_id)
    trainer = RecordedPairs(
        model_of(),
        config,
        data_collator=collator,
        train_dataset=with_columns(rows, columns),
        processing_class=tokenizer(),
    )
    trainer.pack_pairs()
    return trainer


def distilled_trainer_of(
    folder: Path, out: Path, teacher: str, **settings: Any
) -> DistillationTrainer:
    """A dSFT run with a teacher and without dropout."""
    trainer = trainer_of(folder, out, RecordedDistilled, dropout=0.0, **settings)
    trainer.set_teacher(teacher, 0.5)
    return trainer


TRAINERS = {"sft": trainer_of, "dpo": pairs_trainer_of, "distill": distilled_trainer_of}


def trained_rows(out: Path) -> list[list[int]]:
    """What each step trained on, rank after rank within each micro batch; of a step that was
    done twice, the last time.
    """
    ranks = []
    for path in sorted(out.glob("rows-*.jsonl")):
        steps: dict[int, list[list[int]]] = defaultdict(list)
        last = -1
        for step, rows in map(json.loads, path.read_text().splitlines()):
            if step < last:
                for undone in range(step, last + 1):
                    steps.pop(undone, None)
            steps[step].append(rows)
            last = step
        ranks.append(steps)
    trained = []
    for step in sorted(set().union(*ranks)):
        turns = zip(*(rank[step] for rank in ranks if step in rank), strict=True)
        trained.append([row for turn in turns for rows in turn for row in rows])
    return trained


def run_rank(text: str) -> None:
    """One rank of the run that `text`, JSON, describes."""
    given = json.loads(text)
    if given["world"] == 1:  # alone, as it is started by hand
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)
    folders = given["folder"].split("|")  # one for all ranks, or one for each
    folder = Path(folders[int(os.environ.get("RANK", 0)) % len(folders)])
    trainer = TRAINERS[given["act"]](folder, Path(given["out"]), **given["settings"])
    assert trainer.args.world_size == given["world"], (
        f"{trainer.args.world_size} ranks, not {given['world']}"
    )
    if given["kill"]:
        trainer.add_callback(Killed(given["kill"]))
    trainer.train(resume_from_checkpoint=given["resume"] or None)
    trainer.end()


if __name__ == "__main__":
    run_rank(sys.argv[1])
