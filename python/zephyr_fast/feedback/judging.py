"""What judges are asked about the answers to a prompt, and how their answers are read.

By `text`, a judge sees all answers of a prompt at once for each aspect, in an order drawn by hash,
and then each answer alone for a critique with an overall score from 1 to 10. By `expected`, it sees
each answer alone and writes one digit, whose log-probs are read: 1 to 5 for an aspect, and 0 to 9
for the overall score, which is moved to 1 to 10.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr_fast._core import ConfigError, names
from zephyr_fast.collection import prompt_file
from zephyr_fast.collection.prompt_file import PromptFile
from zephyr_fast.collection.prompts import Prompt
from zephyr_fast.endpoint.call import Answer, Call, Outcome
from zephyr_fast.feedback.answers import Completion
from zephyr_fast.judge.expected import MASS_MIN, TOP_LOGPROBS, expected
from zephyr_fast.judge.scale import Fault, Scale, Unread, Verdict
from zephyr_fast.judge.sections import sections
from zephyr_fast.judge.verdict import labelled
from zephyr_fast.printed import shown

BUNDLED = Path(__file__).parent / "prompts"
METHODS = ("text", "expected")
OVERALL = "overall"

_FIVE, _TEN, _DIGIT = Scale(1, 5), Scale(1, 10), Scale(0, 9)
_FIVE_OR_NONE = Scale(1, 5, allows_na=True)
_MAY_NOT_APPLY = frozenset({"honesty"})
"""Aspects that a judge may rate N/A, as UltraFeedback's judges may."""

