"""The benchmarks answer `--help`, take turns as they say, and what they share measures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "scripts" / "benchmarks"
SCRIPTS = sorted(
    path for path in BENCHMARKS.glob("*.py") if "parser_of(__doc__)" in path.read_text("utf-8")
)


def said(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=BENCHMARKS,
        env=os.environ | variables,
    )


def test_the_table_of_benchmarks_names_each_of_them() -> None:
    table = (BENCHMARKS / "README.md").read_text("utf-8")
    assert len(SCRIPTS) >= 6
    assert [path.name for path in SCRIPTS if f"`{path.name}`" not in table] == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_explains_itself(script: Path) -> None:
    told = said(script, "--help")
    assert told.returncode == 0, told.stderr
    assert f"python scripts/benchmarks/{script.name}" in told.stdout


def test_every_other_turn_runs_backwards_and_without_those_that_were_removed() -> None:
    told = said(
        "-c",
        "from measuring import in_turns\n"
        "left = dict.fromkeys('abc')\n"
        "for turn, name in in_turns(left, 3):\n"
        "    print(turn, name)\n"
        "    if (turn, name) == (1, 'c'): del left['c']\n",
    )
    assert told.stdout.split("\n")[:-1] == ["0 a", "0 b", "0 c", "1 c", "1 b", "1 a", "2 a", "2 b"]


def test_a_process_is_measured_with_its_children_and_its_failure_is_shown() -> None:
    told = said(
        "-c",
        "import sys\n"
        "from measuring import run_process\n"
        "child = 'import time\\nwhile time.process_time() < 0.3: pass'\n"
        "parent = f'import subprocess, sys\\nsubprocess.run([sys.executable, \"-c\", {child!r}])'\n"
        "ended = run_process([sys.executable, '-c', parent], sample_memory=True)\n"
        "assert ended.cpu >= 0.3 and ended.wall >= 0.3 and ended.memory > 1e6, ended\n"
        "run_process([sys.executable, '-c', 'raise SystemExit(\"the reason\")']).report('it')\n",
    )
    assert told.returncode == 1
    assert told.stderr == "`it` failed with exit code 1:\nthe reason\n\n"


def test_data_that_is_not_here_is_looked_for_where_the_variable_says(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    ask = ("-c", "import sys\nfrom real_data import located\nprint(located(sys.argv[1]))")
    found = said(*ask, "rows.jsonl", ZEPHYR_FAST_DATA=str(tmp_path))
    assert found.stdout == f"{tmp_path / 'rows.jsonl'}\n"
    missing = said(*ask, "others.jsonl", ZEPHYR_FAST_DATA=str(tmp_path))
    assert missing.returncode == 1
    assert "ZEPHYR_FAST_DATA" in missing.stderr and str(tmp_path) in missing.stderr
