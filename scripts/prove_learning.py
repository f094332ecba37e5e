"""Show on held-out data that SFT and DPO learn, over several seeds.

    # the bundled model, three seeds, about 5 minutes
    python scripts/prove_learning.py --out proof
    # SmolLM2-135M, one seed, at most 20 minutes on one thread
    python scripts/prove_learning.py --out proof --model smollm2 \\
        --dialogues ultrachat.jsonl.gz --pairs ultrafeedback.jsonl.gz

Every step is the command that a user would type. The script writes a table to `learning.md` and
curves to `learning.png` (matplotlib: `pip install '.[plots]'`). The exit code is 1 unless every
seed learns with both methods. The margin of a pair is the increase of the log-prob of its chosen
completion over the SFT model, minus that of its rejected one, in nats. It is 0 before DPO.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from demo import CPU, read, relative, run
from smollm2 import unpacked_model
from zephyr_fast import Manifest

Numbers = dict[str, Any]
Curve = list[tuple[int, float]]
"""Pairs of a step and the value measured at it."""

BETA = 0.1


@dataclass(frozen=True)
class Profile:
    """Model size, amount of data and options of a run."""

    seeds: tuple[int, ...]
    dialogues: int | None
    pairs: int | None
    seq_len: int
    pair_len: int
    test_fraction: float
    sft: tuple[str, ...]
    dpo: tuple[str, ...]


PROFILES = {
    # The options of `tiny-sft` and `tiny-dpo`. With a quarter of the pairs held out, one pair
    # changes the accuracy by less than two points.
    "tiny": Profile(
        (1, 2, 3), None, None, 512, 1024, 0.25, ("--eval_steps", "37"), ("--eval_steps", "22")
    ),
    # On one thread, an SFT step of 256 tokens needs 5 to 7 s, a DPO step of one pair 10 s, and each
    # evaluation 5 ms per held-out token.
    "smollm2": Profile(
        (1,),
        60,
        60,
        256,
        256,
        0.25,
        (
            "--max_steps",
            "36",
            "--eval_steps",
            "12",
            "--per_device_train_batch_size",
            "1",
            "--learning_rate",
            "5e-5",
        ),
        (
            "--max_steps",
            "24",
            "--eval_steps",
            "12",
            "--per_device_train_batch_size",
            "1",
            "--learning_rate",
            "1e-5",
        ),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("proof"),
        help="directory for data, models, logs, table and curves (default: proof)",
    )
    parser.add_argument(
        "--model",
        choices=PROFILES,
        default="tiny",
        help="model to train (default: tiny, the bundled model)",
    )
    parser.add_argument(
        "--dialogues",
        default="sample",
        help="rows for SFT, as JSON Lines (default: the bundled ones)",
    )
    parser.add_argument(
        "--pairs",
        default="sample",
        help="rows for DPO, as JSON Lines (default: the bundled ones)",
    )
    options = parser.parse_args()
    out, profile = options.out, PROFILES[options.model]
    out.mkdir(parents=True, exist_ok=True)
    start = "sample" if options.model == "tiny" else str(unpacked_model(out))

    prepare(out, profile, options, start)
    found = [learn(out, profile, start, seed) for seed in profile.seeds]
    (out / "learning.md").write_text(table_of(found), encoding="utf-8")
    draw(found, out / "learning.png")
    print(table_of(found))
    if not all(result.has_learnt for result in found):
        sys.exit(f"a seed did not learn; see the logs in {out / 'logs'}")


def prepare(out: Path, profile: Profile, options: argparse.Namespace, tokenizer: str) -> None:
    """Build the shards and pairs from the number of rows in the profile."""
    dialogues, pairs = (
        source if source == "sample" else str(first(Path(source), rows, out / f"{name}.jsonl"))
        for name, source, rows in (
            ("dialogues", options.dialogues, profile.dialogues),
            ("pairs", options.pairs, profile.pairs),
        )
    )
    held_out = [
        "--set",
        f"shards.test_fraction={profile.test_fraction}",
        "--tokenizer",
        tokenizer,
        "--overwrite",
    ]
    prep = [
        "zephyr-fast",
        "prep",
        "ultrachat",
        "--input",
        dialogues,
        "--seq-len",
        str(profile.seq_len),
    ]
    run(out, "prep", [*prep, *held_out, "--out", str(out / "shards")])
    binarize = [
        "zephyr-fast",
        "binarize",
        "ultrafeedback",
        "--input",
        pairs,
        "--set",
        f"binarize.max_length={profile.pair_len}",
    ]
    run(out, "binarize", [*binarize, *held_out, "--out", str(out / "prefs")])


def first(source: Path, rows: int | None, target: Path) -> Path:
    """Copy the first rows of a JSON Lines file to a new file, and return its path."""
    import gzip

    with (
        gzip.open(source, "rt", encoding="utf-8")
        if source.suffix == ".gz"
        else source.open(encoding="utf-8") as lines
    ):
        target.write_text("".join(islice(lines, rows)), encoding="utf-8")
    return target


@dataclass(frozen=True)
class Learnt:
    """Results of one seed, all measured on held-out rows."""

    seed: int
    losses: Curve
    margins: Curve
    accuracies: Curve
    accuracy_of_sft: float
    accuracy_of_dpo: float
    pairs: int

    @property
    def has_learnt(self) -> bool:
        """Whether SFT lowered the loss and DPO raised the margin."""
        return self.losses[-1][1] < self.losses[0][1] and self.margins[-1][1] > 0


def learn(out: Path, profile: Profile, start: str, seed: int) -> Learnt:
    """Run SFT, reference log-probs and DPO, with the same commands for every seed."""
    train = ["accelerate", "launch", "--config_file", relative(CPU), "-m", "zephyr_fast.train"]
    common = ["--seed", str(seed), "--eval_strategy", "steps", "--logging_steps", "4"]
    sft, dpo, prefs = out / f"sft-{seed}", out / f"dpo-{seed}", str(out / "prefs")
    words = [
        "--config",
        "tiny-sft",
        "--shards",
        str(out / "shards"),
        "--model_name_or_path",
        start,
        "--output_dir",
        str(sft),
    ]
    run(out, f"sft-{seed}", [*train, "sft", *words, *common, *profile.sft])
    run(out, f"ref-{seed}", ["zephyr-fast", "ref-logprobs", prefs, "--model", str(sft)])
    words = [
        "--config",
        "tiny-dpo",
        "--shards",
        prefs,
        "--model_name_or_path",
        str(sft),
        "--output_dir",
        str(dpo),
    ]
    run(
        out,
        f"dpo-{seed}",
        [
            *train,
            "dpo",
            *words,
            "--beta",
            str(BETA),
            "--precompute_ref_log_probs",
            "true",
            *common,
            *profile.dpo,
        ],
    )
    told = read(dpo)
    return Learnt(
        seed,
        curve(sft, "eval_loss"),
        [(step, reward / BETA) for step, reward in curve(dpo, "eval_rewards/margins")],
        curve(dpo, "eval_rewards/accuracies")[
            1:
        ],  # all margins are 0 at the start, except for rounding
        told["before_preference_accuracy"],
        told["eval_preference_accuracy"],
        Manifest.read(prefs).split("test").examples,
    )


def curve(model: Path, name: str) -> Curve:
    """Return the values of `name` that the run logged, by step."""
    history = json.loads((model / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return sorted({entry["step"]: entry[name] for entry in history if name in entry}.items())


def table_of(found: list[Learnt]) -> str:
    """Return a Markdown table with a row for each seed."""
    lines = [
        "| Seed | SFT: held-out loss | DPO: held-out margin, nats per pair | Pairs whose margin "
        "rose | Preference accuracy, SFT → DPO |",
        "|---|---|---|---|---|",
    ]
    for one in found:
        loss, margin = (
            f"{values[0][1]:.2f} → {values[-1][1]:.2f}" for values in (one.losses, one.margins)
        )
        right = f"{one.accuracy_of_sft:.1%} → {one.accuracy_of_dpo:.1%} of {one.pairs}"
        lines.append(f"| {one.seed} | {loss} | {margin} | {one.accuracies[-1][1]:.1%} | {right} |")
    return "\n".join(lines) + "\n"


def draw(found: list[Learnt], path: Path) -> None:
    """Plot the curves of all seeds. Without matplotlib, print a note instead."""
    try:
        import matplotlib
    except ImportError:
        print(
            "skipping plots: matplotlib is not installed (`pip install '.[plots]'`)",
            file=sys.stderr,
        )
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    titles = (
        "SFT: held-out loss, nats per token",
        "DPO: held-out margin, nats per pair",
        "DPO: held-out pairs whose margin rose",
    )
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    for panel, title, name in zip(panels, titles, ("losses", "margins", "accuracies"), strict=True):
        for one in found:
            steps, values = zip(*getattr(one, name), strict=True)
            panel.plot(steps, values, marker="o", markersize=3, label=f"seed {one.seed}")
        panel.set(title=title, xlabel="step")
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
