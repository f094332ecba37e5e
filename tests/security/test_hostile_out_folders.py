"""Out folders that somebody prepared: whatever is planted at the names that a run uses, nothing outside is changed and no user's file goes.

Folders are generated around a bystander, which itself looks like a data set, so that a link that is followed would find files to sweep.
`ZEPHYR_FAST_FUZZ_SECONDS` says for how long (8 without it), `ZEPHYR_FAST_SEED` replays a printed seed.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from out_folder import files, manifest
from test_cli import command, refusal, rows_file
from zephyr_fast import IntegrityError, InternalError, OtherRunError, ZephyrError

LONG = bool(os.environ.get("ZEPHYR_FAST_LONG"))
SECONDS = float(os.environ.get("ZEPHYR_FAST_FUZZ_SECONDS", "120" if LONG else "8"))
SEED = int(os.environ.get("ZEPHYR_FAST_SEED", random.randrange(10**6)))
HANG_SECONDS = 120
"""Far above what any case takes on any machine."""

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
STATES = ["absent", "empty", "work alone", "finished", "finished, of another run", "unfinished", "unfinished, of another run"]


class Bed:
    """The runs that folders are prepared for, and the bystander."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = rows_file(folder / "rows.jsonl", 4, bad=1)
        same: dict[str, Any] = {"shards.test_fraction": 0.3, "tokenize.control_tokens": "allow", "dedup.near": False}
        self.options: dict[str, dict[str, Any]] = {
            "text": {"input": rows, "settings": {"shards.tokens": False, **same}, "threads": 1},
            "tokens": {"input": rows, "tokenizer": "sample", "settings": same, "threads": 1},
        }
        self.other = {"input": rows, "settings": {"shards.tokens": False, **same, "seed": 7}, "threads": 1}
        for name, options in self.options.items():
            zephyr_fast.prep(**options, out=folder / name)
        zephyr_fast.prep(**self.other, out=folder / "other")
        self.victim = folder / "victim"
        shutil.copytree(folder / "tokens", self.victim)
        for name in ("_work/lock", "_work/run.json", "_ref/0123456789abcdef/manifest.json", "keep", "sub/f"):
            (self.victim / name).parent.mkdir(parents=True, exist_ok=True)
            (self.victim / name).write_text("theirs")
        (self.victim / "_work" / "lock").write_text("")
        (self.victim / "_work" / "run.json").write_text(self.note("text"))
        self.before = digest(self.victim)

    def note(self, name: str) -> str:
        return json.dumps(manifest(self.folder / name)["made_from"])


def digest(folder: Path) -> dict[str, object]:
    """What a folder holds: kinds, modes and contents by name, links not followed."""
    found: dict[str, object] = {}
    for above, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            path = Path(above, name)
            what = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(what.st_mode) else ""
            found[str(path.relative_to(folder))] = (stat.S_IFMT(what.st_mode), stat.S_IMODE(what.st_mode), content)
    return found


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    return Bed(tmp_path_factory.mktemp("bed"))


@contextmanager
def no_hang() -> Iterator[None]:
    """Ends what hangs. The engine asks for signals while it waits, so this ends all but a call of the system that never returns."""

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


def prepared(bed: Bed, name: str, state: str, out: Path) -> None:
    if state == "empty":
        out.mkdir()
    elif state == "work alone":
        (out / "_work").mkdir(parents=True)
    elif state.startswith("finished"):
        shutil.copytree(bed.folder / ("other" if "another" in state else name), out)
    elif state.startswith("unfinished"):
        made = bed.folder / ("other" if "another" in state else name)
        shutil.copytree(made, out)
        (out / "manifest.json").unlink()
        (out / "_work").mkdir()
        (out / "_work" / "lock").write_text("process 1")
        (out / "_work" / "run.json").write_text(bed.note(made.name))


