"""MT-Bench: a model answers questions of two turns, and judges rate each turn from 1 to 10.

Answers and judgements are rows of FastChat's format, so its own tools read them. A score that is
missing is -1 there, with the reason in the field `hole`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
    reply_of,
    versions,
)
from zephyr_fast.evaluate.mt_bench_scores import BENCHMARK, HOLE, READERS, Questions, figures_of
from zephyr_fast.evaluate.prompts import BUNDLED, digest_of, fastchat_prompts
from zephyr_fast.evaluate.result import Result
from zephyr_fast.evaluate.rows import digest, jsonl, read_rows
from zephyr_fast.judge.scale import Unread
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import is_unicode

ANSWER_TOKENS_MAX = 1_024
JUDGE_TOKENS_MAX = 2_048
ERROR = "$ERROR$"
"""The text that FastChat has for an answer that failed."""

TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "reasoning": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "extraction": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
"""Temperature of answers in each category of MT-Bench."""

REFERENCED = ("reasoning", "math", "coding")
"""Categories whose questions are judged with a reference answer."""

_ONE = ("question", "answer")
_TWO = ("question_1", "answer_1", "question_2", "answer_2")
FIELDS: Mapping[str, Collection[str]] = {
    "single-v1": _ONE,
    "single-v1-multi-turn": _TWO,
    "single-math-v1": (*_ONE, "ref_answer_1"),
    "single-math-v1-multi-turn": (*_TWO, "ref_answer_1", "ref_answer_2"),
}
"""The four prompts by their names in FastChat's rows, with the fields that each fills in."""

_FILES = {
    "single-v1": "mt-bench-single.txt",
    "single-v1-multi-turn": "mt-bench-second-turn.txt",
    "single-math-v1": "mt-bench-single-reference.txt",
    "single-math-v1-multi-turn": "mt-bench-second-turn-reference.txt",
}


@dataclass(frozen=True, slots=True)
class Job:
    """What to run.

    Args:
        questions: the questions, with reference answers where there are any
        judges: endpoints that judge
        prompts: judge prompts by name
        rules: `strict` or `fastchat`: how verdicts are read
        system: system message for the evaluated model; None for no such message
    """

    questions: Questions
    endpoints: Endpoints
    judges: Sequence[Endpoint]
    prompts: Mapping[str, PromptFile]
    rules: str = "strict"
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Turns:
    """The replies of the evaluated model to the two turns of a question."""

    replies: tuple[Reply, Reply]


def prompts_of(path: Path | None) -> dict[str, PromptFile]:
    """Read the judge prompts: bundled, a directory with the same file names, or FastChat's file.

    Raises:
        ConfigError: a prompt lacks a field
        InputError: a file cannot be read
    """
    if path is not None and path.suffix == ".jsonl":
        return fastchat_prompts(path, FIELDS)
    return {name: load((path or BUNDLED) / file, FIELDS[name]) for name, file in _FILES.items()}


def settings_of(job: Job, answerer: Answerer) -> dict[str, Any]:
    """Return what the files of a run depend on."""
    return {
        "benchmark": BENCHMARK,
        "model": answerer.model,
        "answers": described(answerer.endpoint),
        "judges": {one.name: described(one) for one in job.judges},
        "prompts": digest_of(job.prompts),
        "questions": job.questions.digest,
        "rules": job.rules,
        "system": job.system,
    }


def answers_of(job: Job, answerer: Answerer, out: Directory, how: Asking) -> list[Turns]:
    """Ask the model all questions and write `model_answer/MODEL.jsonl`."""

    def plans() -> list[Plan[Turns]]:
        return [_answered(job, answerer.endpoint.name, one) for one in job.questions.by_id.values()]

    found = asked(plans, job.endpoints, out, how, answerer)
    stamp = began(out).timestamp()
    rows = []
    for (number, _), turns in zip(job.questions.by_id.items(), found, strict=True):
        row: dict[str, Any] = {
            "question_id": number,
            "answer_id": digest(answerer.model, number)[:22],
            "model_id": answerer.model,
            "choices": [{"index": 0, "turns": [one.text or ERROR for one in turns.replies]}],
            "tstamp": stamp,
        }
        problems = [one.problem for one in turns.replies]
        rows.append(row | ({"holes": problems} if any(problems) else {}))
    out.write_file(f"model_answer/{file_name(answerer.model)}.jsonl", jsonl(rows))
    return found


