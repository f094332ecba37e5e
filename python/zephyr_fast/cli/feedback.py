"""`zephyr-fast feedback`: models answer prompts, judges rate the answers, a report shows biases."""

from pathlib import Path
from typing import Any

import click

from zephyr_fast._core import StorageError
from zephyr_fast.cli import asking
from zephyr_fast.cli.options import Real, path_option
from zephyr_fast.printed import say, say_json, shown, warn


@click.group(short_help="Collect AI feedback and report judges' biases.")
def feedback() -> None:
    """Collect AI feedback on the answers of models, and report the biases of the judges."""


@feedback.command()
@path_option(
    "--prompts",
    "-i",
    "prompt_files",
    multiple=True,
    required=True,
    metavar="PATH",
    help="JSONL or Parquet file with `instruction` or `prompt`, or a directory of them, such as "
    "the `text/` of `prep`. Repeatable.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Use only the first N prompts.")
@click.option("--pool", default="", metavar="NAME,…", help="Endpoints that answer prompts.")
@click.option(
    "--k",
    "count",
    type=click.IntRange(0, 9),
    help="Answers per prompt from the pool (default: 4, or all of a smaller pool).",
)
@click.option("--student", metavar="NAME", help="Endpoint that answers each prompt on-policy.")
@click.option(
    "--samples",
    type=click.IntRange(1, 9),
    help="Answers per prompt from the student (default: 1).",
)
@asking.JUDGES
@click.option(
    "--verdict",
    "method",
    type=click.Choice(["text", "expected"]),
    default="text",
    help="How verdicts are read: strictly from the text (default), or as the expected digit over "
    "log-probs.",
)
@click.option("--swap", "swaps", is_flag=True, help="Also ask judges with each order reversed.")
@click.option(
    "--mass-min",
    type=Real(0, 1),
    help="With `--verdict expected`: minimum probability of digits of the scale (default: 0.5).",
)
@click.option(
    "--principles",
    "principles_dir",
    metavar="DIR",
    help="Directory of system prompts for the pool, or `none` (default: bundled).",
)
@path_option(
    "--judge-prompts",
    metavar="DIR",
    help="Directory of prompts for the judges (default: bundled).",
)
@click.option("--temperature", type=Real(0, 2), default=1.0, help="For answers.")
@click.option("--top-p", type=Real(0, 1), default=1.0, help="For answers.")
@asking.MAX_TOKENS
@click.option(
    "--judge-max-tokens",
    type=asking.TOKENS,
    help="Maximum tokens of a judge's answer (default: 1024).",
)
@asking.shared
def collect(
    prompt_files: tuple[Path, ...], limit: int | None, shared: asking.Shared, **options: Any
) -> None:
    """Let models answer prompts and judges rate the answers.

    Writes DIR/rows.jsonl, an input of `zephyr-fast binarize ultrafeedback`. If the run stops, the
    same command continues and sends only what has no answer yet.
    """
    how = asking.asking(shared)
    from zephyr_fast.collection import prompts
    from zephyr_fast.feedback.collect import collect as collect_feedback

    found = prompts.load(prompt_files, limit)
    if found.repeated:
        warn(f"{found.repeated:,} prompts occur a second time and are skipped")
    collected = asking.collected(collect_feedback, _job(found, shared, **options), shared, how)
    if collected and not shared.as_json:
        _print_counts(collected.summary)


def _job(
    found: Any,
    shared: asking.Shared,
    *,
    pool: str,
    count: int | None,
    student: str | None,
    samples: int | None,
    judges: str,
    method: str,
    swaps: bool,
    mass_min: float | None,
    principles_dir: str | None,
    judge_prompts: Path | None,
    temperature: float,
    top_p: float,
    max_tokens: int,
    judge_max_tokens: int | None,
) -> Any:
    from zephyr_fast.feedback import judging, principles
    from zephyr_fast.feedback.answers import Sampling
    from zephyr_fast.feedback.collect import Job, used

    if mass_min is not None and method == "text":
        raise click.UsageError("--mass-min has no effect with --verdict text")
    if judge_max_tokens is not None and method == "expected":
        raise click.UsageError("--judge-max-tokens has no effect with --verdict expected")
    if principles_dir is not None and not pool:
        raise click.UsageError("--principles has no effect without --pool")
    system = None
    if principles_dir != "none":
        system = principles.load(Path(principles_dir) if principles_dir else principles.BUNDLED)
    models = asking.names("--pool", pool) if pool else ()
    judging_models = asking.names("--judge", judges)
    sampling = Sampling(
        models,
        min(4, len(models)) if count is None else count,
        student,
        samples or int(student is not None),
        system if models else None,
        temperature,
        top_p,
        max_tokens,
    )
    settings: dict[str, Any] = {"mass_min": mass_min, "max_tokens": judge_max_tokens}
    given = {name: value for name, value in settings.items() if value is not None}
    how = judging.load(method, judging_models, judge_prompts, swaps=swaps, **given)
    endpoints = shared.endpoints(used(sampling, judging_models))
    return Job(found, endpoints, sampling, how, shared.seed)


def _print_counts(summary: dict[str, Any]) -> None:
    """Print what a user has to know about the rows: failures by reason, and rows without signal."""
    say(f"{summary['rows_with_two_scores']:,} rows have two or more scores")
    for kind, found in (("answers", summary["failed"]), ("verdicts", summary["faults"])):
        for name, reasons in found.items():
            listed = ", ".join(f"{reason}: {number:,}" for reason, number in reasons.items())
            if listed:
                say(f"{kind} of `{name}` that are missing: {listed}")
    if equal := summary["rows_with_equal_answers"]:
        warn(
            f"{equal:,} rows have only equal answers; if one server wrote them, it probably does "
            "not sample (see `zephyr-fast endpoints FILE --check`)"
        )


@feedback.command(short_help="Report failures and biases of the judges.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@path_option(
    "--html",
    "html_file",
    help="Also write the report as one HTML file with plots.",
)
def report(folder: Path, as_json: bool, html_file: Path | None) -> None:
    """Report how the judges of DIR fail, what they favor and how far they agree.

    Length, position, reversed orders and the judge's own family are measured, each with a 95 %
    interval that counts prompts as the independent units.
    """
    import json
    from dataclasses import asdict

    try:
        from zephyr_fast.feedback.report import page
        from zephyr_fast.feedback.report.report import report as report_on
        from zephyr_fast.feedback.report.report import sections
    except ImportError as error:
        raise asking.missing_extra("endpoints", error) from error
    found = report_on(folder)
    if html_file is not None:
        text = page.page(found, f"Feedback in {folder.name}")
        try:
            html_file.write_text(text, encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot write `{shown(html_file)}`: {error.strerror}") from error
    if as_json:
        say_json(json.dumps(asdict(found), indent=1, ensure_ascii=False))
        return
    for title, lines in sections(found):
        say(title)
        width = max(len(label) for label, _ in lines)
        for label, value in lines:
            say(f"  {label:<{width}}  {value}")
