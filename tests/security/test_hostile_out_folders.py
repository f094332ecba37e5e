"""Out folders that somebody prepared: whatever is planted at the names that a run uses, nothing
outside is changed and no user's file goes.

Folders are generated around a bystander, which itself looks like a data set, so that a link that
is followed would find files to sweep. `ZEPHYR_FAST_FUZZ_SECONDS` says for how long (8 without
it), `ZEPHYR_FAST_SEED` replays a printed seed.
"""

import os
import random
import shutil
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

import zephyr_fast
from bed import HANG_SECONDS, Bed, digest, prepared
from zephyr_fast import InternalError, ZephyrError

LONG = bool(os.environ.get("ZEPHYR_FAST_LONG"))
SECONDS = float(os.environ.get("ZEPHYR_FAST_FUZZ_SECONDS", "120" if LONG else "8"))
SEED = int(os.environ.get("ZEPHYR_FAST_SEED", random.randrange(10**6)))
MINE = "mine.txt"
FOLDERS = ["_work", "text", "tokenizer", "_ledger", "_quarantine", "_ref", "_ref/0123456789abcdef"]
FILES = [
    "README.md",
    "manifest.json",
    "train-00000.arrow",
    "test-00000.arrow",
    "train-00001.arrow",
    "text/train-00000.parquet",
    "text/x",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "_ledger/part-00000.parquet",
    "_quarantine/00000-rows.jsonl.jsonl",
    "_ref/0123456789abcdef/manifest.json",
    "_ref/0123456789abcdef/train-00000.arrow",
    "_work/lock",
    "_work/run.json",
    "_work/shingles",
    "_work/samples-train",
    ".zephyr-draft-0123456789abcdef",
    "_work/.zephyr-draft-x",
    "text/.zephyr-draft-x",
    "notes.md",
]
STATES = [
    "absent",
    "empty",
    "work alone",
    "finished",
    "finished, of another run",
    "unfinished",
    "unfinished, of another run",
]


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    return Bed(tmp_path_factory.mktemp("bed"))


