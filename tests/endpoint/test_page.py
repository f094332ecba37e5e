"""What docs/endpoints.md shows is run here: its file, its table of keys, its commands."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from faulty_server import serving
from honest_server import honest
from zephyr_fast.cli import cli
from zephyr_fast.endpoint.endpoints import _KNOWN, Endpoint, load

PAGE = (Path(__file__).parents[2] / "docs" / "endpoints.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_file_of_the_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-of-the-page")
    (tmp_path / "endpoints.toml").write_text(block("toml"))
    teacher, local = load(tmp_path / "endpoints.toml").values()
    assert teacher.requests_per_minute == 500 and teacher.nanousd(1, 1) == 12_500
    assert local.key is None and not local.has_prices


def test_the_table_has_every_key_with_its_default() -> None:
    rows = re.findall(r"^\| (`.+`) \| (.+?) \| .+ \|$", PAGE, re.MULTILINE)
    shown = {name: default for names, default in rows for name in re.findall(r"`(\w+)`", names)}
    assert shown.keys() == set(_KNOWN)
    defaults = {field.name: field.default for field in fields(Endpoint)}
    for name, default in shown.items():
        if re.fullmatch(r"\d+", default):
            assert defaults[name] == float(default), name


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(honest()) as server:
        local = f'[endpoints.local]\nurl = "{server.url}"\nmodel = "small-chat"\n'
        (tmp_path / "endpoints.toml").write_text(local)
        for line in block("sh").splitlines():
            command = shlex.split(line)
            assert command[0] == "zephyr-fast"
            ended = CliRunner().invoke(cli, command[1:], catch_exceptions=False)
            assert ended.exit_code == 0, ended.output
        said = int(re.findall(r"sends each endpoint (\d+) short calls", PAGE)[0])
        assert len(server.asked) == said
