"""`zephyr-fast recipe`: the recipe as it runs, and the keys of recipes, as a shell sees them."""

import pty
import subprocess
import tomllib
from pathlib import Path

import pytest

from shell import command, refusal, shell
from zephyr_fast.prepare import recipe_keys
from zephyr_fast.prepare.recipe import RECIPES, bundled


@pytest.mark.parametrize("name", bundled())
def test_a_shown_recipe_runs_as_the_recipe_itself(name: str, tmp_path: Path) -> None:
    first = shell("recipe", "show", name)
    assert (first.returncode, first.stderr) == (0, "")
    copy = tmp_path / "copy.toml"
    copy.write_text(first.stdout)
    assert shell("recipe", "show", copy).stdout == first.stdout
    source = tomllib.loads((RECIPES / f"{name}.toml").read_text(encoding="utf-8")).get("source", {})
    assert tomllib.loads(first.stdout)["source"].items() >= source.items()


def test_it_has_the_choices_of_its_preset_and_what_is_set() -> None:
    settings = ("--set", "binarize.preset=argilla", "--set", "shards.test_fraction=0.25")
    found = tomllib.loads(shell("recipe", "show", "ultrafeedback", *settings).stdout)
    assert found["binarize"]["strategy"] == "best-vs-random-lower"
    assert found["shards"]["test_fraction"] == 0.25


def test_a_wrong_key_or_a_recipe_that_is_not_there_is_an_error() -> None:
    assert "lenght" in refusal(2, "recipe", "show", "ultrachat", "--set", "pack.lenght=4")
    assert "KEY=VALUE" in refusal(2, "recipe", "show", "ultrachat", "--set", "pack.seq_len")
    assert "ultrachat" in refusal(2, "recipe", "show", "ultrachatt")


def test_piped_keys_are_one_line_each() -> None:
    lines = [line.split("\t") for line in shell("recipe", "keys").stdout.splitlines()]
    assert [line[0] for line in lines] == [key.name for key in recipe_keys.all_keys()]
    assert {len(line) for line in lines} == {5}
    (line,) = shell("recipe", "keys", "seq_len").stdout.splitlines()
    assert line.split("\t")[:4] == [
        "pack.seq_len",
        "integer, between 8 and 1048576",
        "prep",
        "2048",
    ]
    names = [line.split("\t")[0] for line in shell("recipe", "keys", "dedup.*").stdout.splitlines()]
    assert names == ["dedup.exact", "dedup.near", "dedup.of", "dedup.threshold"]


def test_a_key_that_does_not_exist_gets_a_suggestion() -> None:
    assert refusal(2, "recipe", "keys", "seq_length").endswith("did you mean `seq_len`?")
    assert refusal(2, "recipe", "keys", "qqqq").endswith("no recipe key matches `qqqq`")


def test_a_terminal_gets_wrapped_text_with_the_values() -> None:
    line, around = command("recipe", "keys", "train_on", COLUMNS="60")
    outer, inner = pty.openpty()
    with open(outer, "rb", closefd=True) as screen:
        done = subprocess.run(line, env=around, stdout=inner, stderr=inner, check=False)
        text = screen.read1(65536).decode().replace("\r\n", "\n")
    assert done.returncode == 0
    assert text.startswith('tokenize.train_on (string, `prep` only, default: "assistant")\n    ')
    assert "\n      assistant: " in text and "\n      all: " in text
    assert all(len(row) <= 60 for row in text.splitlines()[1:])
