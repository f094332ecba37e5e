"""Training configs: the packaged ones are TRL's own keys, and a wrong or old key is refused with what replaced it."""

from pathlib import Path

import pytest

from zephyr_fast import InputError, RecipeError
from zephyr_fast.train import configs, dpo, sft
from zephyr_fast.train.__main__ import main

ACTS = {"sft": sft.parse, "dpo": dpo.parse}


@pytest.mark.parametrize("name", configs.packaged())
def test_every_packaged_config_has_only_keys_of_the_installed_trl(name: str, tmp_path: Path) -> None:
    act = "dpo" if "dpo" in name else "sft"
    data, training, _ = ACTS[act](["--config", name, "--shards", "s", "--output_dir", str(tmp_path)])
    assert data.shards == "s"
    assert training.seed == 42


@pytest.mark.parametrize("key", sorted(configs.REPLACED))
@pytest.mark.parametrize("act", ACTS)
def test_an_old_key_is_refused_with_what_replaced_it(key: str, act: str, tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"{key}: 1\n")
    with pytest.raises(RecipeError) as refused:
        ACTS[act](["--config", str(config), "--shards", "s", "--output_dir", str(tmp_path)])
    assert str(refused.value).startswith(f"{config}: `{key}` ")
    with pytest.raises(RecipeError, match=f"`--{key}`"):
        ACTS[act]([f"--{key}", "1", "--shards", "s", "--output_dir", str(tmp_path)])


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean `learning_rate`"):
        sft.parse(["--learning_rat", "1", "--shards", "s", "--output_dir", str(tmp_path)])


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    for words in (["--config", "tiny-dpo"], ["--config=tiny-dpo"]):
        _, training, _ = dpo.parse([*words, "--shards", "s", "--output_dir", str(tmp_path), "--beta", "0.05"])
        assert training.beta == 0.05
        assert training.num_train_epochs == 3


def test_a_config_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InputError, match="tiny-dpo, tiny-sft"):
        sft.parse(["--config", "nope", "--shards", "s"])


def test_what_to_train_and_on_what_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "`sft` or `dpo`" in capsys.readouterr().err
    assert main(["sft", "--config", "tiny-sft"]) == 2
    assert "--shards FOLDER" in capsys.readouterr().err


def test_shards_of_the_other_kind_or_for_another_model_are_refused(
    shards: Path, prefs: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = ["--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false", "--report_to", "none"]
    assert main(["dpo", "--shards", str(shards), "--model_name_or_path", str(start), *quiet]) == 2
    assert "holds sft shards" in capsys.readouterr().err
    assert main(["sft", "--shards", str(prefs), "--model_name_or_path", str(start), *quiet]) == 2
    assert "holds preference shards" in capsys.readouterr().err
    small = tmp_path / "small"
    small.mkdir()
    config = (start / "config.json").read_text()
    (small / "config.json").write_text(config.replace('"max_position_embeddings": 1024', '"max_position_embeddings": 128'))
    assert main(["sft", "--shards", str(shards), "--model_name_or_path", str(small), *quiet]) == 2
    assert "has 128 positions" in capsys.readouterr().err
    (small / "config.json").write_text(config.replace('"vocab_size": 2048', '"vocab_size": 1000'))
    assert main(["sft", "--shards", str(shards), "--model_name_or_path", str(small), *quiet]) == 2
    assert "the shards' tokenizer has 2048 tokens" in capsys.readouterr().err
