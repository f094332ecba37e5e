"""`--map` and `[source]`: rows whose columns, fields and roles have other names are read as those
with the usual names, and a name that does nothing is refused.
"""

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import commands
import zephyr_fast
from out_folder import ledger, manifest, text_rows
from shell import shell

Row = dict[str, Any]
TEXT = {"shards": {"tokens": False}, "dedup": {"exact": False}}
TALKED = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]


def saved(path: Path, rows: list[Row]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def run(command: str, path: Path, out: Path, *options: str) -> CompletedProcess[str]:
    recipe = commands.PLAIN[command]
    settings = ["--set", "shards.tokens=false", "--set", "dedup.exact=false"]
    return shell(command, recipe, "-i", path, "--out", out, *settings, *options)


CASES: dict[str, tuple[str, Row, list[str], Row]] = {
    "columns": (
        "prep",
        {"frage": "q", "antwort": "a"},
        ["question=frage", "answer=antwort"],
        {"messages": TALKED},
    ),
    "names that look like numbers": (
        "prep",
        {"1": "q", "true": "a"},
        ["prompt=1", "completion=true"],
        {"messages": TALKED},
    ),
    "fields and roles": (
        "prep",
        {"dialog": [{"who": "human.1", "said": "q"}, {"who": "the bot", "said": "a"}]},
        [
            "messages=dialog",
            "role=who",
            "content=said",
            "role.human.1=user",
            "role.the bot=assistant",
        ],
        {"messages": TALKED},
    ),
    "roles alone": (
        "prep",
        {"conversations": [{"from": "kunde", "value": "q"}, {"from": "gpt", "value": "a"}]},
        ["role.kunde=user"],
        {"messages": TALKED},
    ),
    "a swap": (
        "prep",
        {"completion": "q", "prompt": "a"},
        ["prompt=completion", "completion=prompt"],
        {"messages": TALKED},
    ),
    "pairs": (
        "binarize",
        {"ask": "q", "good": "a", "bad": "b"},
        ["prompt=ask", "chosen=good", "rejected=bad"],
        {
            "chosen": TALKED,
            "rejected": [TALKED[0], {"role": "assistant", "content": "b"}],
        },
    ),
    "messages of pairs": (
        "binarize",
        {
            "yes": [{"speaker": "H", "text": "q"}, {"speaker": "A", "text": "a"}],
            "no": [{"speaker": "H", "text": "q"}, {"speaker": "A", "text": "b"}],
        },
        [
            "chosen=yes",
            "rejected=no",
            "role=speaker",
            "content=text",
            "role.H=user",
            "role.A=assistant",
        ],
        {"chosen": TALKED, "rejected": [TALKED[0], {"role": "assistant", "content": "b"}]},
    ),
}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("case", CASES)
def test_rows_with_other_names_are_read(case: str, ending: str, tmp_path: Path) -> None:
    command, row, names, wanted = CASES[case]
    path = saved(tmp_path / f"rows.{ending}", [row] * 3)
    options = [word for name in names for word in ("--map", name)]
    ended = run(command, path, tmp_path / "out", *options)
    assert ended.returncode == 0, ended.stderr
    found = text_rows(tmp_path / "out", "train")
    assert len(found) == 3
    assert {name: found[0][name] for name in wanted} == wanted


def test_the_recipe_and_python_take_the_same_names(tmp_path: Path) -> None:
    path = saved(tmp_path / "rows.jsonl", [{"turns": [["x", "q"]]}, {"q.1": "q", "a": "a"}])
    names: dict[str, Any] = {"source": {"columns": {"prompt": "q.1", "completion": "a"}}}
    zephyr_fast.prep("chat", input=path, out=tmp_path / "python", overrides=TEXT | names)
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        '[source]\nignore = ["turns"]\n[source.columns]\nprompt = "q.1"\ncompletion = "a"\n'
        '[source.roles]\n"gpt-3.5" = "assistant"\n'
    )
    with pytest.raises(zephyr_fast.ConfigError, match=r"no message has the role `gpt-3\.5`"):
        zephyr_fast.prep(recipe, input=path, out=tmp_path / "recipe", overrides=TEXT)
    roles = {"source": {"roles": {"gpt-3.5": "assistant"}}}
    said = {"messages": [TALKED[0], {"role": "gpt-3.5", "content": "a"}]}
    path = saved(tmp_path / "roles.jsonl", [said])
    zephyr_fast.prep("chat", input=path, out=tmp_path / "roles", overrides=TEXT | roles)
    for out in ("python", "roles"):
        assert [row["messages"] for row in text_rows(tmp_path / out, "train")] == [TALKED]


