"""Run the recipe from a teacher to DPO with small counts: dialogues, SFT, feedback, pairs, DPO.

    # SmolLM2-135M on a CPU, less than 10 minutes
    python scripts/feedback_story.py --out story

A server on this machine plays the teacher, the judge and, after SFT, the student. Generating the
dialogues is killed once and continued. The judge's verdicts are read from log-probs, since the
model is too small to write them. The result shows that the parts fit together, not quality.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo import CPU, relative, run
from smollm2 import unpacked_model

PORT = 8765
ENDPOINT = """
[endpoints.{name}]
url = "http://127.0.0.1:{port}/v1"
model = "{name}"
family = "{family}"
concurrency = 16
"""
STEPS = ["--max_steps", "3", "--per_device_train_batch_size", "1", "--eval_strategy", "no"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("story"), help="output directory")
    parser.add_argument("--model", type=Path, help="chat model (default: SmolLM2-135M-Instruct)")
    parser.add_argument("--dialogues", type=int, default=6, help="dialogues to generate")
    parser.add_argument("--prompts", type=int, default=6, help="prompts to collect feedback on")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    start, began = str(options.model or unpacked_model(out)), time.perf_counter()
    names = ("teacher", "judge", "student")
    families = ("teacher", "teacher", "student")
    (out / "endpoints.toml").write_text(
        "".join(
            ENDPOINT.format(name=name, port=PORT, family=family)
            for name, family in zip(names, families, strict=True)
        )
    )
    with serving(out, f"teacher={start}"):
        generate(out, options.dialogues)
    learn(out, "sft", start, ["prep", "ultrachat", "--input", str(out / "dialogues/rows.jsonl")])
    with serving(out, f"teacher={start}", f"judge={start}", f"student={out / 'sft'}"):
        collect(out, options.prompts)
    report = ["zephyr-fast", "feedback", "report", str(out / "feedback")]
    run(out, "report", [*report, "--html", str(out / "report.html")])
    pairs = ["binarize", "ultrafeedback", "--input", str(out / "feedback" / "rows.jsonl")]
    learn(out, "dpo", str(out / "sft"), [*pairs, "--set", "binarize.repair=false"])
    print((out / "logs" / "report.log").read_text(encoding="utf-8"))
    print(f"{time.perf_counter() - began:.0f} s; models in {out / 'sft'} and {out / 'dpo'}")


def generate(out: Path, count: int) -> None:
    """Generate dialogues, with one kill -9 on the way."""
    command = [
        "zephyr-fast", "generate", "dialogues", "--teacher", "teacher", "--count", str(count),
        "--endpoints", str(out / "endpoints.toml"), "--out", str(out / "dialogues"),
        "--rounds", "1-2", "--max-tokens", "64", "--user-max-tokens", "32", "--keep-cut",
    ]  # fmt: skip
    log = out / "dialogues" / "_log" / "calls.jsonl"
    if not log.exists():
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        child = subprocess.Popen(command, env=os.environ | {"PATH": path})
        while child.poll() is None and not (log.exists() and b'"answer"' in log.read_bytes()):
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
        print("killed after the first answers; the same command continues", flush=True)
    run(out, "dialogues", command)


def collect(out: Path, prompts: int) -> None:
    """Let the teacher and the student answer, and the judge rate."""
    run(
        out,
        "feedback",
        [
            "zephyr-fast", "feedback", "collect", "--prompts", str(out / "sft-data" / "text"),
            "--limit", str(prompts), "--pool", "teacher", "--student", "student", "--samples",
            "2", "--judge", "judge", "--verdict", "expected", "--mass-min", "0.02",
            "--max-tokens", "48", "--endpoints", str(out / "endpoints.toml"), "--out",
            str(out / "feedback"),
        ],
    )  # fmt: skip


def learn(out: Path, method: str, start: str, prepare: list[str]) -> None:
    """Prepare rows, and train a model on them for three steps."""
    data = out / f"{method}-data"
    shared = ["--tokenizer", start, "--set", "shards.test_fraction=0", "--out", str(data)]
    length = ["--seq-len", "256"] if method == "sft" else ["--max-length", "256"]
    run(out, f"{method}-data", ["zephyr-fast", *prepare, *shared, *length, "--overwrite"])
    run(
        out,
        method,
        [
            "accelerate", "launch", "--config_file", relative(CPU), "-m", "zephyr_fast.train",
            method, "--config", f"tiny-{method}", "--shards", str(data), "--model_name_or_path",
            start, "--output_dir", str(out / method), "--learning_rate", "1e-5", *STEPS,
        ],
    )  # fmt: skip


@contextmanager
def serving(out: Path, *models: str) -> Iterator[None]:
    """Serve models while the block runs."""
    words = [option for model in models for option in ("--model", model)]
    server = Path(__file__).parent / "model_server.py"
    with (out / "logs.server").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, str(server), *words, "--port", str(PORT)], stdout=log, stderr=log
        )
        try:
            wait_for(child)
            yield
        finally:
            child.terminate()
            child.wait()


def wait_for(child: "subprocess.Popen[bytes]") -> None:
    """Return once the server answers."""
    while child.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v1/models", timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    sys.exit("the server ended; see logs.server in the output directory")


if __name__ == "__main__":
    main()
