"""Collects feedback: models answer each prompt, judges rate the answers, rows are written.

A prompt is one plan of two steps, answers and verdicts. See `collection` for how a run continues.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_fast.collection import drawn
from zephyr_fast.collection.directory import described
from zephyr_fast.collection.prompts import Prompt, Prompts
from zephyr_fast.collection.run import Asking, Collected, run
from zephyr_fast.endpoint.call import Answer, Call, request_of
from zephyr_fast.endpoint.endpoints import Endpoints
from zephyr_fast.endpoint.plans import Plan
from zephyr_fast.feedback import answers, judging, rows
from zephyr_fast.feedback.answers import Completion, Sampling
from zephyr_fast.feedback.judging import OVERALL, Judging
from zephyr_fast.feedback.tally import Tally

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """What is collected: everything that the rows depend on."""

    prompts: Prompts
    endpoints: Endpoints
    sampling: Sampling
    judging: Judging
    seed: int = 1

    def check(self) -> None:
        """Check that each prompt gets two to nine answers. ConfigError otherwise."""
        self.sampling.check()

    def settings(self) -> Mapping[str, Any]:
        """Return what another run in the same directory must have in common."""
        return {
            "command": "feedback collect",
            "seed": self.seed,
            "prompts": self.prompts.digest,
            **self.sampling.settings(),
            **self.judging.settings(),
            "endpoints": {name: described(one) for name, one in self.endpoints.items()},
            "families": {name: one.family for name, one in self.endpoints.items()},
        }

    def plans(self) -> Iterator[Plan[Row]]:
        """Return a plan for each prompt, in order."""
        return (plan(self, prompt) for prompt in self.prompts.rows)


def collect(job: Job, out: Path, asking: Asking | None = None) -> Collected:
    """Collect feedback and write `out/rows.jsonl` in the shape of raw UltraFeedback. `run` of
    `collection.run` documents how a job continues, and the errors.
    """
    return run(job, out, asking or Asking(), Tally())


def plan(job: Job, prompt: Prompt) -> Plan[Row]:
    """Return the calls of one prompt, step by step, and then its row."""
    chosen = answers.candidates(job.sampling, prompt, job.seed)
    calls = answers.calls(job.sampling, prompt, chosen)
    outcomes = yield calls
    completions = [
        Completion(candidate, outcome, _key(job, call))
        for candidate, call, outcome in zip(chosen, calls, outcomes, strict=True)
        if isinstance(outcome, Answer)
    ]
    critiques: list[str | None] = [None] * len(completions)
    judged = []
    if len(completions) > 1:
        order = drawn.shuffled(range(len(completions)), job.seed, "order", prompt.id)
        questions = judging.questions(job.judging, prompt, completions, order)
        said = yield [question.call for question in questions]
        for question, outcome in zip(questions, said, strict=True):
            reads = judging.read(job.judging, question, outcome)
            judged.append((question, _key(job, question.call), reads))
            is_critique = question.aspect == OVERALL and job.judging.method == "text"
            if is_critique and question.judge == job.judging.judges[0]:
                critiques[question.order[0]] = _text(outcome)
    return rows.row(prompt, chosen, outcomes, completions, job.judging, judged, critiques)


def _text(outcome: Any) -> str | None:
    return outcome.text if isinstance(outcome, Answer) else None


def _key(job: Job, call: Call) -> str:
    return request_of(call, job.endpoints[call.endpoint]).key


def used(sampling: Sampling, judges: Sequence[str]) -> list[str]:
    """Return the names of all endpoints that a job uses."""
    student = [sampling.student] if sampling.student is not None else []
    return [*sampling.pool, *student, *judges]
