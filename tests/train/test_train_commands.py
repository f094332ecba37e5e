"""`zephyr-fast train`, `zephyr-fast merge`, and one line for what a library cannot do."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

import shards_by_hand
from train_runs import train, words
from zephyr_fast import InputError, OutputExistsError
from zephyr_fast.train.__main__ import main
from zephyr_fast.train.merge import merge

COMMAND = [sys.executable, "-m", "zephyr_fast"]


def test_help_lists_our_arguments_first_and_imports_no_torch() -> None:
    code = (
        "import sys; from zephyr_fast.cli import cli; "
        "cli(['train', 'dpo', '--help'], standalone_mode=False); "
        "assert not {'torch', 'trl', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--shards" in done.stdout and "--pack" in done.stdout
    assert "--teacher" not in done.stdout and "--help-all" in done.stdout


def test_the_command_trains_and_reports_errors_as_the_module_does(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    line = words("sft", shards, start, tmp_path, max_steps=1)
    done = subprocess.run([*COMMAND, "train", *line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model.safetensors").exists()
    wrong = subprocess.run([*COMMAND, "train", "sftt"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "expected `sft` or `dpo`" in wrong.stderr


def test_a_merged_adapter_is_a_model_with_the_same_log_probs(
    shards: Path, start: Path, tmp_path: Path
) -> None:
    settings = {"use_peft": True, "learning_rate": 1e-2, "max_steps": 3}
    adapter = train("sft", shards, start, tmp_path / "adapter", **settings)
    out = merge(str(adapter), tmp_path / "merged")
    ids = torch.arange(3, 40)[None]
    tuned, merged, base = (
        AutoModelForCausalLM.from_pretrained(folder)(ids).logits for folder in (adapter, out, start)
    )
    torch.testing.assert_close(merged, tuned, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(merged, base, atol=1e-2)
    assert not (out / "adapter_config.json").exists()
    assert GenerationConfig.from_pretrained(out).eos_token_id == 2
    assert AutoTokenizer.from_pretrained(out).chat_template
    with pytest.raises(OutputExistsError):
        merge(str(adapter), out)
    with pytest.raises(InputError, match="is not an adapter"):
        merge(str(start), tmp_path / "other")
    assert not (tmp_path / "other").exists()


BEST = {"load_best_model_at_end": True, "metric_for_best_model": "nothing", "save_steps": 1}
BEST |= {"save_strategy": "steps", "eval_strategy": "steps", "eval_steps": 1}

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "loss": ("dpo", {"loss_type": "simpo"}, "unknown `loss_type` `simpo`; known: sigmoid"),
    "smoothing": ("dpo", {"loss_type": "exo_pair"}, "needs a `label_smoothing` above 0"),
    "noise": ("sft", {"neftune_noise_alpha": 5.0}, "set `pack: false`"),
    "reference": ("dpo", {"sync_ref_model": True, "use_peft": True}, "sync_ref_model"),
    "orpo": ("dpo", {"loss_type": "orpo"}, "unknown `loss_type` `orpo`; known: sigmoid"),
    "kto_pair": ("dpo", {"loss_type": "kto_pair"}, "`kto_pair` has its own trainer in TRL"),
    "aot_pair": ("dpo", {"loss_type": "aot_pair"}, "TRL has renamed it to `aot`"),
    "json": ("sft", {"model_init_kwargs": "{a"}, "`--model_init_kwargs` is not valid JSON"),
    "free": ("dpo", {"padding_free": True}, "`--padding_free` has no effect"),
    "metric": ("sft", BEST, "`metric_for_best_model` training argument is set to 'eval_nothing'"),
    "model": ("sft", {"model_name_or_path": "/a/b/c"}, "the model `/a/b/c`: no such directory"),
    "wandb": ("sft", {"report_to": "wandb"}, "wandb"),
    "bitsandbytes": ("sft", {"load_in_4bit": True, "use_peft": True}, "bitsandbytes"),
    "flash_attn": ("sft", {"attn_implementation": "flash_attention_2"}, "FlashAttention2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_missing_package_or_an_impossible_option_is_one_line(
    case: str,
    request: pytest.FixtureRequest,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    act, settings, expected = REFUSED[case]
    if case in ("wandb", "bitsandbytes", "flash_attn") and find_spec(case):
        pytest.skip(f"{case} is installed")
    data = request.getfixturevalue("shards" if act == "sft" else "prefs")
    assert main(words(act, data, start, tmp_path, **settings)) in (2, 4)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and expected in error


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (
            "kto",
            "`kto` has its own trainer in TRL, which tokenizes text itself: give it the `text`",
        ),
        ("ORPO", "`ORPO` has its own trainer in TRL"),
        ("cpo", "or use `dpo`"),
        ("simpo", "or use `dpo`"),
        ("ipo", "set `loss_type: ipo`"),
        ("online-dpo", "generates while it trains"),
        ("distill", "is `sft` with `--teacher MODEL`"),
        ("sftt", "expected `sft` or `dpo`, not `sftt`"),
    ],
)
def test_another_method_is_refused_with_what_to_do(
    method: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([method, "--shards", "s"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and expected in lines[0]


def test_a_dataset_without_rows_to_train_on_is_named(
    start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"input_ids": [1, 5, 6], "labels": [-100, 5, 6], "seq_lengths": [3], "row_ids": [0]}
    folder = shards_by_hand.write(tmp_path / "shards", "sft", {"test": [row]}, 64)
    assert main(words("sft", folder, start, tmp_path / "out")) == 2
    assert f"`{folder}` has no `train` split" in capsys.readouterr().err
