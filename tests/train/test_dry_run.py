"""Large models without weights: `estimate` gives the memory that FSDP2 uses on a rank."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zephyr_fast.costs import Shape, estimate

SCRIPT = Path(__file__).parents[2] / "scripts" / "dry_run.py"

ZEPHYR = {
    "model_type": "mistral",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
LLAMA_70B = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}


@pytest.mark.parametrize(
    ("config", "gpus", "parameters"),
    [(ZEPHYR, 8, 7_241_732_096), (LLAMA_70B, 64, 70_553_706_496)],
    ids=["zephyr-7b", "70b"],
)
def test_the_estimated_memory_is_that_of_a_rank(
    config: dict[str, Any], gpus: int, parameters: int, shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "--gpus", str(gpus)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["parameters"] == parameters == Shape.of(config, "").parameters
    assert found["blocks"] == config["num_hidden_layers"]
    given = estimate(shards, "zephyr-7b-sft-full", model=str(tmp_path), gpus=gpus)
    assert given.state_bytes is not None
    # Each tensor is padded to a multiple of the ranks.
    assert given.state_bytes <= found["state_bytes"] <= 1.001 * given.state_bytes


def test_tied_embeddings_are_counted_once() -> None:
    tied = Shape.of(ZEPHYR | {"tie_word_embeddings": True}, "")
    assert Shape.of(ZEPHYR, "").parameters - tied.parameters == 4096 * 32000


def test_memory_depends_on_the_reference_the_dtype_and_the_number_of_gpus(
    prefs: Path, tmp_path: Path
) -> None:
    def memory(text: str, gpus: int = 8) -> int | None:
        config = tmp_path / "mine.yaml"
        config.write_text(f"per_device_train_batch_size: 4\n{text}\n")
        return estimate(prefs, str(config), gpus=gpus).state_bytes

    stored, full = memory("precompute_ref_log_probs: true"), memory("")
    assert stored is not None and full is not None
    assert full / stored == pytest.approx(5 / 4, rel=1e-6)
    assert memory("", gpus=1) == pytest.approx(8 * full, rel=1e-6)
    assert memory("dtype: bfloat16", gpus=1) == pytest.approx(4 * full, rel=1e-6)
    assert memory("use_peft: true") is memory("optim: sgd") is None
