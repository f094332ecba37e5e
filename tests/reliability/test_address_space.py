"""A run that the system refuses memory or a thread ends with the exit code of the memory limit and
one line, and the same command succeeds with more memory.
"""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from shell import command
from zephyr_fast import MemoryLimitError, _core
from zephyr_fast.cli import errors

MEGABYTES = (*range(90, 200, 5), 400, 4_000)


def within(megabytes: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A command in a process that has this much address space."""
    line, environment = command(*words)
    limit = megabytes << 20
    return subprocess.run(
        line,
        env=environment | {"OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )


def test_refused_memory_is_one_line_and_not_a_crash(tmp_path: Path) -> None:
    refused = 0
    for size in MEGABYTES:
        out = tmp_path / str(size)
        if within(size, "recipe", "show", "ultrachat").returncode != 0:
            continue  # not enough to load the program
        done = within(size, "prep", "--input", "sample", "--threads", "4", "--out", out)
        if done.returncode == 0:
            continue
        refused += 1
        assert done.returncode == MemoryLimitError.exit_code, (size, done.stderr)
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
        assert not (out / "manifest.json").exists()
    assert refused and done.returncode == 0, done.stderr


def test_threads_take_no_address_space_of_their_own_where_it_is_limited(tmp_path: Path) -> None:
    """glibc would reserve 64 MiB for each of them."""
    words = ["prep", "--input", "sample", "--threads", "8", "--out", tmp_path / "shards"]
    done = within(400, *words)
    assert done.returncode == 0, done.stderr


# In a process that has no address space left, each of these is refused in another way.
REFUSED = {
    "a library": "import _zoneinfo",
    "a thread": "import threading; threading.Thread(target=print).start()",
    "a mapped file": "import mmap; mmap.mmap(-1, 1 << 40)",
    "an object": "bytes(1 << 40)",
}


def without_room(before: str, after: str) -> subprocess.CompletedProcess[str]:
    """A program whose second part has no address space left, but room for small objects, without
    which Python cannot raise its errors.
    """
    program = (
        f"import resource, sys\n{before}\n"
        "room = [bytes(size) for size in range(500) for _ in range(100)][::50]\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        "limit = pages * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        f"{after}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def test_names_that_commands_ask_for_when_they_are_imported_need_no_thread() -> None:
    # Without the package, whose import asks for names too: the stack of an earlier thread is kept.
    load = (
        "from importlib.util import module_from_spec, spec_from_file_location\n"
        f"spec = spec_from_file_location('_core', {_core.__file__!r})\n"
        "core = module_from_spec(spec)\n"
        "spec.loader.exec_module(core)"
    )
    done = without_room(load, "print(len(core.names('reasons')) > 9)")
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize("refused", REFUSED)
def test_each_kind_of_refused_memory_has_the_code_of_the_memory_limit(refused: str) -> None:
    done = without_room(
        "import threading\nfrom zephyr_fast.cli.errors import exit_code",
        f"sys.exit(exit_code(lambda: exec({REFUSED[refused]!r})))",
    )
    assert done.returncode == MemoryLimitError.exit_code, done.stderr
    assert done.stderr == "error: out of memory; split the input, or raise the limit\n"


def test_memory_that_is_refused_again_for_the_message_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: str) -> None:
        raise MemoryError

    monkeypatch.setattr(errors, "warn", refuse)
    assert errors.exit_code(lambda: len(bytes(1 << 60))) == MemoryLimitError.exit_code
    assert capfd.readouterr().err == "error: out of memory; split the input, or raise the limit\n"
