"""Generated hostile data sets, servers and stored log-probs, for as long as
`ZEPHYR_FAST_FUZZ_SECONDS` says and at least `CASES_MIN` each.

Each case is a genuine data set with something changed and every hash made right again. It ends
in the right rows or in a typed error; no process dies, nothing is asked of anyone but the server
that was named, nothing is written but in the cache. `ZEPHYR_FAST_SEED` replays. The cases run in
a process of their own: `python tests/security/test_hostile_folders.py folders|servers|parts
FOLDER`.
"""

import copy
import hashlib
import http.server
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash

from children import PYTHONPATH
from hostile_server import Answer, HostileServer, redirect, serving, wait_for_downloads
from numbered import numbered, numbered_pairs
from out_folder import files
from scrambled import place
from zephyr_fast import InternalError, Shards, ZephyrError
from zephyr_fast.dataset.manifest import seal
from zephyr_fast.train.ref_logprobs import store

SECONDS = float(os.environ.get("ZEPHYR_FAST_FUZZ_SECONDS", "2"))
SEED = int(os.environ.get("ZEPHYR_FAST_SEED", random.randrange(10**6)))
CASES_MIN = int(os.environ.get("ZEPHYR_FAST_FUZZ_CASES", "100"))
"""So that a slow machine, too, tries something."""
MEMORY_MORE_MAX = 500 << 10
"""KiB: what a manifest of the largest size takes, and some room."""
ROWS = 12
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


def cases() -> Iterator[random.Random]:
    """One generator of chance per case, each from its own seed, so that a case can be replayed
    alone.
    """
    end, number = time.monotonic() + SECONDS, 0
    while time.monotonic() < end or number < CASES_MIN:
        yield random.Random(f"{SEED} {number}")
        number += 1


@pytest.mark.parametrize("what", ["folders", "servers", "parts"])
def test_every_hostile_case_ends_in_the_right_rows_or_a_typed_error(
    what: str, tmp_path: Path
) -> None:
    around = os.environ | {
        "PYTHONPATH": PYTHONPATH,
        "ZEPHYR_FAST_SEED": str(SEED),
        "PYTHONFAULTHANDLER": "1",
    }
    around |= {"ZEPHYR_FAST_CACHE": str(tmp_path / "cache")}
    words = [sys.executable, __file__, what, str(tmp_path / "sets")]
    done = subprocess.run(words, capture_output=True, text=True, env=around, check=False)
    print(f"seed {SEED}", done.stdout)
    assert done.returncode == 0, f"ZEPHYR_FAST_SEED={SEED}: {done.stderr[-3000:]}"


