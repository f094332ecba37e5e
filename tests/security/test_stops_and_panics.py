"""What a stranger's folder makes a library do: hash for hours, panic, fail in its own words. It
can be stopped, and ends in one line.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zephyr_fast import InputError
from zephyr_fast.train.trust import refused, refused_model

HANGS = 120


class PanicException(BaseException):
    """As pyo3 calls a panic."""


def test_a_panic_is_an_error_and_ctrl_c_is_not() -> None:
    with (
        pytest.raises(InputError, match="cannot load the thing: it panicked"),
        refused("the thing"),
    ):
        raise PanicException("it panicked")
    for wish in (KeyboardInterrupt, SystemExit):
        with pytest.raises(wish), refused_model("the thing"):
            raise wish


@pytest.mark.parametrize(
    "kind", [KeyError, TypeError, RuntimeError, ZeroDivisionError, MemoryError]
)
def test_a_model_that_cannot_be_loaded_is_named(kind: type[Exception]) -> None:
    with (
        pytest.raises(InputError, match="cannot load the model `x`"),
        refused_model("the model `x`"),
    ):
        raise kind("nope")


def test_ctrl_c_ends_the_hashing_of_endless_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    os.truncate(tmp_path / "model.safetensors", 4 << 40)
    code = "import sys; import zephyr_fast.train.ref_logprobs.weights as w\n"
    code += "from zephyr_fast.train.ref_logprobs.weights import weights_digest, _weights\n"
    code += "take = w._sha256\ndef told(*a):\n    print('begun', flush=True); return take(*a)\nw._sha256 = told\nweights_digest(sys.argv[1])"
    running = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None and running.stdout.readline() == b"begun\n"
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=HANGS)
    assert b"KeyboardInterrupt" in said and running.returncode != 0