_RATING_LINE = re.compile(r"^[ \t*_#-]*Rating[ \t*_]*[:：].*$", re.IGNORECASE | re.MULTILINE)
_RATIONALE = re.compile(r"^[ \t*_#-]*Rationale[ \t*_]*[:：][ \t*_]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Judging:
    """How answers are judged. `swaps`: each order is also shown reversed."""

    method: str
    judges: tuple[str, ...]
    aspects: Mapping[str, PromptFile]
    overall: PromptFile
    swaps: bool = False
    mass_min: float = MASS_MIN
    max_tokens: int = 1_024

    def settings(self) -> dict[str, Any]:
        """Return what verdicts depend on, for the settings of a run."""
        return {
            "method": self.method,
            "judges": list(self.judges),
            "judge_prompts": {
                **{aspect: prompt.digest for aspect, prompt in self.aspects.items()},
                OVERALL: self.overall.digest,
            },
            "swap": self.swaps,
            "mass_min": self.mass_min if self.method == "expected" else None,
            "judge_max_tokens": self.max_tokens if self.method == "text" else None,
        }


def load(
    method: str,
    judges: Sequence[str],
    directory: Path | None = None,
    *,
    swaps: bool = False,
    mass_min: float = MASS_MIN,
    max_tokens: int = 1_024,
) -> Judging:
    """Read the prompts of a method: a file for each aspect, and `overall.txt`.

    Raises:
        ConfigError: A prompt cannot be used, an aspect is unknown, or an option has no effect.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown reading `{shown(method)}`; known: {', '.join(METHODS)}")
    if swaps and method == "expected":
        raise ConfigError(
            "`--swap` has no effect with `--verdict expected`: answers are not listed"
        )
    if len(set(judges)) != len(judges) or not judges:
        raise ConfigError("name each judge once")
    directory = directory or BUNDLED / method
    alone = ("instruction", "answer")
    listed = ("instruction", "answers")
    overall = prompt_file.load(directory / f"{OVERALL}.txt", alone, ("note", "knowledge"))
    required = listed if method == "text" else alone
    aspects = {
        path.stem: prompt_file.load(path, required, ("note", "knowledge", "count"))
        for path in sorted(directory.glob("*.txt"))
        if path.stem != OVERALL
    }
    if unknown := sorted(aspects.keys() - set(names("scores"))):
        raise ConfigError(
            f"`{shown(directory)}`: `binarize` does not read an aspect `{shown(unknown[0])}`"
        )
    return Judging(method, tuple(judges), aspects, overall, swaps, mass_min, max_tokens)


@dataclass(frozen=True, slots=True)
class Question:
    """One call to a judge. `order` has the numbers of the completions, as they are listed."""

    judge: str
    aspect: str
    order: tuple[int, ...]
    call: Call


def questions(
    judging: Judging, prompt: Prompt, completions: Sequence[Completion], order: Sequence[int]
) -> list[Question]:
    """Return all calls to judges about one prompt."""
    alone: list[tuple[int, ...]] = [(number,) for number in range(len(completions))]
    lists: list[tuple[int, ...]] = [tuple(order)]
    if judging.method == "expected":
        lists = alone
    elif judging.swaps:
        lists.append(tuple(reversed(order)))
    asked = [(aspect, listed) for aspect in judging.aspects for listed in lists]
    asked += [(OVERALL, listed) for listed in alone]
    return [
        Question(judge, aspect, listed, _call(judging, judge, aspect, prompt, completions, listed))
        for judge in judging.judges
        for aspect, listed in asked
    ]


def _call(
    judging: Judging,
    judge: str,
    aspect: str,
    prompt: Prompt,
    completions: Sequence[Completion],
    listed: Sequence[int],
) -> Call:
    file = judging.overall if aspect == OVERALL else judging.aspects[aspect]
    first = completions[listed[0]]
    values = {
        "instruction": prompt.text,
        "answer": first.text,
        "answers": "\n\n".join(
            f'<answer number="{position}">\n{completions[number].text}\n</answer>'
            for position, number in enumerate(listed, start=1)
        ),
        "count": str(len(listed)),
        "note": first.candidate.system or "none",
        "knowledge": _knowledge(prompt),
    }
    messages = file.filled(values)
    if judging.method == "expected":
        return Call(judge, messages, 1, temperature=0.0, top_logprobs=TOP_LOGPROBS)
    return Call(judge, messages, judging.max_tokens, temperature=0.0)


def _knowledge(prompt: Prompt) -> str:
    """Return what is known about the right answer."""
    if prompt.source == "false_qa":
        return "The question rests on a false assumption."
    known = [f"Correct answers: {'; '.join(prompt.correct)}"] if prompt.correct else []
    if prompt.incorrect:
        known.append(f"Incorrect answers: {'; '.join(prompt.incorrect)}")
    return ". ".join(known) or "none"


@dataclass(frozen=True, slots=True)
class Read:
    """What a judge said about one completion. `fault` is the reason why there is no score, and a
    score of None without a fault is "N/A".
    """

    score: float | None
    fault: str | None = None
    rationale: str = ""


def read(judging: Judging, question: Question, outcome: Outcome) -> list[Read]:
    """Return the verdict on each completion of a question, in the order of the list."""
    if not isinstance(outcome, Answer):
        return [Read(None, outcome.reason.value)] * len(question.order)
    choice = outcome.choices[0]
    if judging.method == "expected":
        is_overall = question.aspect == OVERALL
        scale = _DIGIT if is_overall else _FIVE
        return [_read(expected(choice, scale, mass_min=judging.mass_min), moved=int(is_overall))]
    text = choice.text
    if question.aspect == OVERALL:
        return [_read(labelled(text, "Overall score", _TEN, is_cut=choice.is_cut))]
    if choice.is_cut:
        return [Read(None, Fault.CUT.value)] * len(question.order)
    scale = _FIVE_OR_NONE if question.aspect in _MAY_NOT_APPLY else _FIVE
    return [_of_section(part, scale) for part in sections(text, len(question.order))]


def _of_section(part: str | Unread, scale: Scale) -> Read:
    if isinstance(part, Unread):
        return _read(part)
    rationale = _RATIONALE.sub("", _RATING_LINE.sub("", part).strip())
    return _read(labelled(part, "Rating", scale), rationale)


def _read(reading: Verdict | Unread, rationale: str = "", moved: int = 0) -> Read:
    if isinstance(reading, Unread):
        return Read(None, reading.fault.value, rationale)
    score = None if reading.score is None else reading.score + moved
    return Read(score, None, rationale)
