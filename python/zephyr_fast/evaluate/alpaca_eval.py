"""AlpacaEval: a judge prefers the model's output or a baseline's, for each instruction.

Outputs and annotations have the published JSON format. The order in which the judge sees the two
outputs depends on the seed and the instruction alone.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.collection.directory import Directory, described
from zephyr_fast.collection.prompt_file import PromptFile, load
from zephyr_fast.collection.run import Asking
from zephyr_fast.endpoint.call import Call, Message
from zephyr_fast.endpoint.endpoints import Endpoint, Endpoints
from zephyr_fast.endpoint.forecast import Forecast, forecast
from zephyr_fast.endpoint.plans import Plan
from zephyr_fast.evaluate.asking import (
    Answerer,
    Reply,
    asked,
    began,
    file_name,
    one_call,
    versions,
)
from zephyr_fast.evaluate.prompts import BUNDLED, digest_of
from zephyr_fast.evaluate.result import OVERALL, Figure, Result
from zephyr_fast.evaluate.rows import digest, read_rows, text_field
from zephyr_fast.evaluate.win_rate import discrete, games, win_rate
from zephyr_fast.judge.scale import Fault, Unread
from zephyr_fast.judge.verdict import lettered
from zephyr_fast.printed import brief, shown

BENCHMARK = "alpaca-eval"
SET_SIZE = 805

ANSWER_TOKENS_MAX = 2_048
_LETTER_TOKENS_MAX = 1_024
_TOP_LOGPROBS = 5
_FIELDS = ("instruction", "output_a", "output_b")

PROMPTS = {
    "letter": BUNDLED / "alpaca-eval-letter.txt",
    "weighted": BUNDLED / "alpaca-eval-weighted.txt",
}
"""The bundled judge prompt for each way to read a preference."""


@dataclass(frozen=True, slots=True)
class Row:
    """An instruction with an output. `hole` is why the output is missing."""

    instruction: str
    dataset: str
    output: str = ""
    generator: str = ""
    hole: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """What to run.

    Args:
        rows: the evaluation set
        baseline: outputs to compare with, one for each row
        judges: endpoints that judge
        method: `letter` (a verdict with an explanation) or `weighted` (by log-probs)
        prompt: the judge prompt
        seed: decides which output the judge sees first
        system: system message for the evaluated model; None for no such message
        temperature: of the evaluated model
    """

    rows: Sequence[Row]
    baseline: Sequence[Row]
    endpoints: Endpoints
    judges: Sequence[Endpoint]
    method: str
    prompt: PromptFile
    seed: int = 1
    system: str | None = None
    temperature: float = 0.7


def read_set(path: Path, required: Sequence[str] = ("instruction",)) -> list[Row]:
    """Read instructions, with outputs if there are any. Raises InputError."""
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, given in enumerate(read_rows(path), start=1):
        where = f"`{shown(path)}`: row {number}"
        names = [name for name in Row.__slots__ if name in given or name in required]
        row = Row(**({"dataset": ""} | {name: text_field(where, given, name) for name in names}))
        if not row.instruction.strip():
            raise InputError(f"{where} has an empty `instruction`")
        if row.instruction in seen:
            first = seen[row.instruction]
            raise InputError(f"{where} repeats the instruction of row {first}")
        seen[row.instruction] = number
        rows.append(row)
    return rows


def read_outputs(path: Path, rows: Sequence[Row]) -> list[Row]:
    """Read the outputs of one model for these instructions, in their order. An output may be empty,
    as some of the published baseline are. Raises InputError.
    """
    given = read_set(path, ("instruction", "output", "generator"))
    where = f"`{shown(path)}`"
    if len(given) != len(rows):
        raise InputError(f"{where} has {len(given):,} outputs for {len(rows):,} instructions")
    for number, (one, row) in enumerate(zip(given, rows, strict=True), start=1):
        if one.instruction != row.instruction:
            raise InputError(f"{where}: row {number} has a different instruction than the set")
    names = {one.generator: number for number, one in reversed([*enumerate(given, start=1)])}
    if "" in names:
        raise InputError(f"{where}: row {names['']} has no `generator`")
    if len(names) != 1:
        listed = ", ".join(map(brief, sorted(names)[:4]))
        raise InputError(f"{where} needs one `generator` in all rows, not {len(names)}: {listed}")
    return given


def settings_of(job: Job, model: str, answers: object) -> dict[str, Any]:
    """Return what the files of a run depend on. `answers` describes where outputs come from."""
    return {
        "benchmark": BENCHMARK,
        "model": model,
        "answers": answers,
        "judges": {one.name: described(one) for one in job.judges},
        "method": job.method,
        "prompt": digest_of({"prompt": job.prompt}),
        "instructions": digest([row.instruction for row in job.rows]),
        "baseline": digest([row.output for row in job.baseline]),
        "seed": job.seed,
        "system": job.system,
        "temperature": job.temperature,
    }


def described_outputs(outputs: Sequence[Row]) -> str:
    """Return the digest of existing outputs, for the settings of a run."""
    return digest([[row.output, row.hole] for row in outputs])


def forecasts(job: Job, model: str | None, outputs: Sequence[Row] | None) -> list[Forecast]:
    """Return what a run will send. A local model sends nothing; `outputs` None: not known yet."""
    stand_in = [replace(row, output="word " * 200) for row in job.rows]
    answers = [one_call(_answer_call(job, model, row)) for row in job.rows] if model else []
    pairs = list(zip(job.baseline, outputs or stand_in, strict=True))
    judging = [
        one_call(_question(job, judge, base, own)) for judge in job.judges for base, own in pairs
    ]
    return forecast([*answers, *judging], job.endpoints)


def outputs_of(job: Job, answerer: Answerer, out: Directory, how: Asking) -> list[Row]:
    """Ask the model for its outputs and write `outputs.json`."""

    def calls() -> list[Plan[Reply]]:
        return [one_call(_answer_call(job, answerer.endpoint.name, row)) for row in job.rows]

    replies = asked(calls, job.endpoints, out, how, answerer)
    found = [
        replace(row, output=reply.text, generator=answerer.model, hole=reply.problem)
        for row, reply in zip(job.rows, replies, strict=True)
    ]
    rows = [
        {name: getattr(one, name) for name in Row.__slots__ if name != "hole" or one.hole}
        for one in found
    ]
    out.write_file("outputs.json", [json.dumps(rows, indent=1, ensure_ascii=False).encode(), b"\n"])
    return found


def _answer_call(job: Job, endpoint: str, row: Row) -> Call:
    messages = prompted(job.system, row.instruction)
    return Call(endpoint, messages, ANSWER_TOKENS_MAX, temperature=job.temperature)


def prompted(system: str | None, text: str) -> tuple[Message, ...]:
    """Return a question with its system message; None is no system message."""
    user = Message("user", text)
    return (user,) if system is None else (Message("system", system), user)


def judged(
    job: Job, judge: Endpoint, outputs: Sequence[Row], out: Directory, how: Asking
) -> tuple[Result, list[dict[str, Any]]]:
    """Ask one judge about all outputs, write its annotations and its result."""
    pairs = [
        (base, own)
        for base, own in zip(job.baseline, outputs, strict=True)
        if not own.hole and not base.hole
    ]

    def calls() -> list[Plan[Reply]]:
        return [one_call(_question(job, judge, base, own)) for base, own in pairs]

    replies = iter(asked(calls, job.endpoints, out, how))
    rows, said = [], []
    for base, own in zip(job.baseline, outputs, strict=True):
        hole = base.hole or own.hole
        reply = Reply(None, f"answer_{hole}") if hole else next(replies)
        said.append(reply)
        rows.append(_annotation(job, judge, base, own, reply))
    name = file_name(judge.name)
    text = json.dumps(rows, indent=1, ensure_ascii=False)
    out.write_file(f"annotations/{name}.json", [text.encode(), b"\n"])
    models, fingerprints = versions(said)
    result = Result(
        BENCHMARK,
        outputs[0].generator,
        judge.model,
        models,
        fingerprints,
        digest_of({job.method: job.prompt}),
        questions_of(rows),
        job.method,
        began(out).isoformat(),
        "percent",
        *figures_of([row["preference"] for row in rows], [row.get("hole", "") for row in rows]),
        _notes(job, outputs),
    )
    return result, rows


def _notes(job: Job, outputs: Sequence[Row]) -> tuple[str, ...]:
    empty = [
        sum(not row.output and not row.hole for row in rows) for rows in (job.baseline, outputs)
    ]
    return (f"{empty[0]:,} outputs of the baseline and {empty[1]:,} of the model are empty",) * any(
        empty
    )


def result_file(judge: str) -> str:
    """Return the name of the file of a judge's result, within the output directory."""
    return f"results/{file_name(judge)}.json"


