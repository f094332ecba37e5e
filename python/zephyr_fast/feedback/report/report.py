"""Puts the report together, and writes it as lines for a terminal."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zephyr_fast.collection.directory import Directory
from zephyr_fast.feedback.report import agreement, biases, ranking
from zephyr_fast.feedback.report.agreement import Agreement, LeftOut
from zephyr_fast.feedback.report.biases import Family, Length, Position, Swap
from zephyr_fast.feedback.report.estimates import Estimate
from zephyr_fast.feedback.report.ranking import Strength
from zephyr_fast.feedback.report.verdicts import Verdicts, read
from zephyr_fast.printed import shown


@dataclass(frozen=True, slots=True)
class Judge:
    """Everything about one judge. What could not be measured is None."""

    name: str
    verdicts: int
    not_available: int
    faults: Mapping[str, int]
    length: Length
    position: Position | None
    swap: Swap | None
    family: Family | None


@dataclass(frozen=True, slots=True)
class Report:
    """Biases and agreement of the judges, and the ranking of the models."""

    prompts: int
    completions: int
    method: str
    flaws: Mapping[str, int]
    judges: tuple[Judge, ...]
    agreement: Agreement | None
    left_out: tuple[LeftOut, ...]
    ranking: tuple[Strength, ...]


def report(folder: Path) -> Report:
    """Return the report on a directory of `feedback collect`.

    Raises:
        InputError: The directory has no rows yet, or is not one of `feedback collect`.
        IntegrityError: A file in it is damaged.
    """
    directory = Directory(folder)
    return of(read(directory.read(), directory.settings()))


def of(verdicts: Verdicts) -> Report:
    """Return the report on verdicts."""
    return Report(
        verdicts.prompts,
        len(verdicts.prompt),
        verdicts.method,
        verdicts.flaws,
        tuple(_judge(verdicts, number) for number in range(len(verdicts.judges))),
        agreement.agreement(verdicts),
        agreement.left_out(verdicts),
        ranking.ranking(verdicts),
    )


def _judge(verdicts: Verdicts, number: int) -> Judge:
    name = verdicts.judges[number]
    counts = verdicts.counts[name]
    return Judge(
        name,
        counts.numbers,
        counts.not_available,
        dict(sorted(counts.faults.items())),
        biases.length(verdicts, number),
        biases.position(verdicts, name),
        biases.swap(verdicts, name),
        biases.family(verdicts, number),
    )


Section = tuple[str, list[tuple[str, str]]]


def sections(found: Report) -> Iterator[Section]:
    """Yield titles with lines of (label, value), for the terminal and for the page."""
    yield (
        "rows",
        [
            ("prompts", f"{found.prompts:,}"),
            ("answers", f"{found.completions:,}"),
            ("verdicts read from", "log-probs" if found.method == "expected" else "text"),
            *((name.replace("_", " "), f"{count:,}") for name, count in found.flaws.items()),
        ],
    )
    for judge in found.judges:
        yield f"judge {shown(judge.name)}", _of_judge(judge, found.method)
    if found.agreement is not None:
        yield "agreement", _of_agreement(found.agreement, found.left_out)
    yield (
        "models, by Bradley-Terry strength",
        [
            (
                shown(one.model),
                f"{one.strength:+.3f}{_ends(one.low, one.high, '+.3f')} from {one.comparisons:,} "
                "comparisons",
            )
            for one in found.ranking
        ]
        or [("", "no comparisons")],
    )


def _of_judge(judge: Judge, method: str) -> list[tuple[str, str]]:
    failed = sum(judge.faults.values())
    reasons = ", ".join(f"{shown(reason)}: {count:,}" for reason, count in judge.faults.items())
    lines = [
        ("verdicts", f"{judge.verdicts:,} numbers, {judge.not_available:,} N/A"),
        ("failures", f"{failed:,}{f' ({reasons})' if reasons else ''}"),
        ("ties", percent(judge.length.ties)),
        ("longer answer wins", percent(judge.length.longer_wins, neutral=0.5)),
        ("points per log length", number(judge.length.slope, neutral=0)),
    ]
    if judge.position is not None:
        test = judge.position.test
        listed = ", ".join(f"{one.value:+.3f}" for one in judge.position.deviations)
        lines.append(("rating by position", f"{listed} (χ² {test.chi2:.1f}, p {test.p:.2g})"))
    else:
        why = "answers are judged one by one" if method == "expected" else "too few lists"
        lines.append(("rating by position", f"not measured: {why}"))
    if judge.swap is not None:
        lines.append(("flips in reversed order", percent(judge.swap.flips)))
        lines.append(("first answer wins flips", percent(judge.swap.first_wins, neutral=0.5)))
    else:
        lines.append(("flips in reversed order", "not measured: requires --swap"))
    if judge.family is not None:
        lines.append(("points for its own family", number(judge.family.own)))
        beyond = number(judge.family.beyond_others, neutral=0)
        lines.append(("… beyond other judges", beyond))
    else:
        lines.append(("points for its own family", "not measured: no model of its `family`"))
    return lines


def _of_agreement(found: Agreement, left_out: tuple[LeftOut, ...]) -> list[tuple[str, str]]:
    value = "not measured"
    if found.alpha is not None:
        value = f"{found.alpha:.3f}{_ends(found.alpha_low, found.alpha_high, '.3f')}"
    lines = [(f"Krippendorff's α ({found.metric})", value)]
    for pair in found.pairs:
        kappa = "" if pair.kappa is None else f"κ {pair.kappa:.3f}, "
        winner = f"{kappa}same best answer {percent(pair.same_winner)}"
        lines.append((f"{shown(pair.first)} and {shown(pair.second)}", winner))
    for one in left_out:
        lines.append((f"best answer changes without {shown(one.judge)}", percent(one.changed)))
    return lines


def percent(found: Estimate | None, neutral: float | None = None) -> str:
    """Write a share with its interval."""
    if found is None:
        return "not measured"
    low, high = max(found.low, 0.0), min(found.high, 1.0)
    text = f"{found.value:.1%} [{low:.1%}, {high:.1%}] of {found.n:,}"
    return text + _verdict(found, neutral)


def number(found: Estimate | None, neutral: float | None = None) -> str:
    """Write a number with its interval."""
    if found is None:
        return "not measured"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]{_verdict(found, neutral)}"


def _ends(low: float | None, high: float | None, form: str) -> str:
    if low is None or high is None:
        return " (no interval: too few prompts, or too alike)"
    return f" [{low:{form}}, {high:{form}}]"


def _verdict(found: Estimate, neutral: float | None) -> str:
    if neutral is None or found.low <= neutral <= found.high:
        return ""
    return f", {'above' if found.value > neutral else 'below'} {neutral:g}"
