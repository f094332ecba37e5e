"""`zephyr-fast evaluate`: measures a model with judges, or computes figures of existing files."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zephyr_fast.cli import asking
from zephyr_fast.cli.options import Real, path_option
from zephyr_fast.cli.results import ALLOW_HOLES, print_results, with_figure
from zephyr_fast.cli.scores import leaderboard, score

if TYPE_CHECKING:
    from zephyr_fast.evaluate.asking import Answerer

Command = TypeVar("Command", bound=Callable[..., Any])

_MODEL = [
    click.option("--answers-from", metavar="NAME", help="Endpoint of the evaluated model."),
    path_option(
        "--model",
        "model_dir",
        metavar="DIR",
        help="Local directory of the evaluated model. Requires the `train` extra.",
    ),
    click.option("--name", metavar="TEXT", help="Name of the evaluated model in results."),
    asking.JUDGES,
    click.option(
        "--system",
        metavar="TEXT",
        help='System message for the evaluated model (default: none; "" sends an empty one).',
    ),
    ALLOW_HOLES,
]


def _model_options(command: Command) -> Command:
    for option in reversed(_MODEL):
        command = option(command)
    return command


@click.group(short_help="Measure a model: MT-Bench, AlpacaEval, leaderboard.")
def evaluate() -> None:
    """Measure a model, or compute the figures of existing judgements."""


evaluate.add_command(leaderboard)
evaluate.add_command(score)


@evaluate.command("mt-bench", short_help="Answer MT-Bench and rate the answers.")
@path_option(
    "--questions",
    "questions_file",
    required=True,
    help="FastChat's question.jsonl.",
)
@path_option(
    "--references",
    "references_file",
    help="FastChat's reference answers. Questions that have one are judged with it.",
)
@click.option(
    "--no-references",
    is_flag=True,
    help="Judge without reference answers, instead of --references.",
)
@path_option(
    "--judge-prompts",
    metavar="PATH",
    help="Directory of judge prompts, or FastChat's judge_prompts.jsonl (default: bundled).",
)
@click.option(
    "--compat",
    type=click.Choice(["fastchat"]),
    help="Read verdicts as FastChat does: the first number in brackets, of any size.",
)
@click.option(
    "--first-of-category",
    "first",
    type=click.IntRange(1),
    metavar="N",
    help="Use only the first N questions of each category.",
)
@_model_options
@asking.shared
def mt_bench(
    questions_file: Path,
    references_file: Path | None,
    no_references: bool,
    judge_prompts: Path | None,
    compat: str | None,
    first: int | None,
    answers_from: str | None,
    model_dir: Path | None,
    name: str | None,
    judges: str,
    system: str | None,
    allow_holes: bool,
    shared: asking.Shared,
) -> None:
    """Let a model answer MT-Bench and judges rate its answers.

    Writes DIR/model_answer/MODEL.jsonl and DIR/model_judgment/JUDGE_single.jsonl in FastChat's
    format, and DIR/results/JUDGE.json. Exit code 3 if a score is missing.
    """
    source = click.get_current_context().get_parameter_source("seed")
    if source is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--seed has no effect: MT-Bench makes no random choice")
    how = asking.asking(shared)
    from zephyr_fast.collection.directory import Directory
    from zephyr_fast.evaluate import mt_bench as bench

    _check_one_source(answers_from, model_dir)
    if no_references == (references_file is not None):
        raise click.UsageError("pass --references FILE or --no-references")
    names = asking.names("--judge", judges)
    known = shared.endpoints([*names, *([answers_from] if answers_from else [])])
    job = bench.Job(
        bench.read_questions(questions_file, references_file, first),
        known,
        [known[one] for one in names],
        bench.prompts_of(judge_prompts),
        compat or "strict",
        system,
    )
    if shared.dry_run:
        asking.print_forecasts(bench.forecasts(job, answers_from), shared.as_json)
        return
    answerer = _answerer(known, answers_from, model_dir, name)
    directory = Directory(shared.out)
    directory.claim(bench.settings_of(job, answerer), replays=how.replays)
    answers = bench.answers_of(job, answerer, directory, how)
    found = [bench.judged(job, judge, answerer, answers, directory, how) for judge in job.judges]
    print_results(found, allow_holes, shared.as_json)


@evaluate.command("alpaca-eval", short_help="Compare outputs with a baseline's: win rate.")
@path_option(
    "--set",
    "set_file",
    required=True,
    help="JSON or JSONL file with `instruction` and `dataset`.",
)
@path_option(
    "--baseline",
    "baseline_file",
    required=True,
    help="Outputs to compare with, for the same instructions in the same order.",
)
@path_option(
    "--outputs",
    "outputs_file",
    help="Existing outputs of the evaluated model, instead of --answers-from or --model.",
)
@click.option(
    "--verdict",
    "method",
    type=click.Choice(["letter", "weighted"]),
    default="letter",
    help="How preferences are read: a letter after an explanation, or weighted by log-probs.",
)
@path_option(
    "--judge-prompt",
    help="Prompt for the judge (default: bundled).",
)
@click.option("--temperature", type=Real(0, 2), default=0.7, help="Of the evaluated model.")
@click.option(
    "--length-controlled",
    "python",
    metavar="PYTHON",
    help="Also compute the length-controlled rate, with this Python that has `alpaca_eval`.",
)
@_model_options
@asking.shared
def alpaca_eval(
    set_file: Path,
    baseline_file: Path,
    outputs_file: Path | None,
    method: str,
    judge_prompt: Path | None,
    temperature: float,
    python: str | None,
    answers_from: str | None,
    model_dir: Path | None,
    name: str | None,
    judges: str,
    system: str | None,
    allow_holes: bool,
    shared: asking.Shared,
) -> None:
    """Let judges compare a model's outputs with those of a baseline.

    Writes DIR/outputs.json, DIR/annotations/JUDGE.json and DIR/results/JUDGE.json. Exit code 3 if
    a comparison has no preference.
    """
    how = asking.asking(shared)
    from zephyr_fast.collection.directory import Directory, described
    from zephyr_fast.evaluate import alpaca_eval as alpaca
    from zephyr_fast.evaluate.length_controlled import length_controlled

    _check_one_source(answers_from, model_dir, outputs_file)
    if outputs_file and (name is not None or system is not None):
        raise click.UsageError("--name and --system have no effect with --outputs")
    rows = alpaca.read_set(set_file)
    names = asking.names("--judge", judges)
    known = shared.endpoints([*names, *([answers_from] if answers_from else [])])
    job = alpaca.Job(
        rows,
        alpaca.read_outputs(baseline_file, rows),
        known,
        [known[one] for one in names],
        method,
        alpaca.prompt_of(method, judge_prompt),
        shared.seed,
        system,
        temperature,
    )
    if shared.dry_run:
        outputs = alpaca.read_outputs(outputs_file, rows) if outputs_file else None
        asking.print_forecasts(alpaca.forecasts(job, answers_from, outputs), shared.as_json)
        return
    directory = Directory(shared.out)
    if outputs_file:
        outputs = alpaca.read_outputs(outputs_file, rows)
        source = alpaca.described_outputs(outputs)
        settings = alpaca.settings_of(job, outputs[0].generator, source)
        directory.claim(settings, replays=how.replays)
    else:
        answerer = _answerer(known, answers_from, model_dir, name)
        settings = alpaca.settings_of(job, answerer.model, described(answerer.endpoint))
        directory.claim(settings, replays=how.replays)
        outputs = alpaca.outputs_of(job, answerer, directory, how)
    found = []
    for judge in job.judges:
        result, annotations = alpaca.judged(job, judge, outputs, directory, how)
        if python:
            rate = length_controlled(annotations, rows, python)
            result = with_figure(result, "length-controlled", rate)
        directory.write_file(alpaca.result_file(judge.name), result.chunks())
        found.append(result)
    print_results(found, allow_holes, shared.as_json)


def _check_one_source(*given: object) -> None:
    if sum(one is not None for one in given) != 1:
        raise click.UsageError(
            "name the evaluated model once, with "
            + ["--answers-from or --model", "--answers-from, --model or --outputs"][len(given) - 2]
        )


def _answerer(
    known: Any, answers_from: str | None, model_dir: Path | None, name: str | None
) -> "Answerer":
    from zephyr_fast.evaluate.asking import endpoint_answerer

    if answers_from is not None:
        return endpoint_answerer(known[answers_from], name)
    assert model_dir is not None
    try:
        from zephyr_fast.evaluate.local_model import local_answerer
    except ImportError as error:
        raise asking.missing_extra("train", error, "train,endpoints") from error
    return local_answerer(model_dir, name)