def _answered(job: Job, endpoint: str, question: Mapping[str, Any]) -> Plan[Turns]:
    """Ask both turns; the second one sees the first answer."""
    first, second = question["turns"]
    messages = [Message("user", first)]
    if job.system is not None:
        messages.insert(0, Message("system", job.system))
    temperature = TEMPERATURES[question["category"]]

    def call() -> Call:
        return Call(endpoint, tuple(messages), ANSWER_TOKENS_MAX, temperature=temperature)

    (outcome,) = yield [call()]
    one = reply_of(outcome)
    if one.choice is None:
        return Turns((one, Reply(None, one.problem)))
    messages += [Message("assistant", one.text), Message("user", second)]
    (outcome,) = yield [call()]
    return Turns((one, reply_of(outcome)))


def judged(
    job: Job,
    judge: Endpoint,
    answerer: Answerer,
    answers: Sequence[Turns],
    out: Directory,
    how: Asking,
) -> Result:
    """Ask one judge about all answers, and write its judgements and its result."""
    asks = [
        (number, turn, _question(job, judge, number, turns, turn))
        for turn in (1, 2)
        for number, turns in zip(job.questions.by_id, answers, strict=True)
    ]

    def plans() -> list[Plan[Reply]]:
        return [one_call(call) for _, _, call in asks if isinstance(call, Call)]

    replies = iter(asked(plans, job.endpoints, out, how))
    said: list[Reply] = []
    rows = []
    for number, turn, call in asks:
        reply = next(replies) if isinstance(call, Call) else Reply(None, call)
        said.append(reply)
        prompt = call.messages[-1].content if isinstance(call, Call) else ""
        rows.append(_row(job, judge, answerer.model, number, turn, prompt, reply))
        rows[-1]["tstamp"] = began(out).timestamp()
    out.write_file(f"model_judgment/{file_name(judge.name)}_single.jsonl", jsonl(rows))
    n, holes, figures = figures_of(rows, job.questions)
    cut = sum(one.choice.is_cut for turns in answers for one in turns.replies if one.choice)
    notes = (f"{cut:,} answers ended at their maximum of tokens",) if cut else ()
    models, fingerprints = versions(said)
    result = Result(
        BENCHMARK,
        answerer.model,
        judge.model,
        models,
        fingerprints,
        digest_of(job.prompts),
        job.questions.digest,
        job.rules,
        began(out).isoformat(),
        "score",
        n,
        holes,
        figures,
        notes,
    )
    out.write_file(f"results/{file_name(judge.name)}.json", result.chunks())
    return result


def _prompt_name(job: Job, number: int, turn: int) -> str:
    math = "math-" if number in job.questions.references else ""
    return f"single-{math}v1{'-multi-turn' if turn == 2 else ''}"


def _question(job: Job, judge: Endpoint, number: int, turns: Turns, turn: int) -> Call | str:
    """The call to the judge, or the reason why there is no answer to judge."""
    for reply in turns.replies[:turn]:
        if reply.choice is None:
            return f"answer_{reply.problem}"
    questions = job.questions.by_id[number]["turns"]
    values = {"question": questions[0], "answer": turns.replies[0].text}
    for position in range(turn):
        values[f"question_{position + 1}"] = questions[position]
        values[f"answer_{position + 1}"] = turns.replies[position].text
    for position, text in enumerate(job.questions.references.get(number, ()), start=1):
        values[f"ref_answer_{position}"] = text
    messages = job.prompts[_prompt_name(job, number, turn)].filled(values)
    return Call(judge.name, messages, JUDGE_TOKENS_MAX, temperature=0.0)


