"""The leaderboard's tasks run in lm-eval, and its figures are read back unchanged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from real_data import real_path
from shell import PACKAGE, refusal, shell
from zephyr_fast.evaluate.result import read_result

LM_EVAL = os.environ.get("ZEPHYR_FAST_LM_EVAL", "")
needs_lm_eval = pytest.mark.skipif(
    not Path(LM_EVAL, "lm_eval").is_dir(),
    reason="set ZEPHYR_FAST_LM_EVAL to a directory of packages with lm-eval",
)


def task_file(folder: Path) -> Path:
    """A task on local rows, as a user writes it."""
    rows = [{"q": f"{n} and {n} is", "c": [f" {2 * n}", " red"], "a": n % 2} for n in range(8)]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = folder / "tasks"
    tasks.mkdir()
    (tasks / "local_sums.yaml").write_text(
        "task: local_sums\ndataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {data}\n"
        "test_split: test\noutput_type: multiple_choice\n"
        'doc_to_text: "{{q}}"\ndoc_to_choice: "{{c}}"\ndoc_to_target: a\n'
        "metric_list:\n  - metric: acc\n  - metric: acc_norm\nnum_fewshot: 0\n"
        "metadata:\n  version: 1.0\n"
    )
    return tasks


@needs_lm_eval
def test_figures_equal_those_of_lm_eval_run_by_hand(tmp_path: Path) -> None:
    model, tasks = real_path("models/aidreams260K"), task_file(tmp_path)
    around = {
        "PYTHONPATH": f"{PACKAGE}:{LM_EVAL}",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "home"),
    }
    words = ["evaluate", "leaderboard", "--model", model, "--tasks", "local_sums"]
    words += ["--include", tasks, "--out", tmp_path / "out"]
    done = shell(*words, **around)
    assert done.returncode == 0, done.stderr
    again = shell(*words, **around)
    assert again.stdout == done.stdout and "lm-eval runs" not in again.stderr
    by_hand = [sys.executable, "-m", "lm_eval", "--model", "hf", "--tasks", "local_sums"]
    by_hand += ["--model_args", f"pretrained={model}", "--include_path", str(tasks)]
    by_hand += ["--output_path", str(tmp_path / "hand")]
    subprocess.run(by_hand, env=os.environ | around, check=True, capture_output=True)
    (report,) = (tmp_path / "hand").rglob("results_*.json")
    scores = json.loads(report.read_text())["results"]["local_sums"]
    result = read_result(tmp_path / "out" / "results" / "leaderboard.json")
    for metric in ("acc", "acc_norm"):
        figure = result.figures[f"local_sums {metric}"]
        assert (figure.value, figure.n) == (100 * scores[f"{metric},none"], 8)
        assert figure.stderr == 100 * scores[f"{metric}_stderr,none"]
    line = refusal(5, *words, "--limit", "2", **around)
    assert "belongs to a run with another limit" in line


def test_a_missing_lm_eval_or_model_is_one_line(tmp_path: Path) -> None:
    model = real_path("models/aidreams260K")
    words = ["evaluate", "leaderboard", "--out", tmp_path / "out", "--tasks", "arc_challenge"]
    assert "is not a directory" in refusal(4, *words, "--model", tmp_path / "none")
    done = shell(*words, "--model", model, "--python", "python3", PYTHONPATH=str(PACKAGE))
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 4 and line.startswith("error: lm-eval failed on arc_challenge")
    assert line.endswith("; install lm-eval there, or pass --python")
    assert "separated by commas" in refusal(2, *words, "--model", model, "--tasks", "a,a")
