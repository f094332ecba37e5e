"""Dialogues of a teacher become raw UltraChat rows that `prep` reads, from a real server."""

import asyncio
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from answering_server import answering, digest_of
from collecting import endpoints_file, finished, read, started
from faulty_server import Asked, answered, completion, refused, serving
from zephyr_fast import _core, prep
from zephyr_fast.dataset.ledger import scan_ledger
from zephyr_fast.generate.sectors import BUNDLED, load


def command(tmp_path: Path, url: str, count: int, *words: object, out: str = "out") -> list[object]:
    return [
        "generate", "dialogues", "--teacher", "alpha", "--count", count, "--endpoints",
        endpoints_file(tmp_path, url, concurrency=4), "--out", tmp_path / out, *words,
    ]  # fmt: skip


def run(words: list[object], code: int = 0) -> str:
    found, out, error = finished(words)
    assert found == code, error
    return out + error


def test_dialogues_are_what_prep_reads(tmp_path: Path) -> None:
    with serving(answering()) as server:
        run(command(tmp_path, server.url, 30))
        asked = [one.fields for one in server.asked]
    rows = read(tmp_path / "out" / "rows.jsonl")
    assert [row["id"] for row in rows[:3]] == ["world-000000", "writing-000001", "materials-000002"]
    limits = {"world": (3, 7), "writing": (2, 4), "materials": (2, 4)}
    seen: dict[str, set[int]] = {}
    for row in rows:
        rounds = len(row["data"]) // 2
        least, most = limits[row["_provenance"]["sector"]]
        assert len(row["data"]) % 2 == 0 and least <= rounds <= most
        assert (
            rounds == row["_provenance"]["rounds"] and len(row["_provenance"]["keys"]) == 2 * rounds
        )
        seen.setdefault(row["_provenance"]["sector"], set()).add(rounds)
    assert all(len(found) > 1 for found in seen.values()), "rounds are drawn"
    assert len(asked) == sum(len(row["data"]) for row in rows)
    materials = load("materials", BUNDLED).materials
    assert any(rows[2]["data"][0].endswith("\n\n" + text) for text in materials)
    # Each answer was asked with the whole dialogue before it.
    told = [[message["content"] for message in one["messages"]] for one in asked]
    assert all(row["data"][:-1] in told for row in rows)
    prep(input=tmp_path / "out" / "rows.jsonl", out=tmp_path / "shards", tokenizer="sample")
    ledger = scan_ledger(tmp_path / "shards").collect()
    assert set(ledger["source_id"]) == {row["id"] for row in rows}
    assert set(ledger["outcome"]) <= {"written", "duplicate"}


def test_a_second_model_can_be_the_user(tmp_path: Path) -> None:
    with serving(answering()) as server:
        run(command(tmp_path, server.url, 4, "--user-model", "beta", "--topics", "writing"))
        by_model: dict[str, list[Any]] = {}
        for one in server.asked:
            by_model.setdefault(one.fields["model"], []).append(one.fields["messages"])
    assert len(by_model["alpha-chat"]) == len(by_model["beta-chat"])
    assert all(len(messages) == 1 for messages in by_model["beta-chat"])
    assert all("imitate" in messages[0]["content"] for messages in by_model["beta-chat"])


