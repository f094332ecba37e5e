"""Compare training steps with stock TRL: DPO pairs and SFT tokens per second, and peak memory.

    python scripts/benchmarks/train.py --prefs prefs --shards shards --model tiny-sft
    python scripts/benchmarks/train.py --prefs prefs --shards shards --random 1b --checkpointing \\
        --attention flash_attention_2
    python scripts/benchmarks/train.py --prefs prefs --shards shards --random 7b --checkpointing \\
        --attention flash_attention_2 --dtype bfloat16

zephyr-fast runs as the command that a user would type. TRL's trainer reads the text of the same
shards, and pairs in the same order. Each contender has a separate process. On a CPU, seconds are
CPU time. Data preparation is not included, and storing the reference has a separate line. On a
GPU, products use bfloat16. MFU only counts the policy: three times the FLOPs of its forward pass,
without padding and reference, divided by the peak.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from clock import memory_largest
from measuring import (
    cores,
    describe_machine,
    in_turns,
    parser_of,
    run_process,
    show_machine,
    show_table,
)
from zephyr_fast import Manifest
from zephyr_fast.costs import PEAK_TFLOPS, Shape

SHAPES = {  # Mistral's proportions; 7b is Mistral-7B
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 7168,
        "num_hidden_layers": 22,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
    },
    "7b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
DPO = {
    "TRL DPOTrainer: padded, reference in memory": "stock",
    "zephyr-fast: padded, stored reference": "stored",
    "zephyr-fast: packed, reference in memory": "packed",
    "zephyr-fast: packed, stored reference": "both",
}
SFT = {"TRL SFTTrainer: TRL's packing": "stock", "zephyr-fast: packed shards": "ours"}
WARMUP_STEPS = 2
Result = dict[str, float]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--prefs", type=Path, help="output directory of `zephyr-fast binarize`, with text"
    )
    parser.add_argument(
        "--shards", type=Path, help="output directory of `zephyr-fast prep`, with text"
    )
    parser.add_argument("--model", help="directory of the model to train")
    parser.add_argument(
        "--random",
        choices=SHAPES,
        help="use random weights of this size, written to `bench-model`",
    )
    parser.add_argument("--steps", type=int, default=10, help="measured steps (default: 10)")
    parser.add_argument("--batch", type=int, default=8, help="pairs per DPO step (default: 8)")
    parser.add_argument(
        "--windows", type=int, default=4, help="sequences per SFT step (default: 4)"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=2,
        help="rounds per contender, interleaved; the best is reported (default: 2)",
    )
    parser.add_argument(
        "--attention", default="sdpa", help="attention implementation (default: sdpa)"
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        help="dtype of weights and optimizer; in bfloat16, 7b fits an 80 GB GPU (default: float32)",
    )
    parser.add_argument(
        "--peak-tflops",
        type=float,
        default=PEAK_TFLOPS,
        help=f"peak TFLOP/s of the GPU in bfloat16, for MFU (default: {PEAK_TFLOPS:g})",
    )
    parser.add_argument(
        "--checkpointing", action="store_true", help="recompute activations in the backward pass"
    )
    parser.add_argument("--contender", help=argparse.SUPPRESS)  # set by the parent process
    options = parser.parse_args()
    options.model = options.model or (
        random_model(options.random)
        if options.random
        else parser.error("--model or --random is required")
    )
    if options.contender:
        print(json.dumps(contend(options, *options.contender.split(":"))))
        return
    show_machine(describe_machine(cores()))
    if options.prefs:
        print(
            f"storing the reference: {store_reference(options):.1f} pairs per second, once for all "
            "runs"
        )
        show("DPO", "pairs/s", {name: f"dpo:{kind}" for name, kind in DPO.items()}, options.rounds)
    if options.shards:
        show("SFT", "tokens/s", {name: f"sft:{kind}" for name, kind in SFT.items()}, options.rounds)


def show(title: str, unit: str, contenders: dict[str, str], rounds: int) -> None:
    """Run every contender alternately, and print the best result of each and its ratio to the
    first one.
    """
    found: dict[str, list[Result]] = {name: [] for name in contenders}
    for _, name in in_turns(contenders, rounds):
        found[name].append(alone(contenders[name]))
    best = {
        name: max(results, key=lambda result: result["rate"]) for name, results in found.items()
    }
    first = next(iter(best.values()))
    rows = [[name, *cells(result, first["rate"])] for name, result in best.items()]
    show_table(title, ["", unit, "ratio", "MFU", "peak MB", "data", "last loss"], rows)


def cells(result: Result, first_rate: float) -> list[str]:
    ratio = f"{result['rate'] / first_rate:.2f}x"
    mfu = f"{result['mfu']:.1%}" if result["mfu"] else "–"
    waiting = f"{result['data_share']:.1%}"
    peak, loss = f"{result['peak_mb']:.0f}", f"{result['loss']:.4f}"
    return [f"{result['rate']:.2f}", ratio, mfu, peak, waiting, loss]


def alone(contender: str) -> Result:
    """Return the result of a contender in a separate process."""
    command = [sys.executable, __file__, *sys.argv[1:], "--contender", contender]
    return run_process(command).report(contender)


def contend(options: argparse.Namespace, act: str, kind: str) -> Result:
    """Train `options.steps` steps after the warm-up, and return rate, peak memory, the share of
    time spent waiting for data, and the last loss.
    """
    import torch
    from transformers.trainer import DEFAULT_CALLBACKS

    is_gpu, clock = torch.cuda.is_available(), make_clock()
    DEFAULT_CALLBACKS.append(clock)
    out = Path("bench-out") / f"{act}-{kind}"
    settings = {
        **{
            "output_dir": str(out),
            "max_steps": options.steps + WARMUP_STEPS,
            "logging_steps": options.steps + WARMUP_STEPS,
            "seed": 1,
        },
        **{
            "per_device_train_batch_size": options.batch if act == "dpo" else options.windows,
            "learning_rate": 1e-6,
        },
        **{
            "activation_checkpointing": options.checkpointing,
            "bf16": is_gpu,
            "use_cpu": not is_gpu,
            "save_strategy": "no",
        },
        **{"report_to": "none", "disable_tqdm": True},
    }
    # Padding depends on the pairs of a batch, and both trainers support only this order.
    if act == "dpo":
        settings["train_sampling_strategy"] = "sequential"
    (ours if kind != "stock" else {"dpo": stock_dpo, "sft": stock_sft}[act])(
        options, act, kind, settings
    )
    steps, waits = clock.steps[WARMUP_STEPS:], clock.waits[WARMUP_STEPS:]
    work = clock.work[WARMUP_STEPS:] if act == "sft" else [options.batch] * options.steps
    peak = torch.cuda.max_memory_allocated() / 2**20 if is_gpu else memory_largest() / 2**20
    spent = sum(steps) + sum(waits)
    rate = sum(work) / spent
    mfu = rate * flops_of_one(options, act) / (options.peak_tflops * 1e12) if is_gpu else 0.0
    return {
        "rate": rate,
        "mfu": mfu,
        "peak_mb": peak,
        "data_share": sum(waits) / spent,
        "loss": clock.loss,
    }


def flops_of_one(options: argparse.Namespace, act: str) -> float:
    """Return the model FLOPs of training on one SFT token or one DPO pair, with documents of mean
    length.
    """
    shape = Shape.of(
        json.loads((Path(options.model) / "config.json").read_text(encoding="utf-8")), options.model
    )
    split = Manifest.read(options.prefs if act == "dpo" else options.shards).split("train")
    seen, documents = (
        (2 * split.tokens - split.label_tokens, 2 * split.examples)
        if act == "dpo"
        else (split.tokens, split.rows)
    )
    a_token = 3 * 2 * (shape.matmul + shape.layers * shape.attention_width * seen / documents)
    return a_token * (seen / split.examples if act == "dpo" else 1)


def make_clock() -> Any:
    """Return a callback that records the time of each step, the wait before it, and its tokens."""
    import torch
    from transformers import Trainer, TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.steps: list[float] = []
            self.waits: list[float] = []
            self.work: list[int] = []
            self.loss, self.last = float("nan"), 0.0
            # CPU time on a CPU, because it does not depend on other processes.
            self.now = time.perf_counter if torch.cuda.is_available() else time.process_time

        def tick(self) -> float:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            now = self.now()
            passed, self.last = now - self.last, now
            return passed

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.tick()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.waits.append(self.tick())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.steps.append(self.tick())

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            self.loss = logs.get("loss", self.loss)

    clock, step = Clock(), Trainer.training_step

    def counted(self: Any, model: Any, inputs: dict[str, Any], *rest: Any, **more: Any) -> Any:
        is_token = inputs["input_ids"] != self.processing_class.pad_token_id
        # The end of text may have the same id, but not as the last token of a row.
        padding = is_token.flip(1).int().argmax(dim=1)
        clock.work.append(is_token.numel() - int(padding.sum()))
        return step(self, model, inputs, *rest, **more)

    Trainer.training_step = counted
    return clock


def ours(options: argparse.Namespace, act: str, kind: str, settings: dict[str, Any]) -> None:
    from zephyr_fast.train.__main__ import main as train

    if act == "dpo":
        settings |= {
            "precompute_ref_log_probs": kind in ("stored", "both"),
            "pack": "true" if kind in ("packed", "both") else "false",
            "beta": 0.1,
        }
    folder = options.prefs if act == "dpo" else options.shards
    settings |= {
        "shards": folder,
        "model_name_or_path": options.model,
        "attn_implementation": options.attention,
        "dtype": options.dtype,
    }
    if code := train(
        [act, *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]
    ):
        sys.exit(code)


def stock_dpo(options: argparse.Namespace, _act: str, _kind: str, settings: dict[str, Any]) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    rows = [
        {
            "prompt": row["chosen"][:-1],
            "chosen": row["chosen"][-1:],
            "rejected": row["rejected"][-1:],
        }
        for row in text_of(options.prefs)
    ]
    length = Manifest.read(options.prefs).split("train").seq_len
    config = DPOConfig(beta=0.1, max_length=length, model_init_kwargs=loading(options), **settings)
    tokenizer = AutoTokenizer.from_pretrained(options.prefs / "tokenizer")
    DPOTrainer(
        model=options.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    ).train()


def stock_sft(options: argparse.Namespace, _act: str, _kind: str, settings: dict[str, Any]) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    rows = [{"messages": row["messages"]} for row in text_of(options.shards)]
    length = Manifest.read(options.shards).split("train").seq_len
    config = SFTConfig(
        packing=True, max_length=length, model_init_kwargs=loading(options), **settings
    )
    tokenizer = AutoTokenizer.from_pretrained(options.shards / "tokenizer")
    SFTTrainer(
        model=options.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    ).train()


def loading(options: argparse.Namespace) -> dict[str, Any]:
    return {"attn_implementation": options.attention, "dtype": options.dtype}


def text_of(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    files = sorted((folder / "text").glob("train-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def store_reference(options: argparse.Namespace) -> float:
    """Return pairs per second of the pass that stores the reference, with loading the model."""
    command = [sys.executable, "-m", "zephyr_fast", "ref-logprobs", options.prefs]
    command += ["--model", options.model, "--split", "train"]
    ended = run_process([*command, "--attn-implementation", options.attention])
    return Manifest.read(options.prefs).split("train").examples / ended.or_exit("ref-logprobs").wall


def random_model(size: str) -> str:
    """Return a directory with a Mistral of this size and random weights."""
    import torch
    from transformers import AutoModelForCausalLM, MistralConfig

    folder = Path("bench-model") / size
    if not (folder / "config.json").is_file():
        torch.manual_seed(0)
        config = MistralConfig(
            vocab_size=32000, max_position_embeddings=4096, sliding_window=None, **SHAPES[size]
        )
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    main()
