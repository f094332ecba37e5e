"""`evaluate leaderboard` and `evaluate score`, which ask no judge."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zephyr_fast._core import InputError
from zephyr_fast.cli import asking
from zephyr_fast.cli.options import path_option
from zephyr_fast.cli.results import ALLOW_HOLES, print_results, with_figure
from zephyr_fast.printed import shown

if TYPE_CHECKING:
    from zephyr_fast.evaluate.result import Result


_TASK = re.compile(r"\w[\w.+-]*", re.ASCII)


@click.command(short_help="Run Open LLM Leaderboard tasks with lm-eval.")
@path_option(
    "--model",
    "model_dir",
    required=True,
    metavar="DIR",
    help="Local directory of the evaluated model.",
)
@asking.OUT
@click.option(
    "--tasks",
    default="arc_challenge,hellaswag,mmlu,truthfulqa_mc2",
    metavar="NAME,…",
    help="Tasks of lm-eval. These four get the shots of the leaderboard: 25, 10, 5 and 0.",
)
@path_option(
    "--include",
    metavar="DIR",
    help="Directory with more task files, e.g. of tasks on local data.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Use only N examples per task.")
@click.option("--python", metavar="PYTHON", help="Python that has lm-eval (default: this one).")
@asking.AS_JSON
def leaderboard(
    model_dir: Path,
    out: Path,
    tasks: str,
    include: Path | None,
    limit: int | None,
    python: str | None,
    as_json: bool,
) -> None:
    """Run tasks of the Open LLM Leaderboard with lm-eval, in a child process.

    Writes DIR/results/leaderboard.json. Tasks that have finished are not run again.
    """
    import sys

    from zephyr_fast.collection.directory import Directory
    from zephyr_fast.evaluate.leaderboard import Job, run
    from zephyr_fast.train.ref_logprobs.weights import weights_digest

    names = asking.names("--tasks", tasks)
    if not all(map(_TASK.fullmatch, names)):
        raise click.UsageError("--tasks takes names of lm-eval, which have no spaces or slashes")
    if not model_dir.is_dir():
        raise InputError(f"`{shown(model_dir)}` is not a directory")
    weights = "".join(weights_digest(str(model_dir)))
    job = Job(model_dir, weights, names, python or sys.executable, include, limit)
    print_results([run(job, Directory(out))], False, as_json)


@click.command(short_help="Score existing annotations or judgments.")
@click.argument("file", type=click.Path(path_type=Path))
@path_option(
    "--out",
    required=True,
    help="Result to write, e.g. result.json.",
)
@path_option(
    "--questions",
    "questions_file",
    help="MT-Bench's question.jsonl, which judgements require.",
)
@click.option("--model-name", metavar="TEXT", help="The model, if FILE has judgements of several.")
@path_option(
    "--set",
    "set_file",
    help="AlpacaEval's instructions, which --length-controlled requires.",
)
@click.option(
    "--length-controlled",
    "python",
    metavar="PYTHON",
    help="Also compute AlpacaEval's length-controlled rate, with this Python that has it.",
)
@ALLOW_HOLES
@asking.AS_JSON
def score(
    file: Path,
    out: Path,
    questions_file: Path | None,
    model_name: str | None,
    set_file: Path | None,
    python: str | None,
    allow_holes: bool,
    as_json: bool,
) -> None:
    """Compute the figures of existing AlpacaEval annotations or MT-Bench judgements.

    FILE is JSON or JSONL, possibly compressed with gzip. Nothing is sent.
    """
    from zephyr_fast.evaluate import scored
    from zephyr_fast.evaluate.alpaca_eval import read_set
    from zephyr_fast.evaluate.length_controlled import length_controlled
    from zephyr_fast.evaluate.mt_bench import read_questions
    from zephyr_fast.evaluate.rows import read_rows

    if (set_file is None) != (python is None):
        raise click.UsageError("--set and --length-controlled need each other")
    rows = read_rows(file)
    if "question_id" not in rows[0]:
        if questions_file is not None or model_name is not None:
            raise click.UsageError("--questions and --model-name are for judgements of MT-Bench")
        result = scored.annotations_result(file, rows)
    elif questions_file is None or python is not None:
        raise click.UsageError("judgements of MT-Bench require --questions, and no --set")
    else:
        results = scored.judgments_results(file, rows, read_questions(questions_file, None))
        result = _of_model(results, model_name)
    if python is not None and set_file is not None:
        rate = length_controlled(rows, read_set(set_file), python)
        result = with_figure(result, "length-controlled", rate)
    result.write(out)
    print_results([result], allow_holes, as_json)


def _of_model(results: "Sequence[Result]", name: str | None) -> "Result":
    found = [one for one in results if name in (None, one.model)]
    if len(found) != 1:
        known = ", ".join(shown(one.model) for one in results)
        raise InputError(f"choose one model with --model-name: {known}")
    return found[0]
