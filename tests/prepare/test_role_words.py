"""Words of rows that stand for a role of another name: the summary and the manifest list them, as
many as are bounded, and the same ones for any number of threads.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import commands
import zephyr_fast
from out_folder import files, manifest
from shell import shell
from zephyr_fast.dataset.manifest import Manifest, RoleWordsEntry, seal
from zephyr_fast.prepare.summary import lines

Row = dict[str, Any]
TEXT = {"shards.tokens": False, "dedup.exact": False}
LONG = "b" * 5_000
HOSTILE = "\x1b[31m[bold]bot[/bold]\n:smile:\u202e"


def saved(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def messages(*words: str, speaker: str = "role", text: str = "content") -> list[Row]:
    return [{speaker: word, text: f"text {number}"} for number, word in enumerate(words)]


def shared(*words: str) -> Row:
    return {"conversations": messages(*words, speaker="from", text="value")}


def run(
    command: str, rows: list[Row], folder: Path, roles: dict[str, str] | None = None, **options: Any
) -> Manifest:
    path = saved(folder / "rows.jsonl", rows)
    out = folder / f"out-{options.get('threads', 'any')}"
    settings: Row = TEXT | ({"source": {"roles": roles}} if roles else {})
    recipe = commands.PLAIN[command]
    return commands.function(command)(recipe, input=path, out=out, overrides=settings, **options)


def shapes(made: Manifest) -> str:
    """The line of the summary."""
    [value] = [value for label, value in lines(made, Path("out")) if label == "shapes"]
    return value


TREE = {"role": "prompter", "text": "q", "replies": [{"role": "assistant", "text": "a", "rank": 0}]}
ANSWERS = {"chosen": "a", "rejected": "b"}
PAIR = {name: [*messages("H"), {"role": "A", "content": name}] for name in ANSWERS}

CASES: dict[str, tuple[str, Row, dict[str, str], str]] = {
    "sharegpt": (
        "prep", shared("system", "human", "gpt", "human", "GPT"), {},
        "sharegpt 3 (roles human→user, GPT→assistant, gpt→assistant)",
    ),
    "sharegpt of texts": ("prep", {"conversations": ["q", "a"]}, {}, "sharegpt 3"),
    "roles of the same name": ("prep", shared("user", "assistant"), {}, "sharegpt 3"),
    "oasst": (
        "prep", {"message_tree_id": "t", "prompt": TREE}, {}, "oasst 3 (roles prompter→user)",
    ),
    "oasst_ranked": (
        "binarize",
        {"message_tree_id": "t",
         "prompt": TREE | {"replies": [{"role": "assistant", "text": t, "rank": r}
                                       for r, t in enumerate("ab")]}},
        {}, "oasst_ranked 3 (roles prompter→user)",
    ),
    "ultrainteract": (
        "binarize", {"trajectory": messages("human", speaker="from", text="value")} | ANSWERS, {},
        "ultrainteract 3 (roles human→user)",
    ),
    "messages": ("prep", {"messages": messages("user", "assistant")}, {}, "messages 3"),
    "messages with names of one's own": (
        "prep", {"messages": messages("human", "bot")}, {"bot": "assistant", "human": "user"},
        "messages 3 (roles human→user, bot→assistant)",
    ),
    "a name of one's own goes first": (
        "prep", shared("gpt", "human", "bot"), {"gpt": "system", "bot": "assistant"},
        "sharegpt 3 (roles gpt→system, human→user, bot→assistant)",
    ),
    "pair": (
        "binarize", PAIR, {"H": "user", "A": "assistant"}, "pair 3 (roles H→user, A→assistant)",
    ),
    "prompt_completion": (
        "prep", {"prompt": messages("x y"), "completion": "a"}, {"x y": "user"},
        "prompt_completion 3 (roles x y→user)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_summary_says_which_words_stand_for_which_roles(case: str, tmp_path: Path) -> None:
    command, row, roles, wanted = CASES[case]
    made = run(command, [row] * 3, tmp_path, roles)
    assert made.rows.written == 3, made.rows
    assert shapes(made) == wanted


def test_the_command_prints_and_records_them(tmp_path: Path) -> None:
    path = saved(tmp_path / "rows.jsonl", [{"messages": messages("user", "bot")}] * 2)
    settings = ("--set", "shards.tokens=false", "--map", "role.bot=assistant")
    ended = shell("prep", "chat", "-i", path, "--out", tmp_path / "out", *settings)
    assert ended.returncode == 0, ended.stderr
    assert "shapes           messages 2 (roles bot→assistant)" in ended.stdout.splitlines()
    assert manifest(tmp_path / "out")["role_words"] == {
        "messages": {"roles": {"bot": "assistant"}, "has_more": False}
    }


def test_each_shape_of_a_mixed_file_has_its_own_words(tmp_path: Path) -> None:
    rows: list[Row] = [{"message_tree_id": "t", "prompt": TREE}] * 3
    rows += [{"messages": messages("user", "bot")}]
    rows += [shared("human", "gpt"), shared("prompter", "bot")]
    made = run("prep", rows * 50, tmp_path, {"bot": "assistant"})
    assert shapes(made) == (
        "oasst 150 (roles prompter→user), "
        "sharegpt 100 (roles human→user, prompter→user, bot→assistant, gpt→assistant), "
        "messages 50 (roles bot→assistant)"
    )


def test_only_words_that_were_read_are_listed(tmp_path: Path) -> None:
    said = messages("user", "assistant")
    rows: list[Row] = [
        {"messages": said, "draft": messages("bot", "bot")},
        shared("human", "gpt", "function_call"),  # not read
        {"messages": messages("user", "narrator")},  # not a known role
    ]
    made = run("prep", rows, tmp_path, {"bot": "assistant"})
    assert (made.rows.read, made.rows.written) == (3, 1)
    assert made.role_words == {}
    swapped = {"dialog": messages("assistant", "user"), "draft": messages("bot")}
    path = saved(tmp_path / "named.jsonl", [swapped])
    roles = {"bot": "assistant", "user": "assistant", "assistant": "user"}
    named = {"source": {"columns": {"messages": "dialog"}, "roles": roles}}
    made = zephyr_fast.prep("chat", input=path, out=tmp_path / "named", overrides=TEXT | named)
    found = RoleWordsEntry({"assistant": "user", "user": "assistant"}, has_more=False)
    assert made.role_words == {"messages": found}


def test_hostile_words_are_shown_as_plain_text(tmp_path: Path) -> None:
    roles = {HOSTILE: "assistant", LONG: "user", "": "system"}
    path = saved(tmp_path / "rows.jsonl", [{"messages": messages("", LONG, HOSTILE)}] * 2)
    recipe = tmp_path / "mine.toml"
    named = "".join(f"{json.dumps(word)} = {json.dumps(role)}\n" for word, role in roles.items())
    recipe.write_text(f"[shards]\ntokens = false\n[source.roles]\n{named}", encoding="utf-8")
    ended = shell("prep", recipe, "-i", path, "--out", tmp_path / "out")
    assert ended.returncode == 0, ended.stderr
    [line] = [line for line in ended.stdout.splitlines() if line.startswith("shapes")]
    assert r"\x1b[31m[bold]bot[/bold]\n:smile:\u202e→assistant" in line and "\x1b" not in line
    assert f"{'b' * 40}→user" in line and "b" * 41 not in line
    found = manifest(tmp_path / "out")["role_words"]["messages"]["roles"]
    assert found == {HOSTILE: "assistant", "b" * 40: "user", "": "system"}


def test_many_words_are_bounded_and_do_not_depend_on_threads(tmp_path: Path) -> None:
    pairs = itertools.product(*((letter, letter.upper()) for letter in "assistant"))
    words = ["".join(letters) for letters in pairs][1:]
    rows = [shared("human", words[number % len(words)]) for number in range(3_000)]
    made = [run("prep", rows, tmp_path, threads=threads) for threads in (1, 5)]
    first = {"human": "user"} | dict.fromkeys(words[:31], "assistant")
    assert made[0].role_words == {"sharegpt": RoleWordsEntry(first, has_more=True)}
    assert files(tmp_path / "out-1") == files(tmp_path / "out-5")
    listed = [f"{word}→assistant" for word in sorted(words[:31])[:11]]
    assert shapes(made[1]) == (
        f"sharegpt 3,000 (roles human→user, {', '.join(listed)} and 20 more, and others that the "
        "manifest does not list)"
    )


def test_a_manifest_without_the_field_can_be_read(tmp_path: Path) -> None:
    run("prep", [shared("human", "gpt")] * 2, tmp_path)
    path = tmp_path / "out-any" / "manifest.json"
    fields = json.loads(path.read_text())
    assert fields.pop("role_words") and fields.pop("sha256")
    path.write_text(seal(fields))
    assert Manifest.read(tmp_path / "out-any").role_words == {}