@contextmanager
def no_hang() -> Iterator[None]:
    """Ends what hangs. The engine asks for signals while it waits, so this ends all but a call
    of the system that never returns.
    """

    def late(*_: object) -> None:
        raise TimeoutError(f"nothing came in {HANG_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(act: Callable[[], object]) -> str:
    """`ok`, or the name of the typed error; anything else is raised."""
    with no_hang():
        try:
            act()
        except InternalError:
            raise
        except ZephyrError as error:
            return type(error).__name__
    return "ok"


def planted(bed: Bed, chance: random.Random, out: Path, name: str) -> str:
    """Puts something at a name of the out folder, and a file of the user's beside or below it;
    says what.
    """
    path = out / name
    if any(
        above.is_symlink() or (above.exists() and not above.is_dir())
        for above in path.parents
        if above != out and out in above.parents
    ):
        return "behind another"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = (
        path.read_bytes()
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 20
        else None
    )
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    within = [victim for victim in bed.victim.rglob("*")]
    kinds: dict[str, Callable[[], object]] = {
        "link to a file": lambda: path.symlink_to(
            chance.choice([found for found in within if found.is_file()])
        ),
        "link to a folder": lambda: path.symlink_to(
            chance.choice([bed.victim, *[found for found in within if found.is_dir()]])
        ),
        "link to the same name": lambda: path.symlink_to(bed.victim / name),
        "link to a new name": lambda: path.symlink_to(bed.victim / "absent"),
        "relative link": lambda: path.symlink_to(os.path.relpath(bed.victim, path.parent)),
        "link to itself": lambda: path.symlink_to(path.name),
        "link to here": lambda: path.symlink_to("."),
        "link to above": lambda: path.symlink_to(".."),
        "link to the root": lambda: path.symlink_to("/"),
        "link to a device": lambda: path.symlink_to("/dev/zero"),
        "hard link": lambda: path.hardlink_to(
            chance.choice([found for found in within if found.is_file()])
        ),
        "FIFO": lambda: os.mkfifo(path),
        "socket": lambda: socketed(path),
        "folder": lambda: with_mine(path),
        "folder of links": lambda: (
            path.mkdir(),
            (path / "train-00000.arrow").symlink_to(bed.victim / "keep"),
        ),
        "file": lambda: path.write_text("not what it seems"),
        "empty file": lambda: path.write_text(""),
        "file of holes": lambda: path.open("wb").truncate(1 << 40),
        "cut file": lambda: path.write_bytes((kept or b"")[:-1]),
        "deep JSON": lambda: path.write_text("[" * 100_000),
        "nothing": lambda: None,
    }
    kind = chance.choice(list(kinds))
    kinds[kind]()
    return kind


def socketed(path: Path) -> None:
    """A socket; bound by a relative name, since an address has room for a short one only."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def with_mine(path: Path) -> None:
    path.mkdir()
    (path / MINE).write_text("mine")


def mine(out: Path) -> set[str]:
    """The files of the user's own, by path."""
    return {
        str(path.relative_to(out))
        for path in (Path(above, name) for above, _, names in os.walk(out) for name in names)
        if path.name in (MINE, "notes.md")
    }


def one_case(bed: Bed, chance: random.Random, out: Path) -> tuple[str, list[str]]:
    """Prepares a folder and tries everything on it; gives what it was and how each try ended."""
    name, state = chance.choice(["text", "text", "tokens"]), chance.choice(STATES)
    prepared(bed, name, state, out)
    told = [f"{name}, {state}"]
    for _ in range(chance.randint(1, 3)):
        at = chance.choice(FOLDERS + FILES)
        told.append(f"{at}: {planted(bed, chance, out, at)}")
    if chance.random() < 0.3 and (out / "text").is_dir() and not (out / "text").is_symlink():
        (out / "text" / MINE).write_text("mine")
    kept, case = mine(out) if out.is_dir() else set(), "; ".join(told)
    options = bed.options[name]
    acts: dict[str, Callable[[], object]] = {
        "verify": lambda: zephyr_fast.verify(out),
        "prep": lambda: zephyr_fast.prep(**options, out=out),
        "prep --overwrite": lambda: zephyr_fast.prep(**options, out=out, overwrite=True),
        "another prep": lambda: zephyr_fast.prep(**bed.other, out=out),
    }
    ends = []
    for act in [*chance.sample(list(acts), 3), "prep", "verify"]:
        ends.append(f"{act}: {outcome(acts[act])}")
        assert digest(bed.victim) == bed.before, f"seed {SEED}: {case}: {ends}"
        assert not out.is_dir() or mine(out) >= kept, f"seed {SEED}: {case}: {ends}"
    return case, ends


def test_whatever_is_planted_in_an_out_folder_nothing_outside_changes_and_every_end_is_typed(
    bed: Bed, tmp_path: Path
) -> None:
    print(f"seed {SEED}")
    end, number, ends = time.monotonic() + SECONDS, 0, Counter[str]()
    while time.monotonic() < end or number < 50:
        out = tmp_path / f"out-{number}"
        ends.update(one_case(bed, random.Random(f"{SEED}-{number}"), out)[1])
        shutil.rmtree(out, ignore_errors=True)
        number += 1
    print(f"{number} folders, {sum(ends.values())} commands: {dict(ends)}")
    kinds = {told.split(": ")[1] for told in ends}
    assert kinds >= {"ok", "OutputExistsError", "IntegrityError", "InputError"} and kinds <= {
        "ok",
        "InputError",
        "OutputExistsError",
        "LockedError",
        "IntegrityError",
        "StorageError",
    }


def test_each_hazard_at_each_name_alone_ends_well(bed: Bed, tmp_path: Path) -> None:
    """Every name once with the links that did harm, in a folder that is otherwise an unfinished
    run of ours, or has nothing else.
    """
    for number, name in enumerate(FOLDERS + FILES):
        for state in ("empty", "unfinished"):
            for target in (bed.victim, bed.victim / name, bed.victim / "keep"):
                out = tmp_path / f"out-{number}"
                prepared(bed, "text", state, out)
                path = out / name
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                path.symlink_to(target)
                ends = [
                    outcome(
                        partial(zephyr_fast.prep, **bed.options["text"], out=out, overwrite=over)
                    )
                    for over in (False, True)
                ]
                assert digest(bed.victim) == bed.before, (name, state, target, ends)
                shutil.rmtree(out)
