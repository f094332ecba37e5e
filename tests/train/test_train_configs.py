"""Training configs: the packaged ones are TRL's own keys, and a wrong or old key is refused with
what replaced it.
"""

from pathlib import Path

import pytest
import yaml

from zephyr_fast import ConfigError, InputError, Manifest
from zephyr_fast.train import configs, dpo, run, sft
from zephyr_fast.train.__main__ import main

ACTS = {"sft": sft.parse, "dpo": dpo.parse}


def act_of(config: str) -> str:
    return "dpo" if "dpo" in config else "sft"


@pytest.mark.parametrize("name", configs.packaged())
def test_every_packaged_config_has_only_keys_of_the_installed_trl(
    name: str, tmp_path: Path
) -> None:
    # `bf16` is refused where there is no accelerator and no word that it is meant so.
    data, training, _ = ACTS[act_of(name)](
        ["--config", name, "--shards", "s", "--output_dir", str(tmp_path), "--use_cpu", "true"]
    )
    assert data.shards == ["s"]
    assert training.seed == 42


def test_there_is_a_config_for_each_published_recipe_that_says_what_it_reproduces() -> None:
    full = [
        "zephyr-7b-sft-full",
        "zephyr-7b-sft-qlora",
        "zephyr-7b-dpo-full",
        "zephyr-7b-dpo-qlora",
    ]
    wanted = {*full, "zephyr-7b-dpo-paper", "zephyr-7b-beta-trl07", "tiny-sft", "tiny-dpo"}
    assert set(configs.packaged()) == wanted
    for name in wanted - {"tiny-sft", "tiny-dpo"}:
        text = (configs.CONFIGS / f"{name}.yaml").read_text()
        assert "alignment-handbook at" in text or "arXiv 2310.16944" in text
        assert "Reproduces" in text


