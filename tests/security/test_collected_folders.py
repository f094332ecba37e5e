"""Directories and files that commands which ask models read and write: no link inside them is
followed, no FIFO is waited for, and names are no markup.
"""

import os
from pathlib import Path

import pytest

from hostile_inputs import fifo
from zephyr_fast import InputError, StorageError, ZephyrError
from zephyr_fast.collection import prompts
from zephyr_fast.collection.directory import Directory
from zephyr_fast.endpoint.batch import results
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.evaluate import radar
from zephyr_fast.evaluate.comparison import compared
from zephyr_fast.evaluate.result import OVERALL, Figure, Result
from zephyr_fast.printed import in_markdown

SETTINGS = {"seed": 1}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("inside", [{}, {"settings.json": b'{"seed":1}\n'}, {"calls.jsonl": b""}])
def test_a_log_directory_that_is_a_link_is_not_followed(
    inside: dict[str, bytes], tmp_path: Path
) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.mkdir()
    out.mkdir()
    for name, content in inside.items():
        (victim / name).write_bytes(content)
    (out / "_log").symlink_to(victim)
    with pytest.raises(ZephyrError):
        Directory(out).claim(SETTINGS)
    with pytest.raises(InputError, match="it is a link, which is not followed"):
        Directory(out).open_log()
    assert contents(victim) == inside


@pytest.mark.parametrize("name", ["results/a.json", "model_answer/a.jsonl", "rows.jsonl"])
def test_no_file_is_written_through_a_link(name: str, tmp_path: Path) -> None:
    victim, out = tmp_path / "victim", Directory(tmp_path / "out")
    victim.mkdir()
    (victim / "theirs").write_bytes(b"kept")
    out.claim(SETTINGS)
    above, _, last = name.rpartition("/")
    if above:
        (out.path / above).symlink_to(victim)
        with pytest.raises(StorageError, match="it is a link, which is not followed"):
            out.write_file(name, [b"ours"])
    else:
        (out.path / last).symlink_to(victim / "theirs")
        out.write_file(name, [b"ours"])
        assert not (out.path / last).is_symlink() and (out.path / last).read_bytes() == b"ours"
    assert contents(victim) == {"theirs": b"kept"}


def test_rows_and_settings_are_not_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b'{"secret":1}\n')
    out = Directory(tmp_path / "out")
    out.claim(SETTINGS)
    out.rows.symlink_to(tmp_path / "theirs")
    with pytest.raises(InputError, match=r"cannot read `.*rows.jsonl`"):
        list(out.read())
    (out.path / "_log" / "settings.json").unlink()
    (out.path / "_log" / "settings.json").symlink_to(tmp_path / "theirs")
    with pytest.raises(InputError, match="it is a link, which is not followed"):
        out.settings()


def test_a_fifo_is_never_waited_for(tmp_path: Path) -> None:
    out = Directory(tmp_path / "out")
    out.claim(SETTINGS)
    os.mkfifo(out.rows)
    with pytest.raises(InputError, match=r"rows\.jsonl"):
        list(out.read())
    for name in ("prompts.jsonl", "prompts.parquet", "prompts.txt"):
        with pytest.raises(InputError, match="not a regular file"):
            prompts.load([fifo(tmp_path / name)])
    with CallLog(tmp_path / "log") as log, pytest.raises(InputError, match="cannot read"):
        results([], {}, log, [fifo(tmp_path / "batch.jsonl")])


def hostile(name: str) -> Result:
    figures = {OVERALL: Figure(5.0, 3), **{f"{name}{n}": Figure(5.0, 1) for n in range(3)}}
    texts = ("mt-bench", name, name, (), (), "p", "q", "strict", "2026", "score")
    return Result(*texts, n=3, figures=figures)


@pytest.mark.parametrize(
    "name",
    [
        r"$\frac{$",
        "$\\undefined$",
        "a|b",
        "![x](http://evil/p.png)",
        "<script>x</script>",
        "\x1b[2J",
    ],
)
@pytest.mark.parametrize("bars", [False, True])
def test_names_in_pictures_and_tables_are_drawn_as_they_are(name: str, bars: bool) -> None:
    result = hostile(name)
    categories = radar.categories_of([result], False)
    svg = radar.rendered(radar.drawn([result], categories, bars), "svg").decode()
    assert "<script>" not in svg and "\x1b" not in svg
    if name.startswith("$"):
        assert f"{name}0" in svg
    for text in (radar.table([result], categories), compared([result], [], False).markdown()):
        cells = [
            line.replace("\\|", "").count("|") for line in text.splitlines() if line[:1] == "|"
        ]
        assert len(set(cells)) == 1, text
        assert "\x1b" not in text and "http://" not in text
        assert "<" not in text.replace("\\<", "") and "](" not in text.replace("\\](", "")


def test_common_names_stay_as_they_are_in_markdown() -> None:
    for name in ("zephyr-7b-beta", "HuggingFaceH4/zephyr_7b", "Llama 2 (70B) 1.5 %"):
        assert in_markdown(name) == name
