"""Run the full pipeline on the bundled rows (prep, binarize, SFT, DPO), and print a summary.

    python scripts/demo.py --out demo

Every step is the command that a user would type. The command is printed, and its output is written
to a log in the output directory. Held-out rows are only used for evaluation. The exit code is 1 if
the model did not learn.
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
        help="directory for data, models and logs (default: demo)",
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
    # With a quarter of 240 prompts held out, one pair changes the accuracy by less than two points.
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

    made_pairs = Manifest.read(prefs)
    pairs = made_pairs.split("test").examples
    learnt = [*told_of_loss(read(sft)), *told_of_preference(read(dpo), pairs)]
    show(out, Manifest.read(shards), made_pairs, learnt)
    if not all(better for _, _, better in learnt):
        sys.exit("the model did not learn; see the logs in " + str(out / "logs"))


def run(out: Path, name: str, command: list[str]) -> None:
    """Run one step and write its output to a log. If the step fails, print the end of the log."""
    print(f"$ {shlex.join(command)}", flush=True)
    log, start = out / "logs" / f"{name}.log", time.perf_counter()
    log.parent.mkdir(exist_ok=True)
    here = str(Path(sys.executable).parent)
    # One thread, because the models are tiny, and no network, because everything is bundled.
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
        sys.exit(f"step failed with exit code {done.returncode}; full log: {log}")
    print(f"  {time.perf_counter() - start:.0f} s, log: {log}\n", flush=True)


def relative(path: Path) -> str:
    """Return the path relative to the current directory if it is inside."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def read(model: Path) -> Numbers:
    numbers: Numbers = json.loads((model / "all_results.json").read_text(encoding="utf-8"))
    return numbers


def told_of_loss(sft: Numbers) -> list[tuple[str, str, bool]]:
    before, after = sft["before_loss"], sft["eval_loss"]
    return [("SFT", f"held-out loss {before:.3f} → {after:.3f}", after < before)]


def told_of_preference(dpo: Numbers, pairs: int) -> list[tuple[str, str, bool]]:
    """Return the lines on preference. The accuracy before DPO is that of the SFT model."""
    before, after = dpo["before_preference_accuracy"], dpo["eval_preference_accuracy"]
    margins = [dpo[name] for name in ("before_preference_margin", "eval_preference_margin")]
    accuracy = f"held-out preference accuracy {before:.1%} → {after:.1%} ({pairs} pairs)"
    return [
        ("DPO", accuracy, after > before),
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
        f"{out / 'sft'}/, {out / 'dpo'}/ (load with AutoModelForCausalLM; the tokenizer has the "
        "chat template)",
    )
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
