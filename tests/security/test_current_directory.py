"""A current directory of a stranger: nothing in it is imported or taken for a setting."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collecting import endpoints_file
from shell import PACKAGE
from zephyr_fast.evaluate.mt_bench import TEMPERATURES
from zephyr_fast.evaluate.result import Figure, Result

INSTALLED = "import sys; from zephyr_fast.cli import main; sys.exit(main())"
"""What the installed command does. Unlike `python -m`, it does not search the directory."""

MODULES = [
    "_core alpaca_eval asyncio base64 click collections contextlib ctypes encodings io json",
    "lm_eval numpy os pandas pathlib pyarrow re resource runpy shutil signal site subprocess",
    "sitecustomize tempfile threading tokenize typing usercustomize zephyr_fast",
]
"""What a child imports: its own modules and those of the libraries."""


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A directory full of modules that leave a file."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in " ".join(MODULES).split():
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write('{name} ')\n"
        )
    return folder


def run(folder: Path, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    """The installed command in this directory; its code is left alone."""
    around = os.environ | {"PYTHONPATH": str(PACKAGE), "HF_HUB_OFFLINE": "1"}
    line = [sys.executable, "-P", "-c", INSTALLED, *map(str, words)]
    return subprocess.run(line, cwd=folder, env=around, capture_output=True, text=True, check=False)


def test_a_template_s_child_imports_nothing_from_it(planted: Path, tmp_path: Path) -> None:
    written = "{% for m in messages %}{{ m.role + m.content }}</s>{% endfor %}"
    (tmp_path / "unknown.jinja").write_text(written)
    words = ["prep", "ultrachat", "--input", "sample", "--out", tmp_path / "out"]
    done = run(planted, *words, "--set", f'template.name="{tmp_path / "unknown.jinja"}"')
    assert not (tmp_path / "ran").exists() and done.returncode == 0, done.stderr


def test_a_reader_of_prompts_imports_nothing_from_it(planted: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"prompt": ["Why?", "How?"]}), tmp_path / "p.parquet")
    words = ["feedback", "collect", "--prompts", tmp_path / "p.parquet", "--dry-run"]
    words += ["--endpoints", endpoints_file(tmp_path, "http://127.0.0.1:9/v1")]
    words += ["--pool", "alpha,beta", "--judge", "judge", "--out", tmp_path / "out"]
    done = run(planted, *words)
    assert not (tmp_path / "ran").exists() and done.returncode == 0, done.stderr
    assert "alpha: 2 calls" in done.stdout


def test_the_package_of_the_length_controlled_rate_is_not_one_in_it(
    planted: Path, tmp_path: Path
) -> None:
    row: dict[str, Any] = {"output_1": "a", "output_2": "b", "annotator": "j", "preference": 1.0}
    rows = [
        row | {"instruction": f"Question {n}?", "generator_1": "base", "generator_2": "model"}
        for n in range(805)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    words = ["evaluate", "score", tmp_path / "rows.json", "--set", tmp_path / "rows.json"]
    words += ["--length-controlled", sys.executable, "--out", tmp_path / "result.json"]
    done = run(planted, *words)
    assert not (tmp_path / "ran").exists() and done.returncode == 4, done.stderr
    assert "cannot compute the length-controlled win rate" in done.stderr


def test_lm_eval_is_not_one_in_it(planted: Path, tmp_path: Path, start: Path) -> None:
    words = ["evaluate", "leaderboard", "--model", start, "--tasks", "arc_challenge"]
    done = run(planted, *words, "--out", tmp_path / "out", "--python", sys.executable)
    assert not (tmp_path / "ran").exists() and done.returncode == 4, done.stderr
    assert "No module named lm_eval" in done.stderr


def test_settings_of_matplotlib_in_it_change_no_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figures = {name: Figure(5.0, 20) for name in TEMPERATURES}
    figures |= {name: Figure(5.0, 80) for name in ("overall", "turn 1", "turn 2")}
    fields: dict[str, Any] = {"judge": "j", "rules": "strict", "prompts": "p", "questions": "q"}
    fields |= {"judge_versions": (), "judge_fingerprints": (), "created": "2026", "holes": {}}
    result = Result("mt-bench", "m", unit="score", n=160, figures=figures, **fields)
    result.write(tmp_path / "result.json")
    pictures = []
    for rc in ("", "text.usetex: True\nfont.size: 40\nlines.linewidth: 9\nsavefig.dpi: 11\n"):
        folder = tmp_path / f"directory-{len(rc)}"
        folder.mkdir()
        (folder / "matplotlibrc").write_text(rc)
        done = run(folder, "radar", tmp_path / "result.json", "--out", "radar.png")
        assert done.returncode == 0, done.stderr
        pictures.append([(folder / f"radar.{kind}").read_bytes() for kind in ("png", "svg")])
    assert pictures[0] == pictures[1]
