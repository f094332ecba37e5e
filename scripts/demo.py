"""The whole walk on the packaged rows, in two minutes: prep → binarize → dSFT → dDPO, and a
table of what was made and learnt.

    python scripts/demo.py --out demo

Every step is the command that a user would type; it is printed, and what it says goes to a log
in the out folder. Held-out rows are only measured on. Ends with exit code 1 if the model did not
learn.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from zephyr_fast import Manifest
from zephyr_fast.prepare.summary import lines

CPU = Path(__file__).parents[1] / "python" / "zephyr_fast" / "configs" / "accelerate" / "cpu.yaml"
Numbers = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("demo"),
        help="folder for data, models and logs (default: demo)",
    )
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    shards, prefs, sft, dpo = (out / name for name in ("shards", "prefs", "sft", "dpo"))
    train = ["accelerate", "launch", "--config_file", relative(CPU), "-m", "zephyr_fast.train"]
    run(
        out,
        "prep",
        [
            "zephyr-fast",
            "prep",
            "ultrachat",
            "--input",
            "sample",
            "--seq-len",
            "512",
            "--out",
            str(shards),
            "--overwrite",
        ],
    )
    # A quarter of 240 prompts held out, so that one pair more or less moves the accuracy by less
    # than two points.
    held_out = ["--set", "shards.test_fraction=0.25"]
    run(
        out,
        "binarize",
        [
            "zephyr-fast",
            "binarize",
            "ultrafeedback",
            "--input",
            "sample",
            *held_out,
            "--out",
            str(prefs),
            "--overwrite",
        ],
    )
    run(
        out,
        "sft",
        [*train, "sft", "--config", "tiny-sft", "--shards", str(shards), "--output_dir", str(sft)],
    )
    start = ["--model_name_or_path", str(sft)]
    run(
        out,
        "dpo",
        [
            *train,
            "dpo",
            "--config",
            "tiny-dpo",
            "--shards",
            str(prefs),
            *start,
            "--output_dir",
            str(dpo),
        ],
    )

    learnt = [*told_of_loss(read(sft)), *told_of_preference(read(dpo))]
    show(out, Manifest.read(shards), Manifest.read(prefs), learnt)
    if not all(better for _, _, better in learnt):
        sys.exit("the model did not learn; see the logs in " + str(out / "logs"))


def run(out: Path, name: str, command: list[str]) -> None:
    """Runs one step of the walk; its output goes to a log, of which the end is shown if the step
    fails.
    """
    print(f"$ {shlex.join(command)}", flush=True)
    log, start = out / "logs" / f"{name}.log", time.perf_counter()
    log.parent.mkdir(exist_ok=True)
    here = str(Path(sys.executable).parent)
    # One thread, since the models are tiny, and nothing from the network: what was shipped is
    # enough.
    environment = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    with log.open("wb") as file:
        done = subprocess.run(
            command,
            env=os.environ | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        print(
            "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]),
            file=sys.stderr,
        )
        sys.exit(f"this step failed with exit code {done.returncode}; its whole output: {log}")
    print(f"  {time.perf_counter() - start:.0f} s, log: {log}\n", flush=True)


def relative(path: Path) -> str:
    """The path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def read(model: Path) -> Numbers:
    numbers: Numbers = json.loads((model / "all_results.json").read_text(encoding="utf-8"))
    return numbers


def told_of_loss(sft: Numbers) -> list[tuple[str, str, bool]]:
    before, after = sft["before_loss"], sft["eval_loss"]
    return [("dSFT", f"held-out loss {before:.3f} → {after:.3f}", after < before)]


def told_of_preference(dpo: Numbers) -> list[tuple[str, str, bool]]:
    """Accuracy before is the dSFT model's, on the same pairs."""
    before, after, pairs = (
        dpo[name]
        for name in (
            "before_preference_accuracy",
            "eval_preference_accuracy",
            "eval_preference_pairs",
        )
    )
    margins = [dpo[name] for name in ("before_preference_margin", "eval_preference_margin")]
    accuracy = f"held-out preference accuracy {before:.1%} → {after:.1%} ({pairs:.0f} pairs)"
    return [
        ("dDPO", accuracy, after > before),
        ("", f"margin per token {margins[0]:.2f} → {margins[1]:.2f} nats", margins[1] > margins[0]),
    ]


def show(out: Path, shards: Manifest, prefs: Manifest, learnt: list[tuple[str, str, bool]]) -> None:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, manifest, folder in (
        ("prep ultrachat", shards, out / "shards"),
        ("binarize ultrafeedback", prefs, out / "prefs"),
    ):
        table.add_row(f"[cyan]{title}", "")
        for name, says in lines(manifest, folder):
            table.add_row(f"  {name}", says)
    table.add_row("[cyan]training", "")
    for name, says, better in learnt:
        table.add_row(f"  {name}", says if better else f"[red]{says}")
    table.add_row(
        "  models",
        f"{out / 'sft'}/, {out / 'dpo'}/ (load with AutoModelForCausalLM; the chat template is in "
        f"the tokenizer)",
    )
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
