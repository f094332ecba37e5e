"""A process that asks a server, for tests that kill it: URL, log and number of dialogues as words.

Each plan has two calls, the second built on the first's answer. Prints one JSON row per plan.
"""

import json
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from asking import endpoint_at
from zephyr_fast.endpoint.budget import Caps
from zephyr_fast.endpoint.call import Answer, Call, Message, Outcome
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Settings, collect, replay

CONCURRENCY = 16


def dialogue(number: int) -> Generator[Sequence[Call], Sequence[Outcome], str]:
    """Two turns; the row that they make."""
    first = Message("user", f"question {number}")
    (answer,) = yield [Call("teacher", (first,), 20)]
    assert isinstance(answer, Answer)
    said = Message("assistant", answer.text)
    (second,) = yield [Call("teacher", (first, said, Message("user", "go on")), 20)]
    assert isinstance(second, Answer)
    return json.dumps([number, answer.text, second.text])


def dialogues(count: int) -> Iterator[Generator[Sequence[Call], Sequence[Outcome], str]]:
    """All plans, in order."""
    return (dialogue(number) for number in range(count))


def main(url: str, log: str, count: str, cap_tokens: str) -> None:
    """Collects, and prints the rows if all are complete."""
    endpoint = endpoint_at(url, concurrency=CONCURRENCY, retry_seconds=0.01)
    endpoints = {"teacher": endpoint}
    settings = Settings(caps=Caps(tokens=int(cap_tokens)))
    with CallLog(Path(log)) as calls:
        report = collect(dialogues(int(count)), endpoints, calls, settings)
        report.raise_if_open()
        for row in replay(dialogues(int(count)), endpoints, calls):
            print(row)


if __name__ == "__main__":
    main(*sys.argv[1:])