# Pairs or windows a step, epochs, learning rate, schedule, beta: the tables of the handbook at
# f0ffa0d and 80e952e, and the paper's §4.2.
PUBLISHED = {
    "zephyr-7b-sft-full": (128, 1, 2e-5, "cosine", None),
    "zephyr-7b-dpo-full": (128, 1, 5e-7, "cosine", 0.01),
    "zephyr-7b-dpo-paper": (32, 3, 5e-7, "linear", 0.1),
    "zephyr-7b-beta-trl07": (512, 1, 2e-5, "cosine", None),
    "zephyr-7b-sft-qlora": (64, 1, 2e-4, "cosine", None),
    "zephyr-7b-dpo-qlora": (64, 1, 5e-6, "cosine", 0.01),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_published_numbers_on_eight_gpus(name: str, tmp_path: Path) -> None:
    _, training, _ = ACTS[act_of(name)](
        ["--config", name, "--shards", "s", "--output_dir", str(tmp_path), "--use_cpu", "true"]
    )
    batch = 8 * training.per_device_train_batch_size * training.gradient_accumulation_steps
    found = (
        batch,
        training.num_train_epochs,
        training.learning_rate,
        training.lr_scheduler_type,
        getattr(training, "beta", None),
    )
    assert found == PUBLISHED[name]


@pytest.mark.parametrize(
    "path", sorted((configs.CONFIGS / "accelerate").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_accelerate_config_is_taken_whole_by_the_installed_accelerate(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    # Raises for a key of the first level that it does not know.
    loaded = load_config_from_file(str(path))
    given = yaml.safe_load(path.read_text())
    assert loaded.num_processes == given["num_processes"]
    assert loaded.distributed_type.value == given["distributed_type"]
    inner = given.get("fsdp_config", {}) | given.get("deepspeed_config", {})
    assert bool(inner) == (given["distributed_type"] in ("FSDP", "DEEPSPEED"))
    assert set(inner) <= {action.dest for action in launch_command_parser()._actions}


def test_training_sees_the_train_split_alone(prefs: Path, tmp_path: Path) -> None:
    data, training, _ = dpo.parse(
        ["--config", "tiny-dpo", "--shards", str(prefs), "--output_dir", str(tmp_path)]
    )
    training.do_eval = True
    train_dataset, eval_dataset = run.open_splits(data, training, Manifest.read(prefs))
    assert eval_dataset is not None
    seen, held_out = (
        {pair["prompt_ids"].tobytes() for pair in dataset}
        for dataset in (train_dataset, eval_dataset)
    )
    assert seen
    assert held_out
    assert not seen & held_out


@pytest.mark.parametrize("key", sorted(configs.UNSUPPORTED_KEYS))
@pytest.mark.parametrize("act", ACTS)
def test_an_old_key_is_refused_with_what_replaced_it(key: str, act: str, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"{key}: 1\n")
    with pytest.raises(ConfigError) as refused:
        ACTS[act](["--config", str(config), "--shards", "s", "--output_dir", str(tmp_path)])
    assert str(refused.value).startswith(f"{config}: `{key}` ")
    with pytest.raises(ConfigError, match=f"`--{key}`"):
        ACTS[act]([f"--{key}", "1", "--shards", "s", "--output_dir", str(tmp_path)])


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean `learning_rate`"):
        sft.parse(["--learning_rat", "1", "--shards", "s", "--output_dir", str(tmp_path)])


def test_a_key_that_is_refused_itself_is_never_suggested(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`--packingg` is not a known key") as refused:
        sft.parse(["--packingg", "3", "--shards", "s", "--output_dir", str(tmp_path)])
    assert "packing`" not in str(refused.value)


def test_shards_are_one_directory_or_several(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    for act, parse in ACTS.items():
        base = ["--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false"]
        for text, expected in (("a", ["a"]), ("[a, b]", ["a", "b"])):
            config.write_text(f"shards: {text}\n")
            assert parse(["--config", str(config), *base])[0].shards == expected, act
        words = ["--shards", "c", "d", "--shard_weights", "0.7", "0.3"]
        data, *_ = parse(["--config", str(config), *base, *words])
        assert (data.shards, data.shard_weights) == (["c", "d"], [0.7, 0.3])
        with pytest.raises(ConfigError, match=r"given twice; .* `--shards A B`"):
            parse([*base, "--shards", "a", "--shards=b"])
        with pytest.raises(ConfigError, match=r"`--mix` is replaced by `shards`.* `--shards A B`"):
            parse([*base, "--shards", "a", "--mix", "b"])
        with pytest.raises(ConfigError, match="`--tail` is renamed to `remainder`"):
            parse([*base, "--shards", "a", "--tail", "drop"])
        config.write_text("shards: []\n")
        with pytest.raises(ConfigError, match="no data to train on"):
            parse(["--config", str(config), *base])


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    for words in (["--config", "tiny-dpo"], ["--config=tiny-dpo"]):
        _, training, _ = dpo.parse(
            [*words, "--shards", "s", "--output_dir", str(tmp_path), "--beta", "0.05"]
        )
        assert training.beta == 0.05
        assert training.num_train_epochs == 3


def test_a_config_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InputError, match="tiny-dpo, tiny-sft, zephyr-7b"):
        sft.parse(["--config", "nope", "--shards", "s"])


def test_what_to_train_and_on_what_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "`sft` or `dpo`" in capsys.readouterr().err
    assert main(["sft", "--config", "tiny-sft"]) == 2
    assert "--shards DIR" in capsys.readouterr().err


def test_shards_of_the_other_kind_or_for_another_model_are_refused(
    shards: Path, prefs: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = [
        "--output_dir",
        str(tmp_path),
        "--use_cpu",
        "true",
        "--bf16",
        "false",
        "--report_to",
        "none",
    ]
    assert main(["dpo", "--shards", str(shards), "--model_name_or_path", str(start), *quiet]) == 2
    assert "holds sft data" in capsys.readouterr().err
    assert main(["sft", "--shards", str(prefs), "--model_name_or_path", str(start), *quiet]) == 2
    assert "holds preference data" in capsys.readouterr().err
    small = tmp_path / "small"
    small.mkdir()
    config = (start / "config.json").read_text()
    (small / "config.json").write_text(
        config.replace('"max_position_embeddings": 1024', '"max_position_embeddings": 128')
    )
    assert main(["sft", "--shards", str(shards), "--model_name_or_path", str(small), *quiet]) == 2
    assert "supports only 128 positions" in capsys.readouterr().err
    (small / "config.json").write_text(config.replace('"vocab_size": 2048', '"vocab_size": 1000'))
    assert main(["sft", "--shards", str(shards), "--model_name_or_path", str(small), *quiet]) == 2
    assert "the shards' tokenizer has 2048 tokens" in capsys.readouterr().err
