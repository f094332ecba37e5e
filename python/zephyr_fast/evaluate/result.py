"""One result: the figures of one model by one judge, as a JSON file that can be compared.

A figure without a value has holes: questions whose score is missing. `holes` counts them by
reason. Results of different judges, prompts or questions measure different things, and
`differences` names such fields.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError, StorageError
from zephyr_fast.dataset.folder import Folder
from zephyr_fast.evaluate.rows import read_json
from zephyr_fast.printed import brief, shown

SCHEMA = 1

OVERALL = "overall"
"""Name of the figure that sums a result up."""

BENCHMARKS = ("mt-bench", "alpaca-eval", "leaderboard")

_HIGHEST = {"score": 10.0, "percent": 100.0}
"""Units, with the highest value of a figure."""

_UNLIMITED = "fastchat"
"""Rules that read ratings of any size."""

_BYTES_MAX = 4 << 20
_FIGURES_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a result.

    Args:
        value: the mean, in the result's unit; None if holes forbid one
        n: scores behind the value
        holes: scores that are missing
        low, high: 95 % interval; None if unknown
        stderr: standard error of the mean; None if unknown
    """

    value: float | None
    n: int
    holes: int = 0
    low: float | None = None
    high: float | None = None
    stderr: float | None = None


def counted_holes(number: int) -> str:
    """Return a number of holes in words.

    >>> counted_holes(1), counted_holes(20)
    ('1 hole', '20 holes')
    """
    return f"{number:,} hole{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one model on one benchmark.

    Args:
        benchmark: `mt-bench`, `alpaca-eval` or `leaderboard`
        model: the evaluated model
        judge: the judge's model as it was requested; empty for benchmarks without a judge
        judge_versions: models that the judge's replies named
        judge_fingerprints: system fingerprints that the judge's replies had
        prompts: SHA-256 of the judge's prompts; empty without a judge
        questions: SHA-256 of questions and reference answers
        rules: how scores were read and computed, such as `strict` or `fastchat`
        created: UTC date and time at which the evaluation began
        unit: `score` (1 to 10) or `percent`
        n: number of scores
        holes: number of missing scores by reason
        figures: figures by name; `overall` is first
        notes: sentences that a reader of the figures needs
    """

    benchmark: str
    model: str
    judge: str
    judge_versions: tuple[str, ...]
    judge_fingerprints: tuple[str, ...]
    prompts: str
    questions: str
    rules: str
    created: str
    unit: str
    n: int
    holes: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def chunks(self) -> list[bytes]:
        """Return the content of the result's file."""
        text = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1, ensure_ascii=False)
        return [text.encode(), b"\n"]

    def write(self, path: Path) -> None:
        """Write the result. Raises StorageError."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with Folder.open(path.parent) as folder:
                folder.write(path.name, self.chunks())
        except OSError as error:
            raise StorageError(f"cannot write `{shown(path)}`: {error.strerror}") from error


_COMPARED = ("judge", "judge_versions", "prompts", "questions", "rules", "unit")


def differences(results: Sequence[Result]) -> list[str]:
    """Name the fields that must be equal in results of one benchmark and are not, each with two
    values. Results of different benchmarks are not compared with each other.
    """
    found: dict[str, str] = {}
    first: dict[str, Result] = {}
    for one in results:
        other = first.setdefault(one.benchmark, one)
        for name in _COMPARED:
            ours, theirs = getattr(other, name), getattr(one, name)
            if ours != theirs:
                words = f"{one.benchmark} `{name}`: {brief(ours)} and {brief(theirs)}"
                found.setdefault(f"{one.benchmark} {name}", words)
    return list(found.values())


def read_result(path: Path) -> Result:
    """Read and check a result. Raises InputError, which names the file and the field."""
    given = read_json(path, _BYTES_MAX)
    where = f"`{shown(path)}`"
    if not isinstance(given, dict) or given.get("schema") != SCHEMA:
        raise InputError(f"{where} is not a result of `zephyr-fast evaluate` (schema {SCHEMA})")
    try:
        return _result(given)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where} is not a valid result: {shown(error, 300)}") from None


def _result(given: Mapping[str, Any]) -> Result:
    names = [one.name for one in fields(Result)]
    if missing := [name for name in names if name not in given]:
        raise ValueError(f"no `{missing[0]}`")
    figures = _mapping(given, "figures")
    if given["benchmark"] not in BENCHMARKS or given["unit"] not in _HIGHEST:
        what = f"{brief(given['benchmark'])} in the unit {brief(given['unit'])}"
        raise ValueError(f"the benchmark {what} is unknown")
    highest = 1e300 if given["rules"] == _UNLIMITED else _HIGHEST[given["unit"]]
    if len(figures) > _FIGURES_MAX:
        raise ValueError(f"more than {_FIGURES_MAX:,} figures")
    return Result(
        benchmark=_text(given, "benchmark"),
        model=_text(given, "model"),
        judge=_text(given, "judge"),
        judge_versions=_texts(given, "judge_versions"),
        judge_fingerprints=_texts(given, "judge_fingerprints"),
        prompts=_text(given, "prompts"),
        questions=_text(given, "questions"),
        rules=_text(given, "rules"),
        created=_text(given, "created"),
        unit=_text(given, "unit"),
        n=_count(given["n"], "n"),
        holes={name: _count(n, "holes") for name, n in _mapping(given, "holes").items()},
        figures={name: _figure(name, one, highest) for name, one in figures.items()},
        notes=_texts(given, "notes"),
    )


def _text(given: Mapping[str, Any], name: str) -> str:
    if not isinstance(given[name], str):
        raise ValueError(f"`{name}` is {brief(given[name])}")
    return str(given[name])


def _texts(given: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = given[name]
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise ValueError(f"`{name}` is {brief(values)}")
    return tuple(values)


def _mapping(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    if not isinstance(given[name], dict):
        raise ValueError(f"`{name}` is {brief(given[name])}")
    return dict(given[name])


def _count(value: object, name: str) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"`{name}` is {brief(value)}")
    return value


def _figure(name: str, given: object, highest: float) -> Figure:
    if not isinstance(given, dict) or given.keys() != {one.name for one in fields(Figure)}:
        raise ValueError(f"figure `{shown(name)}` is {brief(given)}")
    numbers = {key: given[key] for key in ("value", "low", "high", "stderr")}
    for key, value in numbers.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and (not number or not math.isfinite(value)):
            raise ValueError(f"`{key}` of figure `{shown(name)}` is {brief(value)}")
        if value is not None and not 0 <= value <= highest:
            raise ValueError(
                f"`{key}` of figure `{shown(name)}` is {value:g}, not 0 to {highest:g}"
            )
    if given["value"] is not None and given["n"] == 0:
        raise ValueError(f"figure `{shown(name)}` has a value from no scores")
    if (given["low"] is None) != (given["high"] is None):
        raise ValueError(f"figure `{shown(name)}` has half an interval")
    if given["low"] is not None and given["low"] > given["high"]:
        raise ValueError(f"figure `{shown(name)}` has an interval that ends before it begins")
    return Figure(n=_count(given["n"], "n"), holes=_count(given["holes"], "holes"), **numbers)
