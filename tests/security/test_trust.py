"""No code of a folder runs that the user did not name and trust, no question is asked, and no
pickle of a checkpoint is obeyed.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from planted_code import Bomb, model_with_code, on_a_terminal, with_code
from shell import command
from zephyr_fast import InputError, Manifest, OutputExistsError
from zephyr_fast.train.__main__ import main
from zephyr_fast.train.merge import merge
from zephyr_fast.train.model import base_of_adapter, load_tokenizer
from zephyr_fast.train.ref_logprobs.weights import weights_digest

QUIET = [
    "--use_cpu",
    "true",
    "--disable_tqdm",
    "true",
    "--bf16",
    "false",
    "--report_to",
    "none",
    "--eval_strategy",
    "no",
    "--max_steps",
    "2",
]


@pytest.mark.parametrize(
    "changes",
    [{}, {"tokenizer_class": "Evil"}, {"auto_map": ["evil.Evil", None]}, {"auto_map": "evil.Evil"}],
    ids=str,
)
def test_a_data_folders_tokenizer_runs_nothing(
    changes: dict[str, Any], shards: Path, tmp_path: Path
) -> None:
    folder = with_code(shards, tmp_path / "shards", tmp_path / "canary", **changes)
    with pytest.raises(InputError, match="auto_map"):
        load_tokenizer(str(folder), Manifest.read(folder))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("trust", [[], ["--trust_remote_code", "true"]], ids=["", "trusted"])
def test_no_word_of_the_user_on_the_model_is_taken_for_the_data(
    trust: list[str], shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = with_code(shards, tmp_path / "shards", tmp_path / "canary")
    words = [
        "--shards",
        str(folder),
        "--model_name_or_path",
        str(start),
        "--output_dir",
        str(tmp_path / "out"),
        *QUIET,
        *trust,
    ]
    assert main(["sft", *words]) == 4
    assert "`auto_map`" in capsys.readouterr().err and not (tmp_path / "canary").exists()


def test_on_a_terminal_nobody_is_asked(
    shards: Path, prefs: Path, start: Path, tmp_path: Path
) -> None:
    _, environment = command()
    data = with_code(prefs, tmp_path / "prefs", tmp_path / "canary")
    model = model_with_code(tmp_path / "model", start, tmp_path / "canary")
    train = [
        sys.executable,
        "-m",
        "zephyr_fast.train",
        "sft",
        "--output_dir",
        str(tmp_path / "out"),
        *QUIET,
    ]
    for line in (
        command("ref-logprobs", data, "--model", start)[0],
        command("ref-logprobs", prefs, "--model", model)[0],
        [*train, "--shards", str(shards), "--model_name_or_path", str(model)],
        command("merge", adapter_of(model, tmp_path / "adapter"), tmp_path / "merged")[0],
    ):
        code, printed = on_a_terminal(line, environment)
        assert code in (2, 4) and "error: " in printed and "[y/N]" not in printed, printed
        assert not (tmp_path / "canary").exists()


def adapter_of(model: Path, folder: Path) -> Path:
    """An adapter without weights."""
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(model), "r": 4}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_a_merged_model_is_not_written_through_a_link(start: Path, tmp_path: Path) -> None:
    adapter, victim = adapter_of(start, tmp_path / "adapter"), tmp_path / "victim"
    victim.mkdir()
    for planted in (".merged.partial", "merged"):
        (tmp_path / planted).symlink_to(victim if planted != "merged" else tmp_path / "nowhere")
        with pytest.raises(OutputExistsError, match=rf"{planted}` (is not a directory|exists)"):
            merge(str(adapter), tmp_path / "merged")
        assert not any(victim.iterdir())
        (tmp_path / planted).unlink()


def test_a_models_code_runs_if_the_user_says_so_and_a_teachers_never(
    shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_with_code(tmp_path / "model", start, tmp_path / "canary")
    words = ["sft", "--shards", str(shards), "--output_dir", str(tmp_path / "out"), *QUIET]
    assert main([*words, "--model_name_or_path", str(model)]) == 2
    told = capsys.readouterr().err
    assert (
        "`trust_remote_code: true`" in told
        and str(model) in told
        and not (tmp_path / "canary").exists()
    )
    assert (
        main(
            [
                *words,
                "--model_name_or_path",
                str(start),
                "--teacher",
                str(model),
                "--trust_remote_code",
                "true",
            ]
        )
        == 2
    )
    assert "teacher" in capsys.readouterr().err and not (tmp_path / "canary").exists()
    # `Evil` is no configuration.
    main([*words, "--model_name_or_path", str(model), "--trust_remote_code", "true"])
    assert (tmp_path / "canary").read_text() == "ran"


@pytest.mark.parametrize("method", ["sft", "dpo"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intermediate_size": 257}, "the shapes of its weights do not match its `config.json`"),
        ({"hidden_act": "nope"}, "unknown value 'nope'"),
    ],
)
def test_a_model_whose_files_contradict_each_other_is_one_line(
    method: str,
    change: dict[str, Any],
    message: str,
    shards: Path,
    prefs: Path,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = Path(shutil.copytree(start, tmp_path / "model"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | change))
    words = ["--shards", str(shards if method == "sft" else prefs), *QUIET]
    words += ["--model_name_or_path", str(model), "--output_dir", str(tmp_path / "out")]
    assert main([method, *words]) == 4
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"error: cannot load the model `{model}`: {message}"


@pytest.mark.parametrize(
    "changes",
    [
        {"megatron_config": {}, "megatron_core": "evil"},
        {"megatron_core": "evil"},
        {"peft_type": "PROMPT_TUNING", "tokenizer_kwargs": {"trust_remote_code": True}},
        {"base_model_name_or_path": None},
        {"base_model_name_or_path": ["a"]},
        {"peft_type": "EVIL"},
    ],
    ids=str,
)
def test_an_adapter_imports_nothing(changes: dict[str, Any], start: Path, tmp_path: Path) -> None:
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(start),
        "task_type": "CAUSAL_LM",
        "r": 8,
        "target_modules": ["q_proj"],
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | changes))
    with pytest.raises(InputError):
        base_of_adapter(str(tmp_path))


@pytest.mark.parametrize("key", ["attn_implementation", "experts_implementation"])
def test_a_model_fetches_no_kernel(
    key: str, shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(start, model)
    (model / "config.json").write_text(
        json.dumps(json.loads((model / "config.json").read_text()) | {key: "evil/kernel"})
    )
    words = ["sft", "--shards", str(shards), "--output_dir", str(tmp_path / "out"), *QUIET]
    assert main([*words, "--model_name_or_path", str(model)]) == 4
    assert "evil/kernel" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{",
        "[]",
        "null",
        "1",
        '"x"',
        '{"model_type": []}',
        '{"model_type": "mistral", "vocab_size": "x"}',
        "\x00\xff",
    ],
)
def test_a_models_configuration_is_refused_in_one_line(
    text: str, shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(start, model)
    (model / "config.json").write_text(text)
    words = ["sft", "--shards", str(shards), "--output_dir", str(tmp_path / "out"), *QUIET]
    assert main([*words, "--model_name_or_path", str(model)]) in (2, 4)
    told = capsys.readouterr().err
    assert (
        told.splitlines()[-1].startswith("error: ")
        and str(model) in told
        and "Traceback" not in told
    )


@pytest.mark.parametrize(
    "index",
    [
        "[" * 100_000,
        "[]",
        "{}",
        '{"weight_map": {"a": "../x.safetensors"}}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": []}',
    ],
)
def test_an_index_of_weights_names_files_beside_it(index: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=r"index\.json"):
        weights_digest(str(tmp_path))


@pytest.fixture(scope="module")
def checkpoint(shards: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    words = [
        "--shards",
        str(shards),
        "--model_name_or_path",
        str(start),
        "--output_dir",
        str(out),
        *QUIET,
    ]
    assert main(["sft", *words, "--save_strategy", "steps", "--save_steps", "1"]) == 0
    return out / "checkpoint-1"


def resumed(checkpoint: Path, shards: Path, start: Path, out: Path) -> int:
    words = [
        "--shards",
        str(shards),
        "--model_name_or_path",
        str(start),
        "--output_dir",
        str(out),
        *QUIET,
    ]
    return main(["sft", *words, "--resume_from_checkpoint", str(checkpoint)])


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
@pytest.mark.parametrize("kind", ["bomb", "cut", "text", "empty"])
def test_a_pickle_of_a_checkpoint_is_not_obeyed_and_named(
    name: str,
    kind: str,
    checkpoint: Path,
    shards: Path,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import torch

    copy = tmp_path / "checkpoint-1"
    shutil.copytree(checkpoint, copy)
    whole = (copy / name).read_bytes()
    if kind == "bomb":
        torch.save(Bomb(tmp_path / "canary"), copy / name)
    else:
        (copy / name).write_bytes(
            {"cut": whole[: len(whole) // 2], "text": b"no pickle", "empty": b""}[kind]
        )
    assert resumed(copy, shards, start, tmp_path / "out") == 4
    told = capsys.readouterr().err
    assert (
        told.splitlines()[-1].startswith("error: cannot resume from")
        and name in told.splitlines()[-1]
    )
    assert not (tmp_path / "canary").exists()


def test_weights_and_arguments_that_are_pickles_are_not_obeyed(
    checkpoint: Path, shards: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    copy = tmp_path / "checkpoint-1"
    shutil.copytree(checkpoint, copy)
    torch.save(Bomb(tmp_path / "canary"), copy / "training_args.bin")
    assert resumed(copy, shards, start, tmp_path / "out") == 0  # nobody reads it
    (copy / "model.safetensors").unlink()
    torch.save(Bomb(tmp_path / "canary"), copy / "pytorch_model.bin")
    assert resumed(copy, shards, start, tmp_path / "out") == 4
    assert "pytorch_model.bin" in capsys.readouterr().err.splitlines()[-1]
    model = tmp_path / "model"
    shutil.copytree(start, model)
    (model / "model.safetensors").unlink()
    torch.save(Bomb(tmp_path / "canary"), model / "pytorch_model.bin")
    words = [
        "--shards",
        str(shards),
        "--model_name_or_path",
        str(model),
        "--output_dir",
        str(tmp_path / "out"),
        *QUIET,
    ]
    assert main(["sft", *words]) == 4
    assert (
        str(model) in capsys.readouterr().err.splitlines()[-1]
        and not (tmp_path / "canary").exists()
    )


@pytest.mark.parametrize(
    "state",
    [
        "[" * 100_000,
        "{",
        "[]",
        "{}",
        '{"global_step": -1}',
        '{"global_step": "1"}',
        '{"global_step": 1e400}',
        '{"global_step": true}',
        '{"global_step": 1, "no_such": 1}',
    ],
)
def test_a_trainers_state_is_refused_in_one_line(
    state: str,
    checkpoint: Path,
    shards: Path,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "checkpoint-1"
    shutil.copytree(checkpoint, copy)
    (copy / "trainer_state.json").write_text(state)
    assert resumed(copy, shards, start, tmp_path / "out") == 4
    told = capsys.readouterr().err
    assert "trainer_state.json" in told.splitlines()[-1] and told.count("\n") == 1