def _row(
    job: Job, judge: Endpoint, model: str, number: int, turn: int, prompt: str, reply: Reply
) -> dict[str, Any]:
    score, hole = -1.0, reply.problem
    if reply.choice is not None:
        read = READERS[job.rules](reply.text, reply.choice.is_cut)
        if isinstance(read, Unread):
            hole = read.fault.value
        else:
            score = read
    row: dict[str, Any] = {
        "question_id": number,
        "model": model,
        "judge": [judge.model, _prompt_name(job, number, turn)],
        "user_prompt": prompt,
        "judgment": reply.text if reply.choice else ERROR,
        "score": score,
        "turn": turn,
    }
    return row | ({HOLE: hole} if hole else {})


def forecasts(job: Job, model: str | None) -> list[Forecast]:
    """Return what a run will send, with stand-in answers for the judges. A local model sends
    nothing.
    """
    questions = job.questions.by_id
    answers = [_answered(job, model, one) for one in questions.values()] if model else []
    said = forecast(answers, job.endpoints)
    words = _stand_in()
    turns = Turns((words, words))
    for judge in job.judges:
        calls = [
            _question(job, judge, number, turns, turn) for turn in (1, 2) for number in questions
        ]
        said += forecast([one_call(one) for one in calls if isinstance(one, Call)], job.endpoints)
    return said


def _stand_in() -> Reply:
    from zephyr_fast.endpoint.call import Choice

    return Reply(Choice("word " * 300, "stop"), "")


def read_questions(path: Path, references: Path | None, first: int | None = None) -> Questions:
    """Read the questions and the reference answers.

    Args:
        path: FastChat's `question.jsonl`
        references: FastChat's `reference_answer/MODEL.jsonl`; None for no reference answers
        first: how many questions of each category to use; None for all

    Raises:
        InputError: a question is not one of two turns, or is repeated; names file and row
    """
    by_id: dict[int, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    for number, row in enumerate(read_rows(path), start=1):
        where = f"`{shown(path)}`: row {number}"
        one, turns = _identified(where, row), row.get("turns")
        if one in by_id:
            raise InputError(f"{where} repeats question {one}")
        if row.get("category") not in TEMPERATURES:
            known = ", ".join(TEMPERATURES)
            raise InputError(f"{where}: question {one} needs a `category`; known: {known}")
        _check_turns(f"{where}: question {one}", turns)
        counts[row["category"]] = counts.get(row["category"], 0) + 1
        if first is None or counts[row["category"]] <= first:
            by_id[one] = {"category": row["category"], "turns": turns}
    answers = _references(references, by_id) if references else {}
    lacking = [
        one
        for one, row in by_id.items()
        if row["category"] in REFERENCED and references and one not in answers
    ]
    if lacking:
        raise InputError(f"`{shown(references)}` has no reference answer to question {lacking[0]}")
    return Questions(by_id, answers)


def _references(path: Path, by_id: Collection[int]) -> dict[int, tuple[str, str]]:
    found: dict[int, tuple[str, str]] = {}
    for number, row in enumerate(read_rows(path), start=1):
        where = f"`{shown(path)}`: row {number}"
        one = _identified(where, row)
        if one in found:
            raise InputError(f"{where} repeats question {one}")
        try:
            turns = row["choices"][0]["turns"]
        except (KeyError, IndexError, TypeError):
            raise InputError(f"{where} has no `choices` with `turns`") from None
        _check_turns(f"{where}: reference {one}", turns)
        found[one] = (turns[0], turns[1])
    return {one: turns for one, turns in found.items() if one in by_id}


def _identified(where: str, row: Mapping[str, Any]) -> int:
    if type(row.get("question_id")) is not int:
        raise InputError(f"{where} has no `question_id`, a whole number")
    return int(row["question_id"])


def _check_turns(where: str, turns: object) -> None:
    is_text = isinstance(turns, list) and all(isinstance(one, str) and one.strip() for one in turns)
    if not is_text or not isinstance(turns, list) or len(turns) != 2:
        number = len(turns) if isinstance(turns, list) else 0
        count = f"{number or 'no'} turn{'' if number == 1 else 's'}"
        raise InputError(f"{where} has {count}; MT-Bench needs two turns with text")
    if not all(map(is_unicode, turns)):
        raise InputError(f"{where} has a turn with a lone surrogate")
