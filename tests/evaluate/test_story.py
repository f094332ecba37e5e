"""The whole recipe in one script: it ends with a table and a radar, and after kills nothing is paid
twice beyond the calls that were in flight.

Training is marked as done and its models are copies of the start, unless ZEPHYR_FAST_LONG is set.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from answering_server import completion, digest_of
from children import PYTHONPATH
from collecting import read
from faulty_server import Action, Asked, FaultyServer, answered, serving

SCRIPTS = Path(__file__).parents[2] / "scripts"
SAMPLE = Path(__file__).parents[2] / "python" / "zephyr_fast" / "sample"
NAMES = ("teacher", "judge", "base", "sft", "dpo1", "dpo2")
CONCURRENCY = 2
KILLS = 3
LONG = bool(os.environ.get("ZEPHYR_FAST_LONG"))


def everyone() -> Action:
    """An action that plays the teacher, the students and the judge of the script's prompts."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.005)
        fields = completion(asked.fields)
        if asked.fields["messages"][0]["content"].startswith("You grade answers"):
            fields["choices"][0]["message"]["content"] = f"[[{1 + digest_of(asked.body) % 10}]]"
        writer.write(answered(fields))
        await writer.drain()
        return True

    return answer


def endpoints_of(folder: Path, url: str) -> Path:
    lines = [
        f'[endpoints.{name}]\nurl = "{url}"\nmodel = "{name}"\nconcurrency = {CONCURRENCY}\n'
        for name in NAMES
    ]
    path = folder / "endpoints.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def started(*words: object) -> "subprocess.Popen[str]":
    """The script, in a process group that a kill ends as a whole."""
    return subprocess.Popen(
        ["bash", str(SCRIPTS / "zephyr.sh"), *map(str, words)],
        env=os.environ | {"PYTHONPATH": PYTHONPATH, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_after(calls: int, server: FaultyServer, *words: object) -> None:
    child = started(*words)
    while len(server.asked) < calls and child.poll() is None:
        time.sleep(0.002)
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def with_models(start: Path, out: Path) -> Path:
    """A start model with the bundled tokenizer. Its copies stand for what is not trained here."""
    model = out.parent / "start"
    shutil.copytree(start, model)
    shutil.copytree(SAMPLE / "tokenizer", model, dirs_exist_ok=True)
    for name in () if LONG else ("sft", "dpo1", "dpo2"):
        shutil.copytree(model, out / name)
    (out / "done").mkdir(parents=True)
    trained = ("sft", "ref-logprobs-1", "dpo1", "ref-logprobs-2", "dpo2")
    for name in () if LONG else trained:
        (out / "done" / name).touch()
    return model


def paid_twice(logs: list[Path]) -> int:
    """How many calls were sent again although their first answer may have been paid."""
    keys = Counter(line["sent"] for log in logs for line in read(log) if "sent" in line)
    return keys.total() - len(keys)


def test_killed_at_random_points_the_script_ends_with_a_radar(start: Path, tmp_path: Path) -> None:
    draws, out = random.Random(3), tmp_path / "story"
    model = with_models(start, out)
    with serving(everyone()) as server:
        words = ("--out", out, "--endpoints", endpoints_of(tmp_path, server.url), "--model", model)
        for kill in range(KILLS):
            kill_after(draws.randint(1, 60) + 60 * kill, server, *words)
        last = started(*words)
        text, _ = last.communicate(timeout=900)
        assert last.returncode == 0, text
        asked = len(server.asked)
        again = started(*words)
        repeated, _ = again.communicate(timeout=120)
        assert again.returncode == 0 and len(server.asked) == asked, repeated
        second = started(*words, "--rounds", 2)
        longer, _ = second.communicate(timeout=900)
        assert second.returncode == 0 and "| dpo2 |" in longer, longer
        answered_later = {one.fields["model"] for one in server.asked[asked:]}
        assert answered_later == {"teacher", "dpo1", "dpo2", "judge"}, "sft and base are done"
        answers = [row["models"] for row in read(out / "feedback-2" / "rows.jsonl")]
        assert all(sorted(names) == ["dpo1", "dpo1", "teacher"] for names in answers)
    logs = sorted(out.rglob("calls.jsonl"))
    places = [log.parents[1].name for log in logs]
    assert places == ["dialogues", "feedback-1", "feedback-2", "base", "dpo1", "dpo2", "sft"]
    assert paid_twice(logs) <= KILLS * CONCURRENCY * 3, "teacher, student and judge"
    for name in ("base", "sft", "dpo1"):
        result = json.loads((out / "mt-bench" / name / "results" / "judge.json").read_text())
        assert result["n"] == 16 and not result["holes"] and f"| {name} |" in text
    for row in read(out / "feedback-1" / "rows.jsonl"):
        assert len(row["_provenance"]["verdicts"]) == 3 * 5
    assert (out / "radar.png").is_file() and "| writing |" in (out / "radar.md").read_text()
    shown = started(*words[:-1], tmp_path)
    text, _ = shown.communicate(timeout=60)
    assert shown.returncode == 5 and "belongs to a run with other settings" in text


def test_the_files_of_the_script_are_read_by_the_commands() -> None:
    from zephyr_fast.endpoint.endpoints import load
    from zephyr_fast.evaluate.mt_bench import TEMPERATURES, prompts_of, read_questions

    folder = SCRIPTS / "zephyr"
    assert list(load(folder / "endpoints.toml")) == [*NAMES]
    found = read_questions(folder / "questions.jsonl", folder / "references.jsonl")
    assert {one["category"] for one in found.by_id.values()} == set(TEMPERATURES)
    assert len(prompts_of(folder / "judge_prompts")) == 4


def test_what_the_script_cannot_do_is_said_before_it_begins(tmp_path: Path) -> None:
    endpoints = endpoints_of(tmp_path, "http://127.0.0.1:9/v1")
    words = ["--out", tmp_path / "story", "--endpoints", endpoints, "--model", tmp_path]
    for more, code, line in (
        (["--rounds", 3], 4, "has no [endpoints.dpo3], which 3 round(s) of DPO need"),
        (["--rounds", 0], 2, "usage: "),
        (["--rounds", "many"], 2, "usage: "),
        (["--rounds"], 2, "usage: "),
        (["--turns", 2], 2, "usage: "),
    ):
        child = started(*words, *more)
        text, _ = child.communicate(timeout=60)
        assert child.returncode == code and line in text.splitlines()[-1], text
    assert not list((tmp_path / "story").glob("*/rows.jsonl"))
