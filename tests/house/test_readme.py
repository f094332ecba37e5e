"""Whatever the README shows is run here: its commands in their order in an empty directory, with
the output it prints, its picture, and the claims with their figures. Training is cut to two steps.

After a change of output, `python scripts/record_terminal.py` updates the README and the picture.
"""

import html
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from record_terminal import (
    BLOCK,
    PICTURE,
    README,
    ROOT,
    SCENES,
    commands_of,
    drawn,
    plain,
    recorded,
    run_in_terminal,
    transcript,
)

TEXT = README.read_text(encoding="utf-8")
ON_CPU = ["--max_steps", "2", "--eval_strategy", "no"]
CLAIM = re.compile(
    r"^\| \*\*(?:Fast|Verified|Exact)\.\*\* (.+) \| (.+) \| `(.+)` \|$", re.MULTILINE
)
SOURCES = ("docs/benchmarks.md", "docs/reliability.md")
DERIVED = {"18"}
"""Figures of a claim that are computed from two others of the same row."""


def blocks() -> Iterator[tuple[str, str]]:
    for _, language, text, _ in BLOCK.findall(TEXT):
        yield language, text


def run_shell(text: str, directory: Path) -> None:
    """Run the commands of an `sh` block, which must succeed. A backslash at a line's end joins it
    with the next one.
    """
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": here, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    for line in text.replace("\\\n", " ").splitlines():
        command = shlex.split(line, comments=True)
        if "zephyr_fast.train" in command:
            command += ON_CPU
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr[-3000:]}"


def test_the_commands_do_and_print_what_the_readme_shows(tmp_path: Path) -> None:
    printed, ran = "", []
    for language, text in blocks():
        ran.append(language)
        if language == "console":
            assert text == transcript(recorded(commands_of(text), tmp_path))
        elif language == "sh":
            run_shell(text, tmp_path)
        elif language == "python":
            printed = plain(run_in_terminal([sys.executable, "-c", text], tmp_path))
        else:
            assert language == "text" and text == printed
    assert ran == ["console", "sh", "python", "text", "sh"]
    for model in ("tiny-sft", "tiny-dpo"):
        assert (tmp_path / model / "model.safetensors").is_file()
    assert list((tmp_path / "prefs" / "_ref").glob("*/manifest.json"))


def lines_of(picture: str) -> list[str]:
    """The text of an SVG, without the blanks that only fill the terminal."""
    texts = re.findall(r"<text[^>]*>(.*?)</text>", picture, re.DOTALL)
    return [line for text in texts if (line := html.unescape(text).strip())]


def test_the_picture_shows_what_the_commands_print(tmp_path: Path) -> None:
    picture = PICTURE.read_text(encoding="utf-8")
    shown = lines_of(picture)
    assert any("320 read" in line.replace("\xa0", " ") for line in shown)
    assert shown == lines_of(drawn(recorded(SCENES, tmp_path)))
    assert f"]({PICTURE.relative_to(ROOT)})" in TEXT
    assert re.findall(r"https?://[^\"]+", picture) == ["http://www.w3.org/2000/svg"]


def figures_of(text: str) -> set[str]:
    return set(re.findall(r"\d[\d.,]*\d|\d", text)) - DERIVED


def test_the_figures_of_the_claims_are_those_of_the_documents() -> None:
    claims = CLAIM.findall(TEXT)
    assert len(claims) == 3
    known = set().union(*(figures_of((ROOT / name).read_text("utf-8")) for name in SOURCES))
    known |= {figure.replace(",", "") for figure in known}
    for claim, measured, _ in claims:
        unknown = {figure.replace(",", "") for figure in figures_of(claim + measured)} - known
        assert not unknown, f"{unknown} of `{claim}` are in none of {', '.join(SOURCES)}"


@pytest.mark.parametrize("command", [command for _, _, command in CLAIM.findall(TEXT)])
def test_the_command_that_reproduces_a_claim_is_there(command: str) -> None:
    program, subject, *_ = command.split()
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{subject}:.*## ", makefile, re.MULTILINE)
    else:
        assert program == "python" and (ROOT / subject).is_file()


def test_the_make_targets_that_the_readme_names_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`)make ([\w-]+)", TEXT, re.MULTILINE)):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target
