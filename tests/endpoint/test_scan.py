"""The scan of a log against a slow and obvious one, with blocks of any size and a cut last line."""

import json
import random
from pathlib import Path

import pytest

from zephyr_fast._core import IntegrityError
from zephyr_fast.endpoint import log as call_log
from zephyr_fast.endpoint.budget import Cost
from zephyr_fast.endpoint.call import Answer, Choice, Failure, Outcome, Usage
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.reasons import Reason

KEYS = [f"{number:064x}" for number in range(12)]


def outcome_of(draws: random.Random) -> Outcome:
    """An answer or a failure, with texts that look like parts of a log."""
    text = draws.choice(["short", "}\n{", '{"sent":"', 'a "batch":"b" ,"final":true', "日本 " * 40])
    if draws.random() < 0.4:
        return Failure(draws.choice([Reason.TIMEOUT, Reason.REFUSED]), text)
    return Answer((Choice(text, "stop"),), "m", None, Usage(3, 4))


def write(path: Path, draws: random.Random) -> None:
    """Calls that are sent, batched, answered, answered again, and left open."""
    with CallLog(path) as log:
        for _ in range(120):
            key = draws.choice(KEYS)
            batch = draws.choice([None, None, "of-june.jsonl"])
            number = log.sent(key, "m", Cost(draws.randrange(90), draws.randrange(90)), batch)
            for _ in range(draws.choice([0, 1, 1, 2])):
                outcome, cost = outcome_of(draws), Cost(draws.randrange(90), draws.randrange(90))
                final = isinstance(outcome, Answer) or outcome.reason.is_final
                log.ended(key, number, "m", cost, outcome, is_final=final)


def slow_scan(path: Path) -> tuple[dict[str, bytes], Cost, dict[str, str]]:
    """First final line of each call, amount spent, and exported calls, from lines parsed whole."""
    final: dict[str, bytes] = {}
    reserved: dict[tuple[str, int], tuple[int, int]] = {}
    batched: dict[str, str] = {}
    nanousd = tokens = 0
    *lines, _ = path.read_bytes().split(b"\n")  # without a line that was cut
    for line in lines:
        fields = json.loads(line)
        kind, key = next(iter(fields.items()))
        amount = fields["nanousd"], fields["tokens"]
        if kind == "sent":
            reserved[key, fields["attempt"]] = amount
            if "batch" in fields:
                batched[key] = fields["batch"]
            continue
        reserved.pop((key, fields["attempt"]), None)
        batched.pop(key, None)
        nanousd, tokens = nanousd + amount[0], tokens + amount[1]
        if kind == "answer" or fields["final"]:
            final.setdefault(key, line)
    spent = Cost(
        nanousd + sum(amount for amount, _ in reserved.values()),
        tokens + sum(amount for _, amount in reserved.values()),
    )
    return final, spent, batched


@pytest.mark.parametrize("block", [1, 7, 100, 4 << 20])
def test_a_scan_finds_what_a_slow_one_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(call_log, "_SCAN_BYTES", block)
    for seed in range(6):
        draws = random.Random(seed)
        path = tmp_path / str(seed)
        write(path, draws)
        cut = draws.randrange(60)
        path.write_bytes(path.read_bytes()[: -cut or None])
        final, spent, batched = slow_scan(path)
        with CallLog(path) as log:
            assert (len(log), log.spent, log.batched) == (len(final), spent, batched)
            for key in KEYS:
                found = log.outcome(key)
                assert (found is None) == (key not in final)
                if found is not None:
                    assert found == call_log.line.outcome_of(final[key])
        assert path.read_bytes().endswith(b"}\n"), "the line that was cut is removed"


DAMAGED = {
    "a batch that is not UTF-8": (b'"of-june.jsonl"', b'"of-\xff"'),
    "a batch with an escape": (b'"of-june.jsonl"', b'"of-\\u00e9"'),
    "no end": (b'"batch":"of-june.jsonl"}', b'"batch":"of-june.jsonl"'),
    "zeros": (b'{"sent"', b"\0\0\0\0\0\0\0"),
    "an empty line": (b'{"sent"', b'\n{"sent"'),
}


@pytest.mark.parametrize(("good", "bad"), DAMAGED.values(), ids=DAMAGED)
def test_a_line_that_is_none_of_a_log_is_named(tmp_path: Path, good: bytes, bad: bytes) -> None:
    path = tmp_path / "log"
    with CallLog(path) as log:
        log.sent(KEYS[0], "m", Cost(1, 1), "of-june.jsonl")
    path.write_bytes(path.read_bytes().replace(good, bad))
    with pytest.raises(IntegrityError, match="`:1 is not a line of a call log"):
        CallLog(path)
