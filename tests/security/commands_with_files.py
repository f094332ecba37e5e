"""Every command that asks models or reads results, each time with one file argument of another
kind: a FIFO that nobody writes to, a device without end, or a huge file without content.

Run as a program, because a command that hangs would not come back.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from answering_server import digest_of
from collecting import endpoints_file, prompts_file, written
from zephyr_fast.cli import cli
from zephyr_fast.cli.errors import exit_code
from zephyr_fast.evaluate.prompts import BUNDLED as JUDGE_PROMPTS
from zephyr_fast.feedback.judging import BUNDLED as PROMPTS
from zephyr_fast.feedback.principles import BUNDLED as PRINCIPLES
from zephyr_fast.generate.sectors import BUNDLED as SECTORS

KINDS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "huge": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}
Case = tuple[str, list[object]]


def cases(folder: Path, make: Callable[[Path], object]) -> Iterator[Case]:
    """Commands that get as far as the file in question."""
    endpoints = endpoints_file(folder, "http://127.0.0.1:9/v1")
    prompts = prompts_file(folder, 2)
    asked = written(
        folder / "questions.jsonl", [{"question_id": 1, "category": "math", "turns": ["A?", "B?"]}]
    )
    outputs = written(
        folder / "set.jsonl",
        [{"instruction": "A?", "output": "a", "generator": "g", "dataset": "d"}],
    )
    judged = written(folder / "judged.jsonl", [{"question_id": 1, "model": "m", "turn": 1}])

    def bad(ending: str) -> Path:
        path = folder / f"bad-{digest_of(ending, len(os.listdir(folder)))}{ending}"
        make(path)
        return path

    def tree(like: Path, name: str) -> Path:
        copy = shutil.copytree(like, folder / f"tree-{len(os.listdir(folder))}")
        (copy / name).unlink()
        make(copy / name)
        return copy

    out, dry = ["--out", folder / "out"], ["--dry-run", "--endpoints", endpoints]
    generate = ["generate", "dialogues", "--teacher", "alpha", "--count", 1, *out]
    collect = ["feedback", "collect", "--pool", "alpha,beta", *out]
    judge = ["--judge", "judge"]
    models = ["--answers-from", "alpha", *judge, *out]
    mt = ["evaluate", "mt-bench", *models]
    alpaca = ["evaluate", "alpaca-eval", *models]
    for ending in (".jsonl", ".parquet", ".txt"):
        yield f"seeds {ending}", [*generate, *dry, "--seeds", bad(ending)]
        yield f"prompts {ending}", [*collect, *judge, *dry, "--prompts", bad(ending)]
    for name in ("sector.toml", "topics.txt", "seeds.txt", "first.txt", "next.txt"):
        sectors = tree(SECTORS, f"world/{name}")
        yield f"sector {name}", [*generate, *dry, "--topics", "world", "--sectors-dir", sectors]
    given = [*collect, *judge, *dry, "--prompts", prompts]
    yield "principles", [*given, "--principles", tree(PRINCIPLES, "mix.toml")]
    yield "prompts of judges", [*given, "--judge-prompts", tree(PROMPTS / "text", "overall.txt")]
    key = endpoints_file(folder / "with-key", "https://a.example/v1", key_file=str(bad(".key")))
    for label, file in (("endpoints", bad(".toml")), ("key", key)):
        yield f"{label} of generate", [*generate, "--endpoints", file]
        yield f"{label} of collect", [*collect, *judge, "--prompts", prompts, "--endpoints", file]
        yield f"{label} listed", ["endpoints", file]
        yield f"{label} checked", ["endpoints", file, "--check"]
        yield (
            f"{label} of a benchmark",
            [*mt, "--questions", asked, "--no-references", "--endpoints", file],
        )
    yield "questions", [*mt, *dry, "--no-references", "--questions", bad(".jsonl")]
    questions = [*mt, *dry, "--questions", asked]
    yield "references", [*questions, "--references", bad(".jsonl")]
    yield "judge prompts", [*questions, "--no-references", "--judge-prompts", bad(".jsonl")]
    yield (
        "a judge prompt",
        [
            *questions,
            "--no-references",
            "--judge-prompts",
            tree(JUDGE_PROMPTS, "mt-bench-single.txt"),
        ],
    )
    yield "set", [*alpaca, *dry, "--set", bad(".json"), "--baseline", outputs]
    yield "baseline", [*alpaca, *dry, "--set", outputs, "--baseline", bad(".json")]
    both = ["--set", outputs, "--baseline", outputs]
    yield "prompt", [*alpaca, *dry, *both, "--judge-prompt", bad(".txt")]
    yield (
        "outputs",
        ["evaluate", "alpaca-eval", *judge, *out, *dry, *both, "--outputs", bad(".json")],
    )
    yield "score", ["evaluate", "score", bad(".json"), *out]
    yield "score questions", ["evaluate", "score", judged, *out, "--questions", bad(".jsonl")]
    yield "compare", ["compare", bad(".json")]
    yield "radar", ["radar", bad(".json"), *out]
    for name in ("config.json", "adapter_config.json", "tokenizer_config.json"):
        model = folder / f"model-{name}"
        model.mkdir()
        make(model / name)
        yield f"chat {name}", ["chat", model]
        yield f"merge {name}", ["merge", model, folder / "merged"]


def main(folder: Path, kind: str) -> None:
    """Run all of them, and say before each what it is and after it how it ended."""
    (folder / "with-key").mkdir()
    for name, words in cases(folder, KINDS[kind]):
        print(name, end=": ", flush=True)
        print(exit_code(partial(cli, [str(one) for one in words], standalone_mode=False)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
