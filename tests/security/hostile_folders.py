"""Genuine data sets with something changed and every hash made right again, drawn by chance."""

import copy
import hashlib
import json
import random
from pathlib import Path
from typing import Any

import xxhash

from out_folder import files, plain
from scrambled import place
from zephyr_fast import Shards
from zephyr_fast.dataset.manifest import seal

NAMES = [
    "origin.json",
    "origin",
    "../x",
    "/etc/passwd",
    "",
    "..",
    "x\0y",
    "manifest.json",
    "tokenizer/evil.py",
    "train-00000.arrow",
    "a\x1b[2J",
]
NUMBERS = [
    0,
    1,
    7,
    8,
    255,
    -1,
    2**31 - 1,
    2**31,
    2**32,
    2**61,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    1.5,
    1e308,
]
OTHERS = [
    None,
    True,
    [],
    {},
    [[]],
    {"a": {}},
    "\x1b]0;x\x07",
    "x" * 5_000,
    "\ud800",
    "0" * 16,
    "0" * 64,
]


class Genuine:
    """A data set that is changed and put back, with its rows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.whole = folder, files(folder)
        self.told = json.loads(self.whole["manifest.json"])
        self.rows = [plain(sample) for sample in Shards(folder, "train")]

    def restore(self) -> None:
        for path in self.folder.rglob("*"):
            is_ours = path.is_file() and str(path.relative_to(self.folder)) in self.whole
            if path.is_symlink() or not (path.is_dir() or is_ours):
                path.unlink()
        for name, content in self.whole.items():
            (self.folder / name).write_bytes(content)


def changed(
    genuine: Genuine, chance: random.Random
) -> tuple[dict[str, Any], dict[str, bytes], bool]:
    """The manifest and files of a hostile case, and whether the rows may be others: bytes that
    stand for ids may be any ids.
    """
    told, content, other_rows = copy.deepcopy(genuine.told), dict(genuine.whole), False
    if chance.random() < 0.6:
        card = chance.choice(told["splits"]["train"]["shards"])
        hurt_batch(content, card, chance)
        other_rows = True
    if chance.random() < 0.2:
        where = chance.choice([*told["splits"]["train"]["shards"], *told["files"], {}])
        where["file"] = chance.choice(NAMES)
    if chance.random() < 0.5:
        scramble(told, chance)
        other_rows = True
    if chance.random() < 0.2:
        content[
            chance.choice(["origin.json", "origin", ".zephyr-draft-lock-x", "_ref", "locks"])
        ] = b'{"url": "http://127.0.0.1:9/x"}'
    return told, content, other_rows


def hurt_batch(content: dict[str, bytes], card: dict[str, Any], chance: random.Random) -> None:
    """Changes bytes of a batch, mostly of its header, and makes its hashes right."""
    batch, damaged = chance.choice(card["batches"]), bytearray(content[card["file"]])
    start, size = batch["offset"], batch["bytes"]
    for _ in range(chance.randint(1, 6)):
        place = start + chance.randrange(chance.choice([size, min(size, 600)]))
        width = chance.choice([1, 2, 4, 8])
        number = chance.choice(
            [0, 1, 0x7F, 0xFF, 2**31 - 1, 2**61, 2**63 - 1, 2**64 - 1, chance.randrange(2**64)]
        )
        place -= place % width
        damaged[place : place + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
    del damaged[len(content[card["file"]]) :]
    content[card["file"]] = bytes(damaged)
    batch["xxh3"] = xxhash.xxh3_64(content[card["file"]][start : start + size]).hexdigest()
    card["sha256"] = hashlib.sha256(content[card["file"]]).hexdigest()


def scramble(value: Any, chance: random.Random) -> None:
    """Somewhere in the manifest, something of another kind, size or number."""
    value, key = place(value, chance)
    kind = chance.randrange(5)
    if kind == 0 and isinstance(value, dict):
        value[chance.choice(["../x", "\x1b", "y" * 3_000, "train"])] = value.pop(key)
    elif kind == 1 and isinstance(value, list):
        value.extend(copy.deepcopy(value) * chance.choice([1, 2, 100]))
    elif kind == 2:
        del value[key]
    else:
        value[key] = chance.choice([*NUMBERS, *OTHERS, *NAMES])


def text_of(told: dict[str, Any], chance: random.Random) -> bytes:
    """The manifest with its seal, or something that is no manifest."""
    text = (
        seal(told).encode("utf-8", "surrogatepass")
        if not holds_half_characters(told)
        else json.dumps(told).encode()
    )
    if chance.random() < 0.1:
        depth = chance.choice([100, 900, 990, 1_000, 50_000])
        text = chance.choice(
            [
                b"[" * depth,
                b'{"a":' * depth + b"1" + b"}" * depth,
                text[: chance.randrange(len(text))],
                b"\xff" + text,
                b"",
            ]
        )
    return text


def holds_half_characters(told: Any) -> bool:
    return "\\ud800" in json.dumps(told)
