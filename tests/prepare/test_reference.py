"""Stored reference log-probs: those of TRL's own reference, exact after an interruption, and
refused where they are not the run's.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from zephyr_fast import ConfigError, InputError, IntegrityError, Manifest, binarize
from zephyr_fast.load.shards import Shards
from zephyr_fast.train.__main__ import main
from zephyr_fast.train.configs import CONFIGS
from zephyr_fast.train.ref_logprobs import compute, store
from zephyr_fast.train.ref_logprobs.compute import ref_logprobs
from zephyr_fast.train.ref_logprobs.store import Key
from zephyr_fast.train.ref_logprobs.weights import weights_digest

QUIET: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "seed": 3,
}
STEPS: dict[str, Any] = {
    "max_steps": 3,
    "logging_steps": 1,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 2,
}


@pytest.fixture(scope="module")
def stored(prefs: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged pairs with the log-probs of `start`."""
    folder = shutil.copytree(prefs, tmp_path_factory.mktemp("stored") / "prefs")
    ref_logprobs(folder, str(start))
    return folder


def key_of(prefs: Path, model: Path) -> Key:
    return Key.of(*weights_digest(str(model)), "float32", Manifest.read(prefs))


def train(
    prefs: Path | list[Path], model: Path, out: Path, **settings: Any
) -> tuple[int, list[dict[str, float]]]:
    """Exit code, and what each step logged."""
    given = {
        "output_dir": out,
        "beta": 0.1,
        "activation_checkpointing": False,
        **QUIET,
        **STEPS,
        **settings,
    }
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    shards = [str(one) for one in ([prefs] if isinstance(prefs, Path) else prefs)]
    code = main(["dpo", "--shards", *shards, "--model_name_or_path", str(model), *words])
    state = out / "trainer_state.json"
    return code, [
        entry for entry in json.loads(state.read_text())["log_history"] if "loss" in entry
    ] if state.exists() else []


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def slow_log_probs(model: Path, pairs: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """The obvious twin: one answer at a time, from the logits."""
    policy = AutoModelForCausalLM.from_pretrained(model).eval()
    rows = []
    for pair in pairs:
        prompt, sums = torch.tensor(pair["prompt_ids"]).long(), []
        for side in ("chosen_ids", "rejected_ids"):
            answer = torch.tensor(pair[side]).long()
            with torch.inference_mode():
                logits = policy(torch.cat([prompt, answer])[None]).logits[0, len(prompt) - 1 : -1]
            sums.append(float(logits.log_softmax(-1).gather(1, answer[:, None]).sum()))
        rows.append(sums)
    return np.array(rows)


def test_stored_log_probs_are_the_sums_over_the_answers_of_one_at_a_time(
    stored: Path, start: Path
) -> None:
    for split in ("train", "test"):
        pairs = list(Shards(stored, split))
        found = store.read(stored, key_of(stored, start), split)
        assert found.shape == (len(pairs), 2)
        np.testing.assert_allclose(found[-6:], slow_log_probs(start, pairs[-6:]), rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [{}, {"use_peft": True, "lora_r": 4, "lora_alpha": 64}], ids=["full", "lora"]
)
def test_training_with_a_stored_reference_is_training_with_one_in_memory(
    prefs: Path, stored: Path, start: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    settings = settings | {"learning_rate": 1e-2}
    code, memory = train(prefs, start, tmp_path / "memory", pack="false", **settings)
    assert code == 0
    assert len({entry["loss"] for entry in memory}) == len(memory) == STEPS["max_steps"]
    code, ours = train(
        stored, start, tmp_path / "stored", precompute_ref_log_probs=True, **settings
    )
    assert code == 0
    for step, wanted in zip(ours, memory, strict=True):
        for name in (
            "loss",
            "rewards/chosen",
            "rewards/rejected",
            "logps/chosen",
            "logps/rejected",
            "entropy",
            "grad_norm",
        ):
            assert step[name] == pytest.approx(wanted[name], rel=1e-4, abs=1e-5), name


def test_each_folder_of_a_mixture_has_its_own_stored_reference(
    prefs: Path, stored: Path, start: Path, tmp_path: Path
) -> None:
    """Of a log-prob with another pair, the loss would tell."""
    other = tmp_path / "other"
    settings = {
        "template.name": str(prefs.parent / "zephyr-bos.jinja"),
        "shards.test_fraction": 0.2,
        "seed": 7,
    }
    binarize(input="sample", out=other, overrides=settings)
    ref_logprobs(other, str(start), splits=("train",))
    mix = {"remainder": "drop", "learning_rate": 1e-2, "per_device_train_batch_size": 4}
    code, memory = train([prefs, other], start, tmp_path / "memory", **mix)
    assert code == 0
    code, ours = train(
        [stored, other], start, tmp_path / "stored", precompute_ref_log_probs=True, **mix
    )
    assert code == 0
    assert [step["loss"] for step in ours] == pytest.approx(
        [step["loss"] for step in memory], rel=1e-4
    )
    assert [step["rewards/chosen"] for step in ours] == pytest.approx(
        [step["rewards/chosen"] for step in memory], rel=1e-4, abs=1e-5
    )


def test_a_run_with_a_stored_reference_holds_one_model_and_hashes_no_weights(
    stored: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl.trainer import dpo_trainer

    loaded = []
    load = dpo_trainer.create_model_from_path
    monkeypatch.setattr(
        dpo_trainer,
        "create_model_from_path",
        lambda *given, **kwargs: loaded.append(given) or load(*given, **kwargs),
    )
    monkeypatch.setattr(
        dpo_trainer, "hash_module", lambda _module: pytest.fail("hashed the weights")
    )
    code, _ = train(
        stored,
        start,
        tmp_path,
        max_steps=1,
        precompute_ref_log_probs=True,
        eval_strategy="steps",
        eval_steps=1,
    )
    assert code == 0
    assert len(loaded) == 1


def test_log_probs_of_other_weights_are_refused_with_both_digests(
    stored: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(start, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["lm_head.weight" if "lm_head.weight" in tensors else next(iter(tensors))][0, 0] += 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    code, _ = train(stored, other, tmp_path / "out", precompute_ref_log_probs=True)
    said = capsys.readouterr().err
    assert code == 2
    for model in (start, other):
        assert weights_digest(str(model))[0][:16] in said


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"bf16": True}, "dtype is float32 there and bfloat16 in this run"),
        ({"ld_alpha": 0.5}, "`ld_alpha` cannot be used with"),
        ({"sync_ref_model": True}, "`sync_ref_model` cannot be used with"),
        ({"load_in_4bit": True}, "`load_in_4bit` cannot be used with"),
    ],
)
def test_what_stored_log_probs_cannot_serve_is_refused_by_name(
    stored: Path,
    start: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    named: str,
) -> None:
    code, _ = train(stored, start, tmp_path, precompute_ref_log_probs=True, **settings)
    assert code == 2
    assert named in capsys.readouterr().err


def test_pairs_without_stored_log_probs_are_refused_with_the_command_that_makes_them(
    prefs: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = train(prefs, start, tmp_path, precompute_ref_log_probs=True)
    assert code == 2
    assert "run `zephyr-fast ref-logprobs`" in capsys.readouterr().err


def test_a_changed_configuration_or_data_set_is_another_key(
    stored: Path, shards: Path, start: Path, tmp_path: Path
) -> None:
    key = key_of(stored, start)
    other = shutil.copytree(start, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(
        json.dumps(config | {"transformers_version": "0", "use_cache": not config["use_cache"]})
    )
    assert key_of(stored, other) == key
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    assert key_of(stored, other).digest != key.digest
    assert key_of(shards, start).digest != key.digest


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (store, compute):
        monkeypatch.setattr(module, "PAIRS_PER_PART", 40)


@pytest.mark.usefixtures("small_parts")
def test_an_interrupted_run_goes_on_and_ends_with_the_bytes_of_one_that_was_not(
    prefs: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (shutil.copytree(prefs, tmp_path / name) for name in ("whole", "cut"))
    ref_logprobs(whole, str(start))
    folder, key, write = key_of(cut, start).folder(cut), key_of(cut, start), store.write_part
    written: list[str] = []

    def write_three(path: Path, values: store.LogProbs) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, values)

    monkeypatch.setattr(store, "write_part", write_three)
    with pytest.raises(KeyboardInterrupt):
        ref_logprobs(cut, str(start))
    with pytest.raises(ConfigError, match="has no stored reference log-probs"):
        store.read(cut, key, "train")
    damaged = folder / written[1]
    damaged.write_bytes(damaged.read_bytes()[:-90] + bytes(90))
    (folder / ".zephyr-draft-left").write_bytes(b"half")
    kept = {name: (folder / name).stat().st_ino for name in (written[0], written[2])}
    monkeypatch.setattr(store, "write_part", write)
    ref_logprobs(cut, str(start))
    assert files_of(folder) == files_of(key.folder(whole))
    assert len(files_of(folder)) > 6
    assert {name: (folder / name).stat().st_ino for name in kept} == kept


def test_a_finished_run_is_not_repeated_and_a_further_split_is_added(
    prefs: Path, stored: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = shutil.copytree(prefs, tmp_path / "prefs")
    folder = ref_logprobs(copied, str(start), splits=("test",))
    with pytest.raises(
        ConfigError,
        match="no log-probs for split `train`; run `zephyr-fast ref-logprobs --split train`",
    ):
        store.read(copied, key_of(copied, start), "train")
    ref_logprobs(copied, str(start), splits=("train",))
    assert files_of(folder) == files_of(key_of(stored, start).folder(stored))
    capsys.readouterr()
    ref_logprobs(copied, str(start))
    assert "nothing to do" in capsys.readouterr().err


def test_damage_is_found_before_a_value_is_used(stored: Path, start: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(stored, tmp_path / "prefs")
    key = key_of(copied, start)
    part = key.folder(copied) / "train-00000.arrow"
    content = part.read_bytes()
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(content), 200):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(generator.integers(8))
        part.write_bytes(flipped)
        with pytest.raises(IntegrityError, match="train-00000"):
            store.read(copied, key, "train")
    part.write_bytes(content[:-1])
    with pytest.raises(IntegrityError):
        store.read(copied, key, "train")
    part.unlink()
    with pytest.raises(IntegrityError, match="cannot read"):
        store.read(copied, key, "train")


def test_a_sidecar_of_another_key_under_this_ones_name_is_refused(
    stored: Path, start: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(stored, tmp_path / "prefs")
    key = key_of(copied, start)
    manifest = key.folder(copied) / "manifest.json"
    manifest.write_text(manifest.read_text().replace(key.weights, "0" * 64))
    with pytest.raises(IntegrityError, match="does not match its directory name"):
        store.read(copied, key, "train")


@pytest.mark.parametrize(
    ("schema", "way_out"), [(0, "; delete the directory"), (2, "; update zephyr-fast, or delete")]
)
def test_another_schema_is_refused_and_only_a_newer_one_asks_for_an_update(
    stored: Path, start: Path, tmp_path: Path, schema: int, way_out: str
) -> None:
    copied = shutil.copytree(stored, tmp_path / "prefs")
    key = key_of(copied, start)
    manifest = key.folder(copied) / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": schema}))
    with pytest.raises(InputError, match=rf"has schema {schema}, .* reads schema 1{way_out}"):
        store.read(copied, key, "train")


def test_the_bundled_model_is_not_looked_up_on_the_hub(prefs: Path) -> None:
    with pytest.raises(InputError, match="`sample` has no weights; run `sft` first"):
        ref_logprobs(prefs, "sample")


def test_two_processes_share_the_parts_and_write_the_bytes_of_one(
    prefs: Path, stored: Path, start: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(prefs, tmp_path / "prefs")
    script = tmp_path / "share.py"
    script.write_text(
        "import sys\n"
        "from zephyr_fast.train.ref_logprobs import compute, store\n"
        "state, write = compute._processes(), store.write_part\n"
        "assert state.num_processes == 2\n"
        "rank = state.process_index\n"
        "store.write_part = lambda path, values: (print('wrote', rank, path.name, flush=True), "
        "write(path, values))\n"
        "compute.ref_logprobs(sys.argv[1], sys.argv[2])\n"
    )
    config = CONFIGS / "accelerate" / "cpu2.yaml"
    words = [
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(config),
        str(script),
        str(copied),
        str(start),
    ]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(line for line in done.stdout.splitlines() if "wrote" in line) == [
        "wrote 0 test-00000.arrow",
        "wrote 1 train-00000.arrow",
    ]
    key = key_of(stored, start)
    assert files_of(key.folder(copied)) == files_of(key.folder(stored))