def planted(bed: Bed, chance: random.Random, out: Path, name: str) -> str:
    """Puts something at a name of the out folder, and a file of the user's beside or below it; says what."""
    path = out / name
    if any(
        above.is_symlink() or (above.exists() and not above.is_dir()) for above in path.parents if above != out and out in above.parents
    ):
        return "behind another"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = path.read_bytes() if path.is_file() and not path.is_symlink() else None
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    within = [victim for victim in bed.victim.rglob("*")]
    kinds: dict[str, Callable[[], object]] = {
        "link to a file": lambda: path.symlink_to(chance.choice([found for found in within if found.is_file()])),
        "link to a folder": lambda: path.symlink_to(chance.choice([bed.victim, *[found for found in within if found.is_dir()]])),
        "link to the same name": lambda: path.symlink_to(bed.victim / name),
        "link to a new name": lambda: path.symlink_to(bed.victim / "absent"),
        "relative link": lambda: path.symlink_to(os.path.relpath(bed.victim, path.parent)),
        "link to itself": lambda: path.symlink_to(path.name),
        "link to here": lambda: path.symlink_to("."),
        "link to above": lambda: path.symlink_to(".."),
        "link to the root": lambda: path.symlink_to("/"),
        "link to a device": lambda: path.symlink_to("/dev/zero"),
        "hard link": lambda: path.hardlink_to(chance.choice([found for found in within if found.is_file()])),
        "FIFO": lambda: os.mkfifo(path),
        "socket": lambda: socketed(path),
        "folder": lambda: with_mine(path),
        "folder of links": lambda: (path.mkdir(), (path / "train-00000.arrow").symlink_to(bed.victim / "keep")),
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


def test_whatever_is_planted_in_an_out_folder_nothing_outside_changes_and_every_end_is_typed(bed: Bed, tmp_path: Path) -> None:
    print(f"seed {SEED}")
    end, number, ends = time.monotonic() + SECONDS, 0, Counter[str]()
    while time.monotonic() < end or number < 50:
        out = tmp_path / f"out-{number}"
        ends.update(one_case(bed, random.Random(f"{SEED}-{number}"), out)[1])
        shutil.rmtree(out, ignore_errors=True)
        number += 1
    print(f"{number} folders, {sum(ends.values())} commands: {dict(ends)}")
    kinds = {told.split(": ")[1] for told in ends}
    assert kinds >= {"ok", "OtherRunError", "IntegrityError", "InputError"} and kinds <= {
        "ok",
        "InputError",
        "OtherRunError",
        "LockedError",
        "IntegrityError",
        "StorageError",
    }


def test_each_hazard_at_each_name_alone_ends_well(bed: Bed, tmp_path: Path) -> None:
    """Every name once with the links that did harm, in a folder that is otherwise an unfinished run of ours, or has nothing else."""
    for number, name in enumerate(FOLDERS + FILES):
        for state in ("empty", "unfinished"):
            for target in (bed.victim, bed.victim / name, bed.victim / "keep"):
                out = tmp_path / f"out-{number}"
                prepared(bed, "text", state, out)
                path = out / name
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                path.symlink_to(target)
                ends = [outcome(partial(zephyr_fast.prep, **bed.options["text"], out=out, overwrite=over)) for over in (False, True)]
                assert digest(bed.victim) == bed.before, (name, state, target, ends)
                shutil.rmtree(out)


def test_a_work_folder_that_is_a_link_is_refused_and_named(bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_work").symlink_to(bed.victim)
    for more in ([], ["--overwrite"]):
        told = refusal(5, "prep", "--input", "sample", "--out", tmp_path / "out", *more)
        assert "_work" in told and "a symbolic link" in told and "nothing was removed" in told
    assert digest(bed.victim) == bed.before


@pytest.mark.parametrize("plant", [os.symlink, os.link], ids=["symbolic", "hard"])
@pytest.mark.parametrize("content", ["secret", "", "process 17"])
def test_a_lock_that_is_another_file_is_not_written_over(plant: Callable[[Path, Path], None], content: str, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text(content)
    (tmp_path / "out" / "_work").mkdir(parents=True)
    plant(tmp_path / "theirs", tmp_path / "out" / "_work" / "lock")
    with pytest.raises(OtherRunError, match="lock"):
        zephyr_fast.prep(input="sample", out=tmp_path / "out", overwrite=True)
    assert (tmp_path / "theirs").read_text() == content


def test_a_lock_that_holds_anything_else_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "out" / "_work").mkdir(parents=True)
    lock = tmp_path / "out" / "_work" / "lock"
    lock.write_text("my diary")
    with pytest.raises(OtherRunError, match="lock"):
        zephyr_fast.prep(input="sample", out=tmp_path / "out", overwrite=True)
    assert lock.read_text() == "my diary"


@pytest.mark.parametrize("state", ["finished", "finished, of another run", "unfinished", "unfinished, of another run"])
def test_a_users_own_files_beside_ours_are_never_swept(state: str, bed: Bed, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepared(bed, "text", state, out)
    own = [
        "mine.txt",
        "text/mine.txt",
        "text/mine/too.txt",
        "_ledger/mine.txt",
        "_quarantine/mine.jsonl",
        "tokenizer/mine.json",
        "_ref/mine/x",
    ]
    for name in own:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(name)
    zephyr_fast.prep(**bed.options["text"], out=out, overwrite=True)
    assert all((out / name).read_text() == name for name in own)
    ours = {name: content for name, content in files(out).items() if name not in own}
    assert ours == files(bed.folder / "text")


def test_a_work_folder_with_a_users_file_is_refused_and_the_file_named(bed: Bed, tmp_path: Path) -> None:
    for state in ("work alone", "finished", "finished, of another run", "unfinished"):
        out = tmp_path / state
        prepared(bed, "text", state, out)
        (out / "_work").mkdir(exist_ok=True)
        (out / "_work" / "thesis.tex").write_text("years")
        before = files(out)
        with pytest.raises(OtherRunError, match=r"thesis\.tex"):
            zephyr_fast.prep(**bed.options["text"], out=out, overwrite=True)
        assert files(out) == before


def test_another_programs_manifest_does_not_make_a_folder_ours(bed: Bed, tmp_path: Path) -> None:
    for content in ('{"name": "app", "icons": []}', "", "[" * 100_000):
        (tmp_path / "manifest.json").write_text(content)
        for name in ("README.md", "train-00000.arrow"):
            (tmp_path / name).write_text("theirs")
        with pytest.raises(OtherRunError, match=r"manifest\.json"):
            zephyr_fast.prep(**bed.options["text"], out=tmp_path, overwrite=True)
        assert (tmp_path / "README.md").read_text() == (tmp_path / "train-00000.arrow").read_text() == "theirs"


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_a_data_set_whose_manifest_was_cut_is_still_ours_to_make_again(cut: int, bed: Bed, tmp_path: Path) -> None:
    shutil.copytree(bed.folder / "text", tmp_path / "out")
    content = (tmp_path / "out" / "manifest.json").read_bytes()
    (tmp_path / "out" / "manifest.json").write_bytes(content[:cut])
    with pytest.raises(IntegrityError, match="--overwrite"):
        zephyr_fast.prep(**bed.options["text"], out=tmp_path / "out")
    zephyr_fast.prep(**bed.options["text"], out=tmp_path / "out", overwrite=True)
    assert files(tmp_path / "out") == files(bed.folder / "text")


def test_a_finished_folder_that_lost_a_file_is_no_longer_nothing_to_do(bed: Bed, tmp_path: Path) -> None:
    whole = files(bed.folder / "tokens")
    for name in whole.keys() - {"manifest.json"}:
        for damage in ("gone", "cut", "link", "folder"):
            out = tmp_path / "out"
            shutil.copytree(bed.folder / "tokens", out)
            (out / name).unlink()
            if damage == "cut":
                (out / name).write_bytes(whole[name][:-1])
            elif damage == "link":
                (out / name).symlink_to(bed.folder / "tokens" / name)
            elif damage == "folder":
                (out / name).mkdir()
            with pytest.raises(IntegrityError, match="--overwrite") as told:
                zephyr_fast.prep(**bed.options["tokens"], out=out)
            assert name in str(told.value)
            if damage in ("gone", "cut"):
                zephyr_fast.prep(**bed.options["tokens"], out=out, overwrite=True)
                assert files(out) == whole
            shutil.rmtree(out)


def test_an_out_folder_may_itself_be_a_link_that_the_user_typed(bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "large disk").mkdir()
    (tmp_path / "out").symlink_to("large disk")
    zephyr_fast.prep(**bed.options["text"], out=tmp_path / "out")
    assert files(tmp_path / "large disk") == files(bed.folder / "text")


def test_a_folder_swapped_for_a_link_while_a_run_goes_on_leads_nowhere(bed: Bed, tmp_path: Path) -> None:
    rows, out = rows_file(tmp_path / "rows.jsonl", 20_000), tmp_path / "out"
    line, environment = command("prep", "--input", rows, "--tokenizer", "sample", "--out", out)
    for name in ("text", "_ledger", "_quarantine", "_work"):
        running = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while not (out / "text").is_dir() and running.poll() is None:
            time.sleep(0.001)
        running.send_signal(signal.SIGSTOP)
        if (out / name).exists():  # else the machine was so fast that the run is over
            (out / name).rename(tmp_path / f"moved-{name}")
            (out / name).symlink_to(bed.victim)
        running.send_signal(signal.SIGCONT)
        told = running.communicate(timeout=HANG_SECONDS)[1]
        assert running.returncode in (0, 6, 8), told
        assert digest(bed.victim) == bed.before, name
        shutil.rmtree(out)
