"""Runs that hostile out folders are prepared for, and a bystander that must come to no harm."""

import hashlib
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import zephyr_fast
from out_folder import manifest
from shell import rows_file

HANG_SECONDS = 120
"""Far above what any case takes on any machine."""


class Bed:
    """The runs that folders are prepared for, and the bystander."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = rows_file(folder / "rows.jsonl", 4, bad=1)
        same: dict[str, Any] = {
            "shards.test_fraction": 0.3,
            "tokenize.control_tokens": "allow",
            "dedup.near": False,
        }
        self.options: dict[str, dict[str, Any]] = {
            "text": {"input": rows, "overrides": {"shards.tokens": False, **same}, "threads": 1},
            "tokens": {"input": rows, "tokenizer": "sample", "overrides": same, "threads": 1},
        }
        self.other = {
            "input": rows,
            "overrides": {"shards.tokens": False, **same, "seed": 7},
            "threads": 1,
        }
        for name, options in self.options.items():
            zephyr_fast.prep(**options, out=folder / name)
        zephyr_fast.prep(**self.other, out=folder / "other")
        self.victim = folder / "victim"
        shutil.copytree(folder / "tokens", self.victim)
        for name in (
            "_work/lock",
            "_work/run.json",
            "_ref/0123456789abcdef/manifest.json",
            "keep",
            "sub/f",
        ):
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
            content = (
                hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(what.st_mode) else ""
            )
            found[str(path.relative_to(folder))] = (
                stat.S_IFMT(what.st_mode),
                stat.S_IMODE(what.st_mode),
                content,
            )
    return found


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
