"""Which models answer a prompt, and what they are asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zephyr_fast._core import ConfigError
from zephyr_fast.collection import drawn
from zephyr_fast.collection.prompts import Prompt
from zephyr_fast.endpoint.call import Answer, Call, Message
from zephyr_fast.feedback.principles import Principles


@dataclass(frozen=True, slots=True)
class Sampling:
    """Who answers, and how.

    `count` models of `pool` answer each prompt, each with a principle. `student` answers `samples`
    times without a principle, as it will be used. `principles` None gives nobody one.
    """

    pool: tuple[str, ...]
    count: int
    student: str | None = None
    samples: int = 0
    principles: Principles | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1_024

    def check(self) -> None:
        """Check that each prompt gets two to nine answers. ConfigError otherwise."""
        if self.count > len(self.pool) or self.count < 0:
            raise ConfigError(
                f"`--k` must be from 0 to the {len(self.pool)} models of the pool, not {self.count}"
            )
        if self.pool and not self.count:
            raise ConfigError("`--pool` has no effect with `--k 0`")
        if self.student is None and self.samples:
            raise ConfigError("`--samples` requires `--student`")
        if self.student is not None and self.samples < 1:
            raise ConfigError("`--samples` must be at least 1")
        # The prompts of judges number the answers with one digit.
        if not 2 <= self.count + self.samples <= 9:
            raise ConfigError(
                f"each prompt needs 2 to 9 answers, not {self.count + self.samples}; change "
                "`--k` or `--samples`"
            )

    def settings(self) -> dict[str, Any]:
        """Return what answers depend on, for the settings of a run."""
        return {
            "pool": list(self.pool),
            "k": self.count,
            "student": self.student,
            "samples": self.samples,
            "principles": self.principles.settings() if self.principles else None,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
        }


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer to be written: its model, and the principle and system prompt, if any."""

    model: str
    sample: int
    principle: str
    system: str


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer: who wrote it, to which call, and as which model the server answered."""

    candidate: Candidate
    answer: Answer
    key: str

    @property
    def text(self) -> str:
        """The answer's text."""
        return self.answer.text


def candidates(sampling: Sampling, prompt: Prompt, seed: int) -> list[Candidate]:
    """Return who answers a prompt, drawn without replacement and in an order drawn by hash. The
    order matters: `binarize` keeps the first of a tie.
    """
    models = drawn.shuffled(sorted(sampling.pool), seed, "pool", prompt.id)[: sampling.count]
    found = [_candidate(sampling, prompt, seed, model) for model in models]
    if sampling.student is not None:
        # The pool may contain the student. Without a principle, it then has sample 0 already.
        first = int(Candidate(sampling.student, 0, "", "") in found)
        samples = range(first, first + sampling.samples)
        found += [Candidate(sampling.student, sample, "", "") for sample in samples]
    return drawn.shuffled(found, seed, "candidates", prompt.id)


def _candidate(sampling: Sampling, prompt: Prompt, seed: int, model: str) -> Candidate:
    if sampling.principles is None:
        return Candidate(model, 0, "", "")
    principle, system = sampling.principles.draw(seed, prompt.id, prompt.source, model)
    return Candidate(model, 0, principle, system)


def calls(sampling: Sampling, prompt: Prompt, chosen: Sequence[Candidate]) -> list[Call]:
    """Return one call for each candidate."""
    return [
        Call(
            candidate.model,
            (
                *((Message("system", candidate.system),) if candidate.system else ()),
                Message("user", prompt.text),
            ),
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            sample=candidate.sample,
        )
        for candidate in chosen
    ]
