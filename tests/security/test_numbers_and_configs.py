"""Numbers that no run can have, configs that grow as they are read, and values of another kind:
each is one line, with file and key.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from shell import SAMPLE, refusal, shell
from zephyr_fast import ConfigError, InputError, IntegrityError, ZephyrError, prep
from zephyr_fast.costs import estimate
from zephyr_fast.dataset.manifest import seal
from zephyr_fast.train import config_file, sft

MODEL = {
    **{
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
    **{"num_key_value_heads": 2, "vocab_size": 2048},
}
ODD = ["64", None, [1], {}, 0, -1, 1.5, True, 10**400, float("inf"), float("nan"), 2**63]


@pytest.mark.parametrize("value", ODD, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("key", sorted(MODEL))
def test_a_size_of_a_model_that_is_none_is_named(
    key: str, value: Any, shards: Path, tmp_path: Path
) -> None:
    if key == "num_key_value_heads" and value is None:
        pytest.skip("it may be left out")
    (tmp_path / "config.json").write_text(json.dumps(MODEL | {key: value}))
    with pytest.raises(InputError, match=key):
        estimate(shards, "tiny-sft", model=str(tmp_path))


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "[]", "null", "{", "", "\xff", '{"hidden_size": 1e400}'],
    ids=lambda text: text[:8],
)
def test_a_models_configuration_that_is_none_is_refused(
    text: str, shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    assert "config.json" in refusal(
        4, "estimate", shards, "--config", "tiny-sft", "--model", tmp_path
    )


@pytest.mark.parametrize(
    "line",
    [
        *(
            "per_device_train_batch_size: " + value
            for value in ("0", "x", "-1", "[1]", "{a: 1}", "true", "1.5", ".nan", "9" * 400)
        ),
        *("gradient_accumulation_steps: " + value for value in ("0", "x", "[1]")),
        *(
            "num_train_epochs: " + value
            for value in (".nan", ".inf", "-1", "x", "[1]", "true", "1e400")
        ),
        *("max_steps: " + value for value in ("x", "-7", "[1]", "9" * 400)),
        *("seed: " + value for value in ("-1", "99999999999", "[1]")),
        *("learning_rate: " + value for value in (".nan", "[1]", "x")),
        *("shards: " + value for value in ("3", "[1]", "{a: 1}")),
        *("shard_weights: " + value for value in ("a", "['x']", "3")),
        *("model_name_or_path: " + value for value in ("[1]", "3")),
        *("env: " + value for value in ("3", "{1: 2}", "{'a=b': c}", "{a: [1]}")),
        "1: 2",
        "max_steps: 1\nmax_steps: 2",
    ],
    ids=lambda line: line[:40],
)
def test_a_value_of_a_training_config_that_is_none_is_named(
    line: str, shards: Path, tmp_path: Path
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(line + "\n")
    key = line.partition(":")[0]
    with pytest.raises(ConfigError, match=rf"(?s)mine\.yaml.*{key}"):
        sft.parse(
            [
                "--config",
                str(config),
                "--shards",
                "s",
                "--output_dir",
                str(tmp_path),
                "--use_cpu",
                "true",
            ]
        )
    if key in (
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "num_train_epochs",
        "max_steps",
        "model_name_or_path",
    ):
        if line in ("max_steps: 1\nmax_steps: 2",):
            return
        with pytest.raises(ConfigError, match=rf"mine\.yaml.*{key}"):
            estimate(shards, str(config), gpus=1)


@pytest.mark.parametrize(
    "words",
    [
        ["--per_device_train_batch_size", "0"],
        ["--num_train_epochs", "nan"],
        ["--num_train_epochs", "inf"],
        ["--max_steps", "9" * 400],
        ["--max_steps", "9" * 5_000],
        ["--learning_rate", "x"],
        ["--seed", "-1"],
        ["--remainder", "x\x1b[2J"],
        ["--lr_scheduler_type", "x"],
        ["--dtype", "x", "extra"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_word_of_the_training_command_that_is_none_is_refused(
    words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ZephyrError):
        sft.parse(["--shards", "s", "--output_dir", str(tmp_path), "--use_cpu", "true", *words])


BOMBS = {
    "aliases": "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
    "merges": "a0: &a0 {x0: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10)),
    "itself": "a: &a [*a]\n",
    "itself by a key": "a: &a {b: {c: *a}}\n",
    "deep": "a: " + "[" * 20_000 + "\n",
    "deep blocks": "a: " + "- " * 20_000 + "\n",
    "python": "a: !!python/object/apply:os.system ['true']\n",
    "long": "a: " + "x" * (1 << 20) + "\n",
    "digits": "a: " + "9" * 100_000 + "\n",
    "date": "a: 2020-99-99\n",
    "bytes": "a: \x00\n",
    "two": "a: 1\n---\nb: 2\n",
    "none": "",
    "list": "- a\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_config_cannot_grow_as_it_is_read(name: str, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(BOMBS[name])
    with pytest.raises((ConfigError, InputError), match=r"mine\.yaml"):
        config_file.read(tmp_path / "mine.yaml")
    assert (
        len(
            refusal(
                4 if name == "long" else 2, "estimate", shards, "--config", tmp_path / "mine.yaml"
            )
        )
        < 5_000
    )


def test_aliases_of_an_ordinary_config_are_read(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("a: &x {p: 1}\nb: *x\nc: {<<: *x, q: 2}\n")
    assert config_file.read(tmp_path / "mine.yaml") == {
        "a": {"p": 1},
        "b": {"p": 1},
        "c": {"p": 1, "q": 2},
    }


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--peak-tflops", ["nan", "inf", "-1", "0", "1e300"]),
        ("--mfu", ["nan", "inf", "-1", "0", "1.5"]),
        ("--gpus", ["0", "-1", "9" * 30]),
    ],
)
def test_a_number_of_estimate_that_is_none_is_refused(
    option: str, values: list[str], shards: Path
) -> None:
    for value in values:
        assert (
            option.removeprefix("--")[:4].lower()
            in refusal(2, "estimate", shards, "--config", "tiny-sft", option, value).lower()
        )


@pytest.mark.parametrize("value", [-5, 10**400, 2**63, -1])
@pytest.mark.parametrize("key", ["rows", "examples", "tokens", "label_tokens"])
def test_counts_that_no_data_set_can_have_are_refused(
    key: str, value: int, shards: Path, tmp_path: Path
) -> None:
    fields = json.loads((shards / "manifest.json").read_text())
    fields["splits"]["train"][key] = value
    (tmp_path / "manifest.json").write_text(seal(fields))
    with pytest.raises(IntegrityError):
        estimate(tmp_path, "tiny-sft")


def test_a_split_without_samples_costs_nothing_and_is_refused(shards: Path, tmp_path: Path) -> None:
    fields = json.loads((shards / "manifest.json").read_text())
    fields["splits"]["train"] |= {"rows": 0, "examples": 0, "tokens": 0, "label_tokens": 0}
    (tmp_path / "manifest.json").write_text(seal(fields))
    (tmp_path / "c.yaml").write_text("max_steps: 5\n")
    with pytest.raises(ZephyrError):
        estimate(tmp_path, str(tmp_path / "c.yaml"))


@pytest.mark.parametrize(
    "size", ["9" * 400 + "T", "9" * 5_000, "1e9", "-1", "nan", "inf", "9" * 30]
)
def test_a_size_that_no_machine_has_is_refused(size: str, tmp_path: Path) -> None:
    done = shell("prep", *SAMPLE, "--out", tmp_path / "out", "--max-memory", size)
    assert done.returncode == 2 and "error: " in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--threads", "--max-bad-rows", "--seq-len"])
@pytest.mark.parametrize("value", ["-1", "9" * 30, "9" * 5_000, "x", "1.5"])
def test_a_count_that_no_machine_has_is_refused(option: str, value: str, tmp_path: Path) -> None:
    done = shell("prep", *SAMPLE, "--out", tmp_path / "out", option, value)
    assert done.returncode == 2 and "rror: " in done.stderr and "Traceback" not in done.stderr


def test_the_functions_refuse_what_the_command_does(tmp_path: Path) -> None:
    for given in (
        {"threads": 0},
        {"threads": 10**9},
        {"max_bad_rows": -1},
        {"max_bad_rows": 10**30},
        {"max_memory": 2**70},
        {"max_memory": True},
    ):
        with pytest.raises(ConfigError, match=next(iter(given))):
            prep(input="sample", out=tmp_path / "out", **given)  # type: ignore[arg-type]
    for name in ("a\0b", "x" * 5_000, "a/" * 3_000):
        for given in (
            {"input": name},
            {"input": "sample", "tokenizer": name},
            {"input": "sample", "recipe": name},
        ):
            with pytest.raises(ZephyrError):
                prep(out=tmp_path / "out", **given)
    with pytest.raises(ZephyrError):
        prep(input="sample", out=tmp_path / "out", overrides={"pack.seq_len": 10**5_000})
    with pytest.raises(ZephyrError):
        prep(input="sample", out=tmp_path / "out", overrides={"a\udcffb": 1})
    with pytest.raises(ZephyrError):
        prep(input="sample", out=tmp_path / "out", decontaminate={"a\udcffb": "x:y"})


def test_settings_are_few_and_short(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "1,000" in refusal(2, "prep", *SAMPLE, *out, *(["--set", "pack.seq_len=512"] * 1_001))
    assert "1,000" in refusal(2, "prep", *SAMPLE, *out, *(["--decontaminate", "a=b:c"] * 1_001))
    assert "characters" in refusal(2, "prep", *SAMPLE, *out, "--set", "a" * 120_000 + "=1")
    assert "characters" in refusal(
        2, "prep", *SAMPLE, *out, "--decontaminate", "a" * 120_000 + "=b:c"
    )


def test_a_recipe_is_short(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("# " + "x" * (2 << 20))
    assert "r.toml" in refusal(2, "prep", tmp_path / "r.toml", *SAMPLE, "--out", tmp_path / "out")
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe")
    assert "UTF-8" in refusal(2, "prep", tmp_path / "r.toml", *SAMPLE, "--out", tmp_path / "out")
    (tmp_path / "r.toml").write_text("a = " + "[" * 50_000)
    assert "r.toml" in refusal(2, "prep", tmp_path / "r.toml", *SAMPLE, "--out", tmp_path / "out")


def test_what_nobody_foresaw_is_one_line_that_asks_for_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import sys

    from zephyr_fast import cli

    def fail(_folder: Path, **_: Any) -> None:
        raise RuntimeError("a\x1b[2Jb")

    monkeypatch.setattr(sys.modules["zephyr_fast.dataset.verify"], "verify", fail)
    monkeypatch.setattr("sys.argv", ["zephyr-fast", "verify", str(tmp_path)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    told = capsys.readouterr().err
    assert (
        left.value.code == 70
        and "RuntimeError" in told
        and "\\x1b[2J" in told
        and "Please report it" in told
        and "Traceback" not in told
    )
    monkeypatch.setenv("ZEPHYR_FAST_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        cli.main()
    assert "Traceback" in capsys.readouterr().err