def is_model_first(seed: int, instruction: str) -> bool:
    """Whether the judge sees the evaluated model's output first."""
    return hashlib.sha256(f"{seed}\n{instruction}".encode(errors="replace")).digest()[0] % 2 == 1


def _question(job: Job, judge: Endpoint, base: Row, own: Row) -> Call:
    first, second = base.output, own.output
    if is_model_first(job.seed, own.instruction):
        first, second = second, first
    values = dict(zip(_FIELDS, (own.instruction, first, second), strict=True))
    messages = job.prompt.filled(values)
    if job.method == "weighted":
        return Call(judge.name, messages, 1, temperature=1.0, top_logprobs=_TOP_LOGPROBS)
    return Call(judge.name, messages, _LETTER_TOKENS_MAX, temperature=0.0)


def _annotation(job: Job, judge: Endpoint, base: Row, own: Row, reply: Reply) -> dict[str, Any]:
    is_first = is_model_first(job.seed, own.instruction)
    preference, hole = None, reply.problem
    if reply.choice is not None:
        read = weight(reply) if job.method == "weighted" else _plain(reply)
        if isinstance(read, Unread):
            hole = read.fault.value
        else:  # how much the judge prefers B
            preference = 2 - read if is_first else 1 + read
    row: dict[str, Any] = {
        "instruction": own.instruction,
        "output_1": base.output,
        "generator_1": base.generator,
        "dataset": own.dataset,
        "output_2": own.output,
        "generator_2": own.generator,
        "annotator": judge.name,
        "preference": preference,
        "raw_completion": reply.text if reply.choice else None,
        "order": [2, 1] if is_first else [1, 2],
    }
    return row | ({"hole": hole} if hole else {})


