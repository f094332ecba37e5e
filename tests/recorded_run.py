"""A small run of the real SFT trainer that writes down what each step trained on; as a program, one rank of it, which may kill itself.

python recorded_run.py '{"folder": …, "out": …, "settings": {…}, "kill": 3, "world": 2}'
"""

import json
import os
import signal
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from transformers import MistralConfig, MistralForCausalLM, TrainerCallback
from trl import SFTConfig

from numbered import LENGTH, numbers
from shards_by_hand import tokenizer
from zephyr_fast import open_shards
from zephyr_fast.collators import WindowCollator
from zephyr_fast.train.sft import SFTTrainer

SETTINGS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "activation_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "seed": 3,
    "dataset_kwargs": {"skip_prepare_dataset": True},
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
        rows = [row if real else -1 for row, real in zip(numbers(inputs["input_ids"]), weight, strict=True)]
        with (Path(self.args.output_dir) / f"rows-{self.args.process_index}.jsonl").open("a") as file:
            file.write(json.dumps([self.state.global_step, rows]) + "\n")
        return super().training_step(model, inputs, *rest, **named)


class Killed(TrainerCallback):
    """`kill -9` after the optimizer's step, before the checkpoint is written."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def trainer_of(folder: Path, out: Path, kind: type[SFTTrainer] = Recorded, dataset: Any = None, **settings: Any) -> SFTTrainer:
    """A trainer of a model of a few thousand parameters; settings are SFTConfig's."""
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    model = MistralForCausalLM(MistralConfig(vocab_size=2048, max_position_embeddings=LENGTH, attention_dropout=0.5, **shape))
    config = SFTConfig(output_dir=str(out), **{**SETTINGS, **settings})
    out.mkdir(parents=True, exist_ok=True)
    trainer = kind(
        model=model,
        args=config,
        train_dataset=open_shards(folder) if dataset is None else dataset,
        eval_dataset=open_shards(folder, "test") if config.eval_strategy != "no" else None,
        processing_class=tokenizer(),
    )
    trainer.data_collator = WindowCollator("rows", tokenizer().pad_token_id)
    return trainer


def trained_rows(out: Path) -> list[list[int]]:
    """What each step trained on, rank after rank within each micro batch; of a step that was done twice, the last time."""
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


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    folders = given["folder"].split("|")  # one for all ranks, or one for each
    trainer = trainer_of(Path(folders[int(os.environ.get("RANK", 0)) % len(folders)]), Path(given["out"]), **given["settings"])
    assert trainer.args.world_size == given["world"], f"{trainer.args.world_size} ranks, not {given['world']}"
    if given["kill"]:
        trainer.add_callback(Killed(given["kill"]))
    trainer.train(resume_from_checkpoint=given["resume"] or None)
    trainer.end()
