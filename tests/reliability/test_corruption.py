"""Thousands of damaged data sets: no reader of ours hands out one row that is not what was
written, and none of them crashes.

`ZEPHYR_FAST_LONG=1` damages 200,000 times; `ZEPHYR_FAST_SEED=n` replays a printed seed. As a
program (`test_corruption.py FOLDER SEED`), it is the same check with the hash of batches
switched off, which must end in anything but success.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from children import PYTHONPATH
from out_folder import files, manifest, shard_rows
from zephyr_fast import InputError, IntegrityError, Shards
from zephyr_fast.dataset.manifest import seal

CASES = 200_000 if os.environ.get("ZEPHYR_FAST_LONG") else 5_000
SEED = int(os.environ.get("ZEPHYR_FAST_SEED", random.randrange(10**6)))
Damage = dict[str, bytes | None]
"""New content by file; None where a file is gone."""


class Folder:
    """A data set with its rows, and a stale one of other rows."""

    def __init__(self, path: Path, stale: Path) -> None:
        self.path, self.whole, self.stale = path, files(path), files(stale)
        self.told = manifest(path)
        self.rows = {
            split: [_plain(row) for row in Shards(path, split)] for split in self.told["splits"]
        }
        assert self.rows == {split: shard_rows(path, split) for split in self.rows}
        self.shards = {
            card["file"]: card for split in self.told["splits"].values() for card in split["shards"]
        }

    def damaged(self, damage: Damage) -> None:
        for name, content in damage.items():
            if content is None:
                (self.path / name).unlink(missing_ok=True)
            else:
                (self.path / name).write_bytes(content)

    def mend(self, damage: Damage) -> None:
        self.damaged({name: self.whole[name] for name in damage})

    def read(self) -> bool:
        """Whether every row could be read; each row that is handed out must be what was written."""
        try:
            for split, wanted in self.rows.items():
                rows = iter(Shards(self.path, split))
                for number, row in enumerate(rows):
                    assert _plain(row) == wanted[number], (
                        f"row {number} of {split} is not what was written"
                    )
                assert number + 1 == len(wanted), f"{split} has {number + 1} rows"
        except (IntegrityError, InputError):
            return False
        return True


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()
    }


def flipped(folder: Folder, chance: random.Random) -> Damage:
    name = chance.choice([*folder.shards, "manifest.json"])
    content = bytearray(folder.whole[name])
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return {name: bytes(content)}


def smeared(folder: Folder, chance: random.Random) -> Damage:
    """A sector of zeros, of noise, or of another place of the file."""
    name = chance.choice([*folder.shards, "manifest.json"])
    content = bytearray(folder.whole[name])
    length = min(chance.choice([1, 16, 512, 4096]), len(content))
    start, other = (
        chance.randrange(len(content) - length + 1),
        chance.randrange(len(content) - length + 1),
    )
    content[start : start + length] = chance.choice(
        [bytes(length), chance.randbytes(length), content[other : other + length]]
    )
    return {name: bytes(content)}


def cut(folder: Folder, chance: random.Random) -> Damage:
    name = chance.choice([*folder.shards, "manifest.json"])
    content = folder.whole[name]
    return {
        name: content[: chance.randrange(len(content))]
        if chance.random() < 0.7
        else content + chance.randbytes(chance.randint(1, 99))
    }


def swapped(folder: Folder, chance: random.Random) -> Damage:
    first, second = chance.sample(sorted(folder.shards), 2)
    return {first: folder.whole[second], second: folder.whole[first]}


def stale(folder: Folder, chance: random.Random) -> Damage:
    """Files of an older data set of the same folder, as an interrupted copy leaves them: its
    manifest, or some of its shards.
    """
    shards = sorted(folder.shards.keys() & folder.stale.keys())
    names = (
        ["manifest.json"]
        if chance.random() < 0.3
        else chance.sample(shards, chance.randint(1, len(shards)))
    )
    return {name: folder.stale[name] for name in names}


def missing(folder: Folder, chance: random.Random) -> Damage:
    return {chance.choice([*folder.shards, "manifest.json"]): None}


def edited(folder: Folder, chance: random.Random) -> Damage:
    """Any number or word of the manifest, changed by somebody who does not know of the seal."""
    told = json.loads(folder.whole["manifest.json"])
    place: Any = told
    while True:
        key = chance.choice([*place] if isinstance(place, dict) else range(len(place)))
        if not isinstance(place[key], dict | list) or not place[key]:
            break
        place = place[key]
    place[key] = chance.choice([0, -1, "", None, 2**63, [], {}, "../" * 9, True])
    return {"manifest.json": (json.dumps(told, indent=2) + "\n").encode()}


def forged(folder: Folder, chance: random.Random) -> Damage:
    """What a manifest says of the batches, changed by somebody who seals it anew."""
    told = json.loads(folder.whole["manifest.json"])
    cards = told["splits"][chance.choice(list(told["splits"]))]["shards"]
    card = chance.choice(cards)
    batch = chance.choice(card["batches"])
    changes: list[Callable[[], object]] = [
        lambda: batch.update(offset=chance.choice([0, batch["offset"] + 8, 2**40, -8])),
        lambda: batch.update(
            bytes=chance.choice([0, batch["bytes"] - 8, batch["bytes"] + 8, 2**40, -1])
        ),
        lambda: batch.update(examples=chance.choice([0, batch["examples"] + 1, 2**40, -1])),
        lambda: batch.update(xxh3=chance.choice(["", "0" * 16, batch["xxh3"][::-1]])),
        lambda: card["batches"].append(batch),
        lambda: card["batches"].remove(batch),
        lambda: card.update(
            file=chance.choice(["", "..", "/etc/passwd", "../x.arrow", "manifest.json", "text"])
        ),
        lambda: card.update(bytes=card["bytes"] + 1),
        lambda: cards.append(card),
        lambda: cards.remove(card),
    ]
    chance.choice(changes)()
    return {"manifest.json": seal(told).encode()}


KINDS = [flipped, flipped, flipped, smeared, cut, swapped, stale, missing, edited, forged]


def check(folder: Folder, chance: random.Random, cases: int) -> None:
    for number in range(cases):
        kind = KINDS[number % len(KINDS)]
        damage = kind(folder, chance)
        if all(content == folder.whole[name] for name, content in damage.items()):
            continue  # noise that says the same
        folder.damaged(damage)
        try:
            if folder.read():
                # All rows are right, so the damage is in bytes that no reader of ours looks at:
                # only `verify` reads those.
                with pytest.raises(IntegrityError):
                    zephyr_fast.verify(folder.path)
                assert kind in (flipped, smeared), kind
                assert all(
                    not in_a_batch(folder, name, content) for name, content in damage.items()
                )
        except AssertionError as error:
            raise AssertionError(
                f"ZEPHYR_FAST_SEED={SEED}, case {number}, {kind.__name__} {list(damage)}"
            ) from error
        finally:
            folder.mend(damage)


def in_a_batch(folder: Folder, name: str, content: bytes | None) -> bool:
    whole = folder.whole[name]
    if content is None or name not in folder.shards:
        return True
    spans = [
        slice(batch["offset"], batch["offset"] + batch["bytes"])
        for batch in folder.shards[name]["batches"]
    ]
    return any(content[span] != whole[span] for span in spans)


@pytest.fixture(scope="module", params=["prep", "binarize"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    above = tmp_path_factory.mktemp(request.param)
    verb = getattr(zephyr_fast, request.param)
    settings = {
        "shards.test_fraction": 0.4,
        "shards.shard_bytes_max": 1 << 20,
        "shards.text": False,
    }
    for name, seed in (("whole", 1), ("stale", 2)):
        sample = (
            Path(zephyr_fast.__file__).parent
            / "sample"
            / ("ultrachat.jsonl" if request.param == "prep" else "ultrafeedback.jsonl")
        )
        lines = sample.read_bytes().splitlines(keepends=True)
        (above / "rows.jsonl").write_bytes(b"".join(lines[seed * 40 : seed * 40 + 100]))
        verb(input=above / "rows.jsonl", tokenizer="sample", out=above / name, overrides=settings)
    return Folder(above / "whole", above / "stale")


def test_whatever_is_damaged_no_wrong_row_is_handed_out(folder: Folder) -> None:
    print(f"seed {SEED}")
    check(folder, random.Random(SEED), CASES // 2)
    assert all(folder.read() for _ in range(2)) and zephyr_fast.verify(folder.path)


def test_without_the_hash_of_batches_the_check_fails(folder: Folder, tmp_path: Path) -> None:
    for name in ("whole", "stale"):  # a copy: the program may not live to mend what it damages
        shutil.copytree(folder.path.parent / name, tmp_path / name)
    words = [sys.executable, __file__, str(tmp_path), str(SEED)]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
        check=False,
    )
    assert done.returncode != 0 and (
        "AssertionError" in done.stderr or done.returncode < 0 or "pyarrow" in done.stderr
    ), done.stderr


class _Anything(str):
    """A hash that equals every other."""

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


if __name__ == "__main__":
    from types import SimpleNamespace

    from zephyr_fast.load import shards

    hashed = SimpleNamespace(hexdigest=lambda: _Anything())
    shards.xxhash = SimpleNamespace(xxh3_64=lambda message: hashed)  # type: ignore[assignment]
    check(
        Folder(Path(sys.argv[1]) / "whole", Path(sys.argv[1]) / "stale"),
        random.Random(int(sys.argv[2])),
        300,
    )
