"""Shows that what is trained here learns: dSFT lowers the loss of held-out dialogues, dDPO the
odds of held-out rejected answers.

    python scripts/prove_learning.py --out proof                        # the packaged model, three seeds, about 5 minutes
    python scripts/prove_learning.py --out proof --model smollm2 \\
        --dialogues ultrachat.jsonl.gz --pairs ultrafeedback.jsonl.gz   # SmolLM2-135M, one seed, at most 20 minutes on one thread

Every step is the command that a user would type. Writes `learning.md`, a table, and
`learning.png`, the curves (matplotlib: `pip install '.[plots]'`). Ends with exit code 1 unless
every seed learns both. The held-out margin of a pair is how much more the log-probability of its
chosen answer has risen over the dSFT model's than that of its rejected one, in nats: 0 before
dDPO.
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

Numbers = dict[str, Any]
Curve = list[tuple[int, float]]
"""Steps and what was measured there."""

BETA = 0.1


@dataclass(frozen=True)
class Profile:
    """What is trained, on how much, and how."""

    seeds: tuple[int, ...]
    dialogues: int | None
    pairs: int | None
    seq_len: int
    pair_len: int
    test_fraction: float
    sft: tuple[str, ...]
    dpo: tuple[str, ...]


PROFILES = {
    # Beside the recipes `tiny-sft` and `tiny-dpo`; a quarter of the pairs held out, so that one
    # more or less is below two points.
    "tiny": Profile(
        (1, 2, 3), None, None, 512, 1024, 0.25, ("--eval_steps", "37"), ("--eval_steps", "22")
    ),
    # A step of 256 tokens is 5 to 7 s on one thread, one of a pair 10 s, and every held-out token 5
    # ms each time.
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
        help="folder for data, models, logs, table and curves (default: proof)",
    )
    parser.add_argument(
        "--model",
        choices=PROFILES,
        default="tiny",
        help="what is trained (default: tiny, the packaged model)",
    )
    parser.add_argument(
        "--dialogues",
        default="sample",
        help="rows for dSFT, as JSON lines (default: the packaged ones)",
    )
    parser.add_argument(
        "--pairs",
        default="sample",
        help="rows for dDPO, as JSON lines (default: the packaged ones)",
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
    """Shards and pairs, from as many rows as the profile takes."""
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
    """The first rows of a file of JSON lines, as a file of its own."""
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
    """What one seed learnt, all of it on held-out rows."""

    seed: int
    losses: Curve
    margins: Curve
    accuracies: Curve
    accuracy_of_sft: float
    accuracy_of_dpo: float
    pairs: int

    @property
    def has_learnt(self) -> bool:
        """dSFT has lowered the loss, dDPO raised the margin."""
        return self.losses[-1][1] < self.losses[0][1] and self.margins[-1][1] > 0


def learn(out: Path, profile: Profile, start: str, seed: int) -> Learnt:
    """dSFT, the reference's log-probs, dDPO: the same commands for every seed."""
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
        ],  # at the start all margins are 0, but for rounding
        told["before_preference_accuracy"],
        told["eval_preference_accuracy"],
        round(told["eval_preference_pairs"]),
    )


def curve(model: Path, name: str) -> Curve:
    """What the run measured of `name`, by step."""
    history = json.loads((model / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return sorted({entry["step"]: entry[name] for entry in history if name in entry}.items())


def table_of(found: list[Learnt]) -> str:
    """One line a seed, in Markdown."""
    lines = [
        "| seed | dSFT: held-out loss | dDPO: held-out margin over dSFT, nats | pairs whose margin "
        "rose | right pairs, dSFT → dDPO |",
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
    """The curves of all seeds; nothing where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        print(
            "no curves are drawn: matplotlib is not installed (`pip install '.[plots]'`)",
            file=sys.stderr,
        )
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    titles = (
        "dSFT: held-out loss, nats a token",
        "dDPO: held-out margin over dSFT, nats",
        "dDPO: held-out pairs whose margin rose",
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
