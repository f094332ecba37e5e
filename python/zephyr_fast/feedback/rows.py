"""Turns answers and verdicts into a row in the shape of raw UltraFeedback.

A score in the row is the mean over all judges. If one of them gave no verdict on a completion, the
row has no score for it: a mean over other judges than those of its neighbors could not be compared
with theirs. For the same reason, a completion has ratings of all aspects or of none. "N/A" is a
verdict, and is not part of a mean. Every verdict is under `_provenance`.
"""

from collections.abc import Sequence
from typing import Any

from zephyr_fast.collection.prompts import Prompt
from zephyr_fast.endpoint.call import Answer, Outcome
from zephyr_fast.feedback.answers import Candidate, Completion
from zephyr_fast.feedback.judging import OVERALL, Judging, Question, Read

Row = dict[str, Any]
Judged = Sequence[tuple[Question, str, list[Read]]]
"""Each question with the key of its call and what was read from the answer."""


def row(
    prompt: Prompt,
    candidates: Sequence[Candidate],
    outcomes: Sequence[Outcome],
    completions: Sequence[Completion],
    judging: Judging,
    judged: Judged,
    critiques: Sequence[str | None],
) -> Row:
    """Return the row of one prompt."""
    return {
        "id": prompt.id,
        "source": prompt.source,
        "instruction": prompt.text,
        "models": [one.candidate.model for one in completions],
        "correct_answers": list(prompt.correct),
        "incorrect_answers": list(prompt.incorrect),
        "completions": [
            _completion(number, completions[number], judging, judged, critiques[number])
            for number in range(len(completions))
        ],
        "_provenance": {
            "method": judging.method,
            "answers": [
                {
                    "key": one.key,
                    "sample": one.candidate.sample,
                    "model": one.answer.model,
                    "fingerprint": one.answer.fingerprint,
                    "cut": one.answer.choices[0].is_cut,
                }
                for one in completions
            ],
            "failed": [
                {"model": candidate.model, "reason": outcome.reason.value}
                for candidate, outcome in zip(candidates, outcomes, strict=True)
                if not isinstance(outcome, Answer)
            ],
            "verdicts": [_verdict(*one) for one in judged],
        },
    }


def _completion(
    number: int,
    completion: Completion,
    judging: Judging,
    judged: Judged,
    critique: str | None,
) -> Row:
    said = {
        aspect: [
            reads[question.order.index(number)]
            for question, _, reads in judged
            if question.aspect == aspect and number in question.order
        ]
        for aspect in (*judging.aspects, OVERALL)
    }
    overall = _mean(said.pop(OVERALL))
    means = {aspect: _mean(reads) for aspect, reads in said.items()}
    if any(mean is None for mean in means.values()):
        means = dict.fromkeys(means)
    numbers = [mean for mean in means.values() if isinstance(mean, float)]
    return {
        "model": completion.candidate.model,
        "principle": completion.candidate.principle,
        "custom_system_prompt": completion.candidate.system,
        "response": completion.text,
        "annotations": {
            aspect: {
                "Rating": _rating(mean),
                "Rationale": said[aspect][0].rationale if said[aspect] else "",
            }
            for aspect, mean in means.items()
        },
        "critique": critique,
        "overall_score": overall if isinstance(overall, float) else None,
        "fine-grained_score": sum(numbers) / len(numbers) if numbers else None,
    }


def _mean(reads: Sequence[Read]) -> float | str | None:
    """The mean of the scores; "N/A" if all are; None if there are none, or one has a fault."""
    if not reads or any(one.fault is not None for one in reads):
        return None
    scores = [one.score for one in reads if one.score is not None]
    return sum(scores) / len(scores) if scores else "N/A"


def _rating(mean: float | str | None) -> str | None:
    """A rating as UltraFeedback has it: a text such as "4"."""
    if isinstance(mean, float):
        return str(int(mean)) if mean.is_integer() else repr(mean)
    return mean


def _verdict(question: Question, key: str, reads: Sequence[Read]) -> Row:
    found: Row = {
        "judge": question.judge,
        "aspect": question.aspect,
        "order": list(question.order),
        "scores": [
            "N/A" if one.score is None and one.fault is None else one.score for one in reads
        ],
        "key": key,
    }
    if any(one.fault for one in reads):
        found["faults"] = [one.fault for one in reads]
    return found