def _plain(reply: Reply) -> float | Unread:
    assert reply.choice is not None
    found = lettered(reply.text, "ABC", is_cut=reply.choice.is_cut)
    return found if isinstance(found, Unread) else {"A": 0.0, "B": 1.0, "C": 0.5}[found]


def weight(reply: Reply) -> float | Unread:
    """Return the probability of `B` against `A` in the first token of a reply."""
    assert reply.choice is not None
    tokens = reply.choice.logprobs or ()
    found: dict[str, float] = {}
    for token, logprob in tokens[0].top if tokens else ():
        name = token.strip()
        if name in ("A", "B"):
            found[name] = found.get(name, 0.0) + math.exp(min(logprob, 0.0))
    total = sum(found.values())
    return found.get("B", 0.0) / total if total > 0 else Unread(Fault.LOW_MASS)


def figures_of(
    preferences: Sequence[float | None], holes: Sequence[str]
) -> tuple[int, dict[str, int], dict[str, Figure]]:
    """Return the number of preferences, holes by reason, and the figures."""
    found = Counter(hole for hole in holes if hole)
    won = games(preferences)
    n = len(preferences) - found.total()
    counts = {"wins": won.wins, "losses": won.losses, "draws": won.draws}
    figures = {
        OVERALL: win_rate(preferences),
        "discrete": win_rate(discrete(preferences)),
        **{name: Figure(100 * count / n if n else None, n) for name, count in counts.items()},
    }
    return n, dict(sorted(found.items())), figures


def questions_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the digest of instructions and baseline outputs."""
    return digest([[row["instruction"], row.get("output_1")] for row in rows])


def prompt_of(method: str, path: Path | None) -> PromptFile:
    """Read the judge prompt: a given file, or the bundled one. Raises InputError, ConfigError."""
    return load(path or PROMPTS[method], _FIELDS)
