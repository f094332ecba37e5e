"""Ctrl-C and SIGTERM end `merge` and `feedback report` in the middle of their work, and no half of
a result is taken for a whole one.
"""

import json
import signal
from pathlib import Path

import pytest

from collecting import written
from shell import command, ended_by, opened, popen
from simulated import Simulated, rows, settings

BOTH = pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_a_report_on_many_rows_is_left(sent: signal.Signals, tmp_path: Path) -> None:
    judges = (Simulated("one"), Simulated("two"))
    some = rows(judges, seed=1, prompts=50)
    many = [row | {"id": f"{row['id']}-{copy}"} for copy in range(600) for row in some]
    file = written(tmp_path / "rows.jsonl", many)
    (tmp_path / "_log").mkdir()
    (tmp_path / "_log" / "settings.json").write_text(json.dumps(settings(judges)))
    page = tmp_path / "report.html"
    running = popen(*command("feedback", "report", tmp_path, "--html", page))
    try:
        while file.resolve() not in opened(running.pid):
            assert running.poll() is None, running.communicate()
        said = ended_by(running, sent)
    finally:
        running.kill()
    assert sent is signal.SIGTERM or said.splitlines()[-1].startswith("interrupted")
    assert not page.exists()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of a model with random weights that take a moment to write."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaConfig

    folder = tmp_path_factory.mktemp("merge")
    config = LlamaConfig(
        hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "base")
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM")).save_pretrained(folder / "adapter")
    return folder / "adapter"


@BOTH
@pytest.mark.parametrize("stage", ["begun", "writing"])
def test_a_merge_is_left(sent: signal.Signals, stage: str, adapter: Path, tmp_path: Path) -> None:
    out, draft = tmp_path / "out", tmp_path / ".out.partial"
    running = popen(*command("merge", adapter, out))
    try:
        while not (draft.exists() and (stage == "begun" or any(draft.iterdir()))):
            assert running.poll() is None, running.communicate()
        said = ended_by(running, sent)
    finally:
        running.kill()
    assert not out.exists()
    if sent is signal.SIGINT:
        assert said.splitlines()[-1].startswith("interrupted") and not draft.exists()
