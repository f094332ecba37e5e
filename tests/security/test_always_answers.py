"""Ctrl-C is answered also by work that does not look up: its thread is left behind."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from zephyr_fast import _core

TOKENIZER = Path(_core.__file__).parent / "sample" / "tokenizer"
ANSWERS_WITHIN_SECONDS = 60  # Minutes of work are left by then.
WORK = """
import sys
from zephyr_fast import _core
print("begins", flush=True)
_core.render((sys.argv[1], sys.argv[2]), sys.stdin.read(), False)
print("ended", flush=True)
"""


def test_work_that_does_not_look_up_is_left_behind(tmp_path: Path) -> None:
    template = tmp_path / "slow.jinja"
    spin = "{% for i in range(99999) %}{% if i > 9000 %}{% break %}{% endif %}{% endfor %}"
    template.write_text(spin + "{% for m in messages %}{{ m.role + m.content }}</s>{% endfor %}")
    dialogue = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
    child = subprocess.Popen(
        [sys.executable, "-c", WORK, TOKENIZER, template],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin and child.stdout and child.stderr
    child.stdin.write(json.dumps([dialogue] * 300_000))
    child.stdin.close()
    assert child.stdout.readline() == "begins\n"
    child.send_signal(signal.SIGINT)
    child.wait(timeout=ANSWERS_WITHIN_SECONDS)
    assert "KeyboardInterrupt" in child.stderr.read()
    assert "ended" not in child.stdout.read()
