"""`zephyr-fast verify`: whatever is not as it was written is named, whole folders pass, and
nothing is written.
"""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

import zephyr_fast
from out_folder import files, manifest
from shell import refusal, shell
from zephyr_fast import InputError, IntegrityError, Manifest
from zephyr_fast.dataset.manifest import seal
from zephyr_fast.train.ref_logprobs.store import Key, part_name, write_manifest, write_part


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs with stored log-probs beside them, and a row in quarantine: every kind of file there
    is.
    """
    folder = tmp_path_factory.mktemp("whole")
    sample = Path(zephyr_fast.__file__).parent / "sample" / "ultrafeedback.jsonl"
    (folder / "rows.jsonl").write_bytes(sample.read_bytes() + b"no row\n")
    out = folder / "out"
    zephyr_fast.binarize(
        input=folder / "rows.jsonl",
        tokenizer="sample",
        out=out,
        overrides={"shards.test_fraction": 0.3},
    )
    read = Manifest.read(out)
    key = Key.of("weights", "config", "float32", read)
    sizes = {name: split.examples for name, split in read.splits.items()}
    for name, pairs in sizes.items():
        write_part(key.folder(out) / part_name(name, 0), np.zeros((pairs, 2), np.float32))
    write_manifest(out, key, sizes)
    return out


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """The data set, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def test_a_whole_data_set_passes_and_nothing_is_written(copy: Path) -> None:
    before = files(copy)
    assert {name.split("/")[0] for name in before} >= {
        "_ref",
        "_ledger",
        "_quarantine",
        "text",
        "tokenizer",
        "README.md",
    }
    found = zephyr_fast.verify(copy)
    assert (found.files, found.bytes) == (
        len(before) - 1,
        sum(map(len, before.values())) - len(before["manifest.json"]),
    )
    assert (
        found.batches
        == sum(
            len(shard["batches"])
            for split in manifest(copy)["splits"].values()
            for shard in split["shards"]
        )
        > 0
    )
    done = shell("verify", copy)
    assert (done.returncode, done.stderr) == (
        0,
        "",
    ) and f"`{copy}` is intact: {found.files} files" in done.stdout
    assert json.loads(shell("verify", copy, "--json").stdout)["problems"] == []
    assert files(copy) == before


def test_one_flipped_bit_of_any_file_is_found_and_the_file_is_named(copy: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for name, content in files(copy).items():
        # A digest that was changed in the manifest of log-probs is told as damage of the file that
        # it is of.
        told = (
            "_ref"
            if name.startswith("_ref/") and name.endswith("manifest.json")
            else Path(name).name
        )
        for _ in range(5):
            damaged = bytearray(content)
            damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            (copy / name).write_bytes(damaged)
            # InputError: the digit of the schema.
            with pytest.raises((IntegrityError, InputError), match=told):
                zephyr_fast.verify(copy)
        (copy / name).write_bytes(content)
    zephyr_fast.verify(copy)


def test_a_missing_cut_grown_or_stray_file_is_found(copy: Path) -> None:
    for name, content in files(copy).items():
        if name.endswith("manifest.json"):
            continue
        for damaged in (None, content[:-1], content + b"\0", b""):
            (copy / name).unlink()
            if damaged is not None:
                (copy / name).write_bytes(damaged)
            with pytest.raises(IntegrityError, match=Path(name).name):
                zephyr_fast.verify(copy)
            (copy / name).write_bytes(content)
    for name in ("train-00009.arrow", "text/more.parquet", ".zephyr-draft-xyz", "_work/lock"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"")
        with pytest.raises(IntegrityError, match=Path(name).name):
            zephyr_fast.verify(copy)
        (copy / name).unlink()
    (copy / ".gitattributes").write_bytes(b"")
    zephyr_fast.verify(copy)


def test_a_damaged_batch_is_named_with_its_offset(copy: Path) -> None:
    shard = manifest(copy)["splits"]["train"]["shards"][0]
    batch = shard["batches"][-1]
    content = bytearray((copy / shard["file"]).read_bytes())
    content[batch["offset"] + batch["bytes"] // 2] ^= 1
    (copy / shard["file"]).write_bytes(content)
    told = refusal(7, "verify", copy)
    assert (
        f"{shard['file']}`, batch {len(shard['batches']) - 1} at offset {batch['offset']}" in told
    )
    done = shell("verify", copy, "--json")
    (damage,) = json.loads(done.stdout)["problems"]
    assert done.returncode == 7 and (damage["file"], damage["offset"]) == (
        shard["file"],
        batch["offset"],
    )


def test_a_manifest_that_is_sealed_anew_must_still_add_up(copy: Path) -> None:
    told = manifest(copy)
    for change in (
        lambda told: told["rows"].update(written=told["rows"]["written"] - 1),
        lambda told: told["inputs"][0].update(rows=1),
        lambda told: told["made_from"].update(recipe="0" * 64),
        lambda told: told["splits"]["train"]["shards"][0]["batches"][0].update(examples=1),
        lambda told: told["splits"]["train"]["shards"][0].update(file="../copy/train-00000.arrow"),
        lambda told: told["splits"]["train"]["shards"][0]["batches"][0].update(offset=0),
        lambda told: told["splits"]["train"]["shards"][0]["batches"][0].update(bytes=2**63),
    ):
        changed = json.loads(json.dumps(told))
        change(changed)
        (copy / "manifest.json").write_text(seal(changed))
        with pytest.raises(IntegrityError):
            zephyr_fast.verify(copy)


def test_log_probs_of_other_pairs_are_found_and_an_unfinished_run_of_them_is_left_alone(
    copy: Path,
) -> None:
    (folder,) = (copy / "_ref").iterdir()
    told = json.loads((folder / "manifest.json").read_text())
    for change in (
        lambda told: told["key"].update(shards="0" * 64),
        lambda told: told["splits"]["train"].update(pairs=3),
        lambda told: told["splits"]["train"]["parts"][0].update(file="../../train-00000.arrow"),
        lambda told: told.pop("key"),
    ):
        changed = json.loads(json.dumps(told))
        change(changed)
        (folder / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(IntegrityError, match="_ref"):
            zephyr_fast.verify(copy)
    (folder / "manifest.json").unlink()
    zephyr_fast.verify(copy)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    assert "is not a dataset: it has no `manifest.json`" in refusal(4, "verify", tmp_path)
    absent = tmp_path / "absent"
    assert "is not a dataset: no such directory" in refusal(4, "verify", absent)
