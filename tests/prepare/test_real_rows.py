"""The four commands on real rows with the real Mistral tokenizer, as a user types them; and
stock TRL on the same shards.

Needs rows and tokenizers that are not the project's to give away (`ZEPHYR_FAST_DATA`); else
skipped.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from real_data import DATA, MISSING
from zephyr_fast import Manifest

TOKENIZER = DATA / "tokenizers" / "zephyr-7b-beta-composed"
QUIET = [
    "--use_cpu",
    "true",
    "--bf16",
    "false",
    "--report_to",
    "none",
    "--save_strategy",
    "no",
    "--max_steps",
    "2",
]
BATCH = ["--per_device_train_batch_size", "1", "--logging_steps", "1"]

pytestmark = pytest.mark.skipif(not TOKENIZER.is_dir(), reason=MISSING)


def typed(*words: str | Path) -> str:
    """Runs a command with the interpreter of the tests; gives what it wrote to stdout."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mistral with the real vocabulary and next to nothing else."""
    from transformers import AutoModelForCausalLM, MistralConfig

    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    folder = tmp_path_factory.mktemp("model")
    AutoModelForCausalLM.from_config(
        MistralConfig(vocab_size=32000, max_position_embeddings=2048, **sizes)
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "shards"
    typed(
        "zephyr_fast",
        "prep",
        "ultrachat",
        "--input",
        DATA / "ultrachat" / "raw_real.jsonl.gz",
        "--tokenizer",
        TOKENIZER,
        "--out",
        out,
    )
    return out


@pytest.fixture(scope="module")
def prefs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("real") / "prefs"
    rows = DATA / "ultrafeedback" / "raw_alpacaeval_weighted_1k.parquet"
    typed(
        "zephyr_fast",
        "binarize",
        "ultrafeedback",
        "--input",
        rows,
        "--tokenizer",
        TOKENIZER,
        "--out",
        out,
    )
    return out


def test_the_sums_of_both_manifests_hold(shards: Path, prefs: Path) -> None:
    for manifest, read in ((Manifest.read(shards), 523), (Manifest.read(prefs), 1000)):
        rows = manifest.rows
        assert rows.read == read == sum(card.rows for card in manifest.inputs)
        gone = [*rows.dropped.values(), *rows.duplicates.values(), *rows.quarantined.values()]
        assert rows.read == rows.written + sum(gone)
        assert rows.written == sum(split.rows for split in manifest.splits.values())
        for split in manifest.splits.values():
            assert split.examples == sum(shard.examples for shard in split.shards)
            assert split.tokens == sum(shard.tokens for shard in split.shards)
            assert all(
                shard.examples == sum(batch.examples for batch in shard.batches)
                for shard in split.shards
            )


def test_both_acts_train_on_the_shards_as_they_are(
    shards: Path, prefs: Path, model: Path, tmp_path: Path
) -> None:
    launch = (
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "1",
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
    )
    act = (*launch, "--dynamo_backend", "no", "-m", "zephyr_fast.train")
    typed(
        *act,
        "sft",
        "--shards",
        shards,
        "--model_name_or_path",
        model,
        "--output_dir",
        tmp_path / "sft",
        *QUIET,
        *BATCH,
    )
    typed(
        *act,
        "dpo",
        "--shards",
        prefs,
        "--model_name_or_path",
        tmp_path / "sft",
        "--output_dir",
        tmp_path / "dpo",
        *QUIET,
        *BATCH,
    )
    for name in ("sft", "dpo"):
        assert json.loads((tmp_path / name / "all_results.json").read_text())["train_loss"] > 0
        assert (tmp_path / name / "model.safetensors").is_file()


def test_stock_trl_trains_on_the_real_shards(shards: Path, model: Path, tmp_path: Path) -> None:
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    dataset = load_dataset(str(shards), split="train", cache_dir=str(tmp_path / "cache"))
    config = SFTConfig(
        output_dir=str(tmp_path / "stock"),
        dataset_kwargs={"skip_prepare_dataset": True},
        padding_free=True,
        max_length=None,
        max_steps=2,
        per_device_train_batch_size=1,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
    )
    tokenizer = AutoTokenizer.from_pretrained(shards / "tokenizer")
    trainer = SFTTrainer(
        model=str(model), args=config, train_dataset=dataset, processing_class=tokenizer
    )
    assert trainer.train().training_loss > 0
