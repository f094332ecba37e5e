"""Generates dialogues of a teacher with a user that a model imitates.

A dialogue is one plan: first message, answer, next message, answer, and so on. Sector, topic,
examples, text and number of rounds are drawn by hash of the seed and the dialogue's number.
"""

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zephyr_fast._core import ConfigError
from zephyr_fast.collection import drawn
from zephyr_fast.collection.directory import described
from zephyr_fast.collection.run import Asking, Collected, run
from zephyr_fast.endpoint.call import Answer, Call, Message, Outcome, request_of
from zephyr_fast.endpoint.endpoints import Endpoints
from zephyr_fast.endpoint.plans import Plan
from zephyr_fast.endpoint.reasoning import concluded
from zephyr_fast.generate.sectors import ROUNDS_MAX, Sector

EXAMPLES = 3
"""Seeds that the prompt for a first message shows."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """What is generated: everything that the rows depend on.

    `user` is the endpoint that writes the user's messages, the teacher itself if None. `rounds`
    replace those of the sectors. Answers that end at `max_tokens` end the dialogue before them,
    unless `keeps_cut`.
    """

    sectors: Sequence[Sector]
    endpoints: Endpoints
    teacher: str
    count: int
    user: str | None = None
    rounds: tuple[int, int] | None = None
    temperature: float = 1.0
    max_tokens: int = 1_024
    user_max_tokens: int = 256
    keeps_cut: bool = False
    seed: int = 1

    def check(self) -> None:
        """Check numbers. ConfigError if one is out of range."""
        if self.rounds and not 1 <= self.rounds[0] <= self.rounds[1] <= ROUNDS_MAX:
            raise ConfigError(f"`--rounds` must be like 3-7, from 1 to {ROUNDS_MAX}")
        if len({sector.name for sector in self.sectors}) != len(self.sectors) or not self.sectors:
            raise ConfigError("name each sector once")

    def settings(self) -> Mapping[str, Any]:
        """Return what another run in the same directory must have in common."""
        return {
            "command": "generate dialogues",
            "seed": self.seed,
            "count": self.count,
            "sectors": {sector.name: sector.settings() for sector in self.sectors},
            "teacher": self.teacher,
            "user": self.user,
            "rounds": list(self.rounds) if self.rounds else None,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "user_max_tokens": self.user_max_tokens,
            "keep_cut": self.keeps_cut,
            "endpoints": {name: described(one) for name, one in self.endpoints.items()},
        }

    def plans(self) -> Iterator[Plan[Row]]:
        """Return a plan for each dialogue, in order."""
        return (_plan(self, number) for number in range(self.count))


def generate(job: Job, out: Path, asking: Asking | None = None) -> Collected:
    """Generate dialogues and write `out/rows.jsonl` in the shape of raw UltraChat. `run` of
    `collection.run` documents how a job continues, and the errors.

    A dialogue whose first answer failed has an empty list of messages, which `prep` drops with a
    reason.
    """
    return run(job, out, asking or Asking(), _Tally())


@dataclass(slots=True)
class _Dialogue:
    """A dialogue as it grows. `ended` is why it ended before its last round."""

    messages: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    ended: str | None = None


Step = Generator[Sequence[Call], Sequence[Outcome], str | None]


def _plan(job: Job, number: int) -> Plan[Row]:
    sector = job.sectors[number % len(job.sectors)]
    name = f"{sector.name}-{number:06d}"
    least, most = job.rounds or sector.rounds
    rounds = least + int(drawn.fraction(job.seed, "rounds", name) * (most - least + 1))
    topic = drawn.one_of(sector.topics, job.seed, "topic", name)
    grown = _Dialogue()
    yield from _grow(job, sector, name, topic, rounds, grown)
    return {
        "id": name,
        "data": grown.messages,
        "_provenance": {
            "sector": sector.name,
            "topic": topic,
            "teacher": job.teacher,
            "user": job.user or job.teacher,
            "rounds": rounds,
            "ended": grown.ended,
            "keys": grown.keys,
        },
    }


def _grow(
    job: Job, sector: Sector, name: str, topic: str, rounds: int, grown: _Dialogue
) -> Generator[Sequence[Call], Sequence[Outcome], None]:
    for turn in range(rounds):
        if turn == 0:
            asked = yield from _first(job, sector, name, topic, grown)
        else:
            shown = {"dialogue": _shown(grown.messages), "topic": topic}
            asked = yield from _ask(job, grown, sector.later.filled(shown), name, is_user=True)
        if asked is None:
            return
        said = [*grown.messages, asked]
        roles = ("user", "assistant")
        messages = tuple(Message(roles[index % 2], text) for index, text in enumerate(said))
        answer = yield from _ask(job, grown, messages, name, is_user=False)
        if answer is None:
            return
        grown.messages += [asked, answer]


def _first(job: Job, sector: Sector, name: str, topic: str, grown: _Dialogue) -> Step:
    examples = drawn.shuffled(sector.seeds, job.seed, "examples", name)[:EXAMPLES]
    values = {"topic": topic, "examples": "\n".join(f"- {one}" for one in examples)}
    if sector.materials:
        values["material"] = drawn.one_of(sector.materials, job.seed, "material", name)
    asked = yield from _ask(job, grown, sector.first.filled(values), name, is_user=True)
    if asked is None or not sector.materials:
        return asked
    return f"{asked}\n\n{values['material']}"


def _ask(
    job: Job, grown: _Dialogue, messages: Sequence[Message], name: str, *, is_user: bool
) -> Step:
    """One call. Its text without spaces around it, or None if the dialogue ends here. What a model
    thinks before it writes as the user is not part of the user's message.
    """
    endpoint = (job.user or job.teacher) if is_user else job.teacher
    call = Call(
        endpoint,
        tuple(messages),
        job.user_max_tokens if is_user else job.max_tokens,
        temperature=job.temperature,
        # Dialogues with the same topic and examples still differ.
        sample=int(name.rpartition("-")[2]),
    )
    (outcome,) = yield [call]
    grown.keys.append(request_of(call, job.endpoints[endpoint]).key)
    if not isinstance(outcome, Answer):
        grown.ended = outcome.reason.value
        return None
    text = (concluded(outcome.text) if is_user else outcome.text).strip()
    if outcome.choices[0].is_cut and not job.keeps_cut:
        grown.ended = "cut"
        return None
    if not text:
        grown.ended = "empty"
        return None
    return text


def _shown(messages: Sequence[str]) -> str:
    roles = ("User", "Assistant")
    return "\n\n".join(f"{roles[index % 2]}: {text}" for index, text in enumerate(messages))


class _Tally:
    """Counts of rounds, and of the reasons why dialogues ended early."""

    def __init__(self) -> None:
        self.rounds: Counter[int] = Counter()
        self.ended: Counter[str] = Counter()

    def count(self, row: Row) -> None:
        self.rounds[len(row["data"]) // 2] += 1
        if row["_provenance"]["ended"]:
            self.ended[row["_provenance"]["ended"]] += 1

    @property
    def usable(self) -> int:
        return self.rounds.total() - self.rounds[0]

    def faults(self) -> Mapping[str, int]:
        return dict(self.ended.most_common())

    def totals(self) -> dict[str, Any]:
        return {
            "dialogues_by_rounds": {str(n): self.rounds[n] for n in sorted(self.rounds)},
            "ended_early": {why: self.ended[why] for why in sorted(self.ended)},
        }