def test_an_ignored_column_neither_decides_nor_refuses(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"prompt": "q", "completion": "a", "images": ["x"], "context": "lost"},
        {"messages": [TALKED[0], TALKED[1] | {"weight": 0.5, "name": "Ann"}], "prompt": "other"},
    ]
    path = saved(tmp_path / "rows.jsonl", rows)
    ignored = '["images", "context", "messages.weight"]'
    ended = run("prep", path, tmp_path / "out", "--set", f"source.ignore={ignored}")
    assert ended.returncode == 0, ended.stderr
    first, second = ledger(tmp_path / "out")
    assert first["outcome"] == "written"
    assert (second["reason"], "`prompt`" in second["detail"]) == ("unsupported_field", True)
    assert "ignore" in second["detail"]
    assert manifest(tmp_path / "out")["inputs"][0].get("unused_columns", []) == []


@pytest.mark.parametrize(
    ("names", "row", "told"),
    [
        (["prompt=qestion"], {"question": "q", "answer": "a"}, "no row has a column `qestion`"),
        (["content=texts"], {"messages": TALKED}, "no message has a field `texts`"),
        (["role.bott=user"], {"messages": TALKED}, "no message has the role `bott`"),
        (["role.bot=boss"], {"messages": TALKED}, "must be one of: system, developer, user"),
        (["prompt=prompt"], {"prompt": "q", "completion": "a"}, "has no effect"),
        (["prompt=a", "question=a"], {"a": "q", "completion": "a"}, "both name the column `a`"),
        (["prompt=a", "prompt=q"], {"q": "q", "completion": "a"}, "`prompt` is given twice"),
        (["rolle.bot=user"], {"messages": TALKED}, "expected NAME=YOURS"),
        (["prompt"], {"messages": TALKED}, "expected NAME=YOURS"),
    ],
)
def test_a_name_that_does_nothing_is_refused(
    names: list[str], row: Row, told: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "rows.jsonl", [row])
    options = [word for name in names for word in ("--map", name)]
    ended = run("prep", path, tmp_path / "out", *options)
    assert ended.returncode == 2, ended.stderr
    assert told in ended.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_ignored_column_that_no_row_has_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "rows.jsonl", [{"messages": TALKED}])
    for name in ("promt", "messages.wieght", "content"):
        ended = run("prep", path, tmp_path / "out", "--set", f'source.ignore=["{name}"]')
        assert ended.returncode == 2, ended.stderr
        assert f"`source.ignore`: no row has `{name}`" in ended.stderr


def test_a_mapped_column_is_missed_behind_many_others(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "a"} | {f"column{n}": n for n in range(99)} | {"tip": "t"}
    path = saved(tmp_path / "rows.jsonl", [row, {"question": "q", "answer": "a"}])
    assert run("prep", path, tmp_path / "out", "--map", "hint=tip").returncode == 0
    assert ledger(tmp_path / "out")[0]["reason"] == "unsupported_field"


def test_a_row_that_would_lose_a_column_is_refused_by_name(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"question": "q", "answer": "a"},
        {"question": "q", "answer": "a", "prompt": None},
        {"question": "q", "answer": "a", "prompt": "p"},
    ]
    path = saved(tmp_path / "rows.jsonl", rows)
    options = ["--map", "prompt=question", "--map", "completion=answer"]
    assert run("prep", path, tmp_path / "both", *options).returncode == 0
    found = ledger(tmp_path / "both")
    assert [line["outcome"] for line in found] == ["written", "written", "quarantined"]
    assert "`question`, which `source.columns` names so, is there too" in found[2]["detail"]
    # The row has the column, although it is refused before that.
    path = saved(tmp_path / "rows.jsonl", [{"prompt": "p", "completion": "a"}])
    ended = run("prep", path, tmp_path / "neither", "--map", "prompt=completion")
    assert ended.returncode == 3
    assert "`completion`, which `source.columns` names so, is there too" in ended.stderr
    # Rows of this shape have no column `hint`.
    rows = [{"question": "q", "answer": "a", "tip": "t"}, {"question": "q", "answer": "a"}]
    path = saved(tmp_path / "rows.jsonl", rows)
    assert run("prep", path, tmp_path / "unread", "--map", "hint=tip").returncode == 0
    refused = ledger(tmp_path / "unread")[0]
    assert refused["reason"] == "unsupported_field"
    assert "`source.columns.hint` names this column" in refused["detail"]