class Genuine:
    """A data set that is changed and put back, with its rows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.whole = folder, files(folder)
        self.told = json.loads(self.whole["manifest.json"])
        self.rows = plain(list(Shards(folder, "train")))

    def restore(self) -> None:
        for path in self.folder.rglob("*"):
            is_ours = path.is_file() and str(path.relative_to(self.folder)) in self.whole
            if path.is_symlink() or not (path.is_dir() or is_ours):
                path.unlink()
        for name, content in self.whole.items():
            (self.folder / name).write_bytes(content)


def plain(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            name: value.tolist() if hasattr(value, "tolist") else value
            for name, value in sample.items()
        }
        for sample in samples
    ]


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


def outcome(where: str, genuine: Genuine, other_rows: bool) -> str:
    """Reads everything, and says how that ended."""
    try:
        shards = Shards(where, "train")
        samples = plain(list(shards.samples(range(min(len(shards), 100)))))
        rows, lengths = plain(list(shards)), shards.lengths()
    except ZephyrError as error:
        assert not isinstance(error, InternalError), error
        assert str(error).isprintable() and len(str(error)) < 2_000, ascii(str(error))
        return type(error).__name__
    assert (
        len(samples) == min(len(rows), 100) and len(rows) == len(lengths) and (lengths >= 0).all()
    )
    assert other_rows or rows == genuine.rows
    return "rows"


def folders(place: Path) -> Counter[str]:
    """Data sets of this machine."""
    genuines, ended = (
        [Genuine(numbered(place / "sft", ROWS)), Genuine(numbered_pairs(place / "pairs", ROWS))],
        Counter[str](),
    )
    for chance in cases():
        genuine = chance.choice(genuines)
        told, content, other_rows = changed(genuine, chance)
        content["manifest.json"] = text_of(told, chance)
        for name, there in content.items():
            (genuine.folder / name).write_bytes(there)
        if chance.random() < 0.1:
            plant(genuine.folder / chance.choice(sorted(genuine.whole)), place, chance)
            other_rows = True
        before = listing(place)
        ended[outcome(str(genuine.folder), genuine, other_rows)] += 1
        assert listing(place) == before, "reading a data set wrote something"
        genuine.restore()
    assert not (place.parent / "cache").exists()
    return ended


def plant(path: Path, place: Path, chance: random.Random) -> None:
    """Something else in place of a file."""
    path.unlink()
    kind = chance.randrange(4)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to(chance.choice(["/dev/zero", "/dev/null", "/etc", "/nowhere", path, place]))


def listing(place: Path) -> list[tuple[str, int, int]]:
    found = ((str(path), path.lstat()) for path in place.rglob("*"))
    return sorted((name, there.st_size, there.st_mtime_ns) for name, there in found)


def servers(place: Path) -> Counter[str]:
    """Data sets behind a hostile server; a second one, which nobody may ask, listens beside it."""
    genuine, ended, cache = (
        Genuine(numbered(place / "sft", ROWS)),
        Counter[str](),
        Path(os.environ["ZEPHYR_FAST_CACHE"]),
    )
    with serving() as server, serving() as beside:
        for chance in cases():
            told, content, other_rows = changed(genuine, chance)
            content["manifest.json"] = text_of(told, chance)
            url = publish(server, beside, content, chance)
            before = listing(place)
            ended[outcome(url, genuine, other_rows)] += 1
            wait_for_downloads()
            assert (
                all(path.startswith(("/set/", "/r")) for path in server.asked) and not beside.asked
            ), (server.asked, beside.asked)
            assert listing(place) == before and {path.name for path in place.parent.iterdir()} <= {
                "cache",
                "sets",
            }
            check_cache(cache)
    return ended


def publish(
    server: HostileServer, beside: HostileServer, content: dict[str, bytes], chance: random.Random
) -> str:
    """Puts the files on the server, some of them with an answer that is hostile itself."""
    server.files = {f"/set/{name}": there for name, there in content.items()}
    for name in list(server.files):
        if chance.random() < 0.1:
            server.files[name] = hostile_answer(server, beside, name, content, chance)
    server.asked.clear()
    return f"{server.url}/set"


def hostile_answer(
    server: HostileServer,
    beside: HostileServer,
    name: str,
    content: dict[str, bytes],
    chance: random.Random,
) -> Answer:
    whole = content[name.removeprefix("/set/")]
    targets = [
        f"{beside.url}/x",
        f"https://127.0.0.1:{beside.server_port}/x",
        "file:///etc/passwd",
        "reference://a::http://b/c",
        name,
        "/r",
    ]
    targets += [
        f"https://localhost:{beside.server_port}",
        "http://169.254.169.254/",
        "//[",
        "\t",
        f"http://u:p@127.0.0.1:{beside.server_port}/",
    ]
    raws = [
        b"",
        b"\0" * 50,
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\nx",
        b"HTTP/1.1 999 \x1b[2J\r\n\r\n",
        b"HTTP/1.1 200\r\n" + b"a:b\r\n" * 200,
    ]
    raws += [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + one
        for one in (b"-1\r\n", b"ffffffffffffffff\r\nx", b"1\r\nab", b"0\r\n")
    ]
    raws += [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
    ]
    raws += [
        b"HTTP/1.1 200 OK\r\n\r\n" + whole + b"more" * 100_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + whole[: len(whole) // 2],
    ]
    kind, raw = chance.randrange(3), chance.choice(raws)
    if kind == 0:
        return redirect(chance.choice(targets), chance.choice([301, 302, 303, 307, 308, 300, 304]))
    if kind == 1:
        return chance.choice([whole + b"x", whole[:-1], b"", whole[::-1]])

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(raw)

    return answer


def check_cache(cache: Path) -> None:
    """Nothing of ours is open to others, no link is in it, and no file is larger than its data
    set's.
    """
    for path in cache.rglob("*"):
        there = path.lstat()
        assert (
            there.st_mode & 0o077 == 0
            and (path.is_dir() or path.is_file())
            and not path.is_symlink()
        ), path
        assert there.st_size < 1 << 20, path
    for entry in list(cache.glob("*")):
        if len(list(cache.glob("*"))) > 50:
            shutil.rmtree(entry)


def parts(place: Path) -> Counter[str]:
    """Stored log-probs."""
    import numpy as np

    ended: Counter[str] = Counter()
    key = store.Key("w", "c", "float32", "s", "t", "p", 8)
    values = np.arange(60, dtype=np.float32).reshape(30, 2)
    folder = key.folder(place)
    place.mkdir(parents=True)
    store.write_part(folder / "train-00000.arrow", values)
    store.write_manifest(place, key, {"train": 30})
    whole, told = (
        (folder / "train-00000.arrow").read_bytes(),
        json.loads((folder / "manifest.json").read_text()),
    )
    for chance in cases():
        damaged, forged = bytearray(whole), copy.deepcopy(told)
        for _ in range(chance.randint(0, 6)):
            width = chance.choice([1, 2, 4, 8])
            place_of = chance.randrange(len(damaged) - 8)
            number = chance.choice(
                [0, 1, 0x7F, 2**31 - 1, 2**61, 2**63 - 1, 2**64 - 1, chance.randrange(2**64)]
            )
            damaged[place_of : place_of + width] = (number % 2 ** (8 * width)).to_bytes(
                width, "little"
            )
        if chance.random() < 0.1:
            damaged = damaged[: chance.randrange(len(damaged))]
        forged["splits"]["train"]["parts"][0]["sha256"] = hashlib.sha256(damaged).hexdigest()
        if chance.random() < 0.3:
            scramble(forged, chance)
        (folder / "train-00000.arrow").write_bytes(damaged)
        (folder / "manifest.json").write_text(
            json.dumps(forged) if chance.random() < 0.95 else "[" * chance.choice([900, 5_000])
        )
        try:
            # Its own checksum is in the part, so what is read is what was written.
            assert np.array_equal(store.read(place, key, "train"), values)
            ended["rows"] += 1
        except ZephyrError as error:
            assert not isinstance(error, InternalError) and str(error).isprintable(), ascii(
                str(error)
            )
            ended[type(error).__name__] += 1
    return ended


if __name__ == "__main__":
    memory_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = {"folders": folders, "servers": servers, "parts": parts}[sys.argv[1]](
        Path(sys.argv[2])
    )
    memory_more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_before
    print(f"{sum(result.values())} cases: {dict(result)}; {memory_more >> 10} MiB more")
    assert memory_more < MEMORY_MORE_MAX