def test_what_a_model_thinks_as_the_user_is_not_what_the_user_says(tmp_path: Path) -> None:
    async def thinks(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        words = f"words {digest_of(asked.body)}"
        writer.write(answered(completion(f"<think>I am the user.</think>\n\n{words}")))
        return True

    with serving(thinks) as server:
        run(command(tmp_path, server.url, 2, "--user-model", "beta"))
    for row in read(tmp_path / "out" / "rows.jsonl"):
        assert len(row["data"]) >= 2
        for index, text in enumerate(row["data"]):
            assert text.startswith("words " if index % 2 == 0 else "<think>"), text


def test_an_answer_that_fails_ends_its_dialogue_before_its_round(tmp_path: Path) -> None:
    fine = answering()
    assert not isinstance(fine, bytes)

    async def picky(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        messages = asked.fields["messages"]
        chance = digest_of(messages) % 6
        if len(messages) > 1 and chance == 0:
            writer.write(refused("400 Bad Request", "content_filter", code="content_filter"))
            return True
        if len(messages) > 1 and chance == 1:
            writer.write(answered(completion("half an ans", finish="length")))
            return True
        return await fine(asked, writer)

    with serving(picky) as server:
        said = run(command(tmp_path, server.url, 30, "--topics", "world"))
        run(command(tmp_path, server.url, 30, "--topics", "world", "--keep-cut", out="kept"))
    assert "dialogues that ended early: cut: " in said and "refused: " in said
    rows = read(tmp_path / "out" / "rows.jsonl")
    assert {row["_provenance"]["ended"] for row in rows} == {None, "cut", "refused"}
    for row in rows:
        assert len(row["data"]) % 2 == 0 and None not in row["data"]
        assert "half an ans" not in row["data"]
        is_short = len(row["data"]) < 2 * row["_provenance"]["rounds"]
        assert is_short == (row["_provenance"]["ended"] is not None)
    kept = read(tmp_path / "kept" / "rows.jsonl")
    assert {row["_provenance"]["ended"] for row in kept} == {None, "refused"}
    assert any("half an ans" in row["data"] for row in kept)


def test_killed_runs_end_with_the_same_rows_and_a_replay_needs_no_server(tmp_path: Path) -> None:
    draws = random.Random(3)
    with serving(answering(delay=0.0005)) as calm:
        run(command(tmp_path, calm.url, 20, out="calm"))
        calls = len(calm.asked)
    with serving(answering(delay=0.0005)) as server:
        words = command(tmp_path, server.url, 20, out="killed")
        for _ in range(3):
            target = len(server.asked) + draws.randint(1, 30)
            child = started(words)
            while len(server.asked) < target and child.poll() is None:
                time.sleep(0.001)
            child.send_signal(signal.SIGKILL)
            child.communicate()
        run(words)
        assert len(server.asked) <= calls + 3 * 4
    rows = (tmp_path / "calm" / "rows.jsonl").read_bytes()
    assert (tmp_path / "killed" / "rows.jsonl").read_bytes() == rows
    (tmp_path / "killed" / "rows.jsonl").unlink()
    run([*words, "--replay"])
    assert (tmp_path / "killed" / "rows.jsonl").read_bytes() == rows


def test_a_dry_run_sends_nothing(tmp_path: Path) -> None:
    with serving(answering()) as server:
        words = command(tmp_path, server.url, 9, "--json")
        (forecast,) = json.loads(run([*words, "--dry-run"]))
        assert not server.asked
        run(words)
        assert forecast["calls"] == len(server.asked)


def test_sectors_can_be_replaced_and_faults_in_them_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "sectors" / "mine"
    folder.mkdir(parents=True)
    files = {
        "sector.toml": "rounds = [1, 1]",
        "topics.txt": "# comment\ntea\n",
        "seeds.txt": "Which tea?\n",
        "first.txt": "=== user\n{{topic}}\n{{examples}}",
        "next.txt": "=== user\n{{dialogue}}",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    sector = load("mine", tmp_path / "sectors")
    assert sector.topics == ["tea"] and sector.rounds == (1, 1) and not sector.materials
    for name, text, named in (
        ("sector.toml", "rounds = [3, 1]", "`rounds` must be"),
        ("sector.toml", "rounds = [1, 1]\nturns = 3", "unknown key `turns`"),
        ("first.txt", "=== user\n{{topic}}", "does not use `{{examples}}`"),
        ("first.txt", "=== user\n{{topic}} {{examples}} {{Topic}}", "unknown name `{{Topic}}`"),
        ("first.txt", "=== human\n{{topic}} {{examples}}", ":1: unknown role `human`"),
        ("next.txt", "hello\n=== user\n{{dialogue}}", "the first line must be"),
        ("next.txt", "=== user\n{{dialogue}}\n=== assistant\nfine", "the last message must be"),
        ("topics.txt", "# nothing\n", "has no lines"),
    ):
        (folder / name).write_text(text, encoding="utf-8")
        with pytest.raises((_core.ConfigError, _core.InputError)) as caught:
            load("mine", tmp_path / "sectors")
        assert named in str(caught.value)
        (folder / name).write_text(files[name], encoding="utf-8")
    with pytest.raises(_core.InputError, match="known: mine"):
        load("other", tmp_path / "sectors")


@pytest.mark.parametrize(
    ("message", "finish", "reason"),
    [
        ({"content": " \n"}, "stop", "empty"),
        ({"content": "", "reasoning_content": "The user …"}, "stop", "empty"),
        ({"content": "half of a"}, "MAX_TOKENS", "cut"),
        ({"content": "Let me look.", "tool_calls": [{"id": "1"}]}, "tool_calls", "tool_call"),
    ],
)
def test_dialogues_without_a_round_are_no_success(
    message: dict[str, str], finish: str, reason: str, tmp_path: Path
) -> None:
    choice = {"message": message, "finish_reason": finish}
    with serving(answered({"model": "x", "choices": [choice]})) as server:
        words = ["generate", "dialogues", "--teacher", "alpha", "--count", 4]
        words += ["--endpoints", endpoints_file(tmp_path, server.url), "--out", tmp_path / "out"]
        for _ in range(2):
            code, out, error = finished(words)
            assert code == 3 and not out
            assert error.startswith("error: none of the 4 rows in") and f"({reason}: 4)" in error
        assert len(server.asked) == 4
    assert [row["data"] for row in read(tmp_path / "out" / "rows.jsonl")] == [[]] * 4
