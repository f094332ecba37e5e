"""Templates that want all memory or all time end in an error, in a child process at load, within 1 s of CPU time and 200 MB."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zephyr_fast import RecipeError, canary

CPU_SECONDS_MAX = 1.5  # The interpreter's start is within; the limit itself counts whole seconds.
RESIDENT_BYTES_MAX = 200 << 20
WRITES = "{% for m in messages %}{{ m.role + m.content }}</s>{% endfor %}"

FIXTURES = sorted((Path(__file__).parent / "fixtures" / "hostile_templates").glob("*.jinja"))
HOSTILE = {path.stem: path.read_text() for path in FIXTURES} | {
    "parentheses": "{{ " + "(" * 30_000 + "1" + ")" * 30_000 + " }}" + WRITES,
    "attribute_chain": "{{ messages" + ".a" * 32_000 + " }}" + WRITES,
    "index_chain": "{{ messages" + "[1]" * 20_000 + " }}" + WRITES,
    "call_chain": "{{ messages" + "()" * 32_000 + " }}" + WRITES,
    "concat_chain": "{{ 'a'" + "~'a'" * 16_000 + " }}" + WRITES,
    "nested_ifs": "{% if 1 %}" * 2_800 + "{% endif %}" * 2_800 + WRITES,
    "nested_filters": "{% filter upper %}" * 1_900 + "a" + "{% endfilter %}" * 1_900 + WRITES,
    "nested_loops_in_source": "{% for i in [1, 2] %}" * 1_900 + "a" + "{% endfor %}" * 1_900 + WRITES,
    "too_long": "a" * 70_000 + WRITES,
}
# Long, not hostile: they compile on a stack that their chains of operators do not use up.
HARMLESS = {
    "and_chain": "{{ 1" + " and 1" * 10_000 + " }}" + WRITES,
    "sum_chain": "{{ 1" + "+1" * 30_000 + " }}" + WRITES,
    "minuses": "{{ " + "-" * 60_000 + "1 }}" + WRITES,
    "elifs": "{% if 0 %}" + "{% elif 0 %}" * 5_000 + "{% endif %}" + WRITES,
    "filter_chain": "{{ 'a'" + "|upper" * 10_000 + " }}" + WRITES,
}


# Measures a child from a small process: what a child's parent had resident counts as the child's own until it starts.
MEASURE = """
import json, os, subprocess, sys
child = subprocess.Popen(json.loads(sys.argv[1]), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
child.stdin.write(sys.stdin.buffer.read())
child.stdin.close()
_, status, used = os.wait4(child.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_in_an_error_within_its_limits(name: str) -> None:
    question = json.dumps({"name": name, "text": HOSTILE[name]}).encode()
    measured = subprocess.run([sys.executable, "-c", MEASURE, json.dumps(canary.COMMAND)], input=question, capture_output=True, check=True)
    exit_code, cpu_seconds, resident_bytes = json.loads(measured.stdout)
    assert exit_code == RecipeError.exit_code or exit_code < 0, exit_code
    assert cpu_seconds < CPU_SECONDS_MAX
    assert resident_bytes < RESIDENT_BYTES_MAX


@pytest.mark.parametrize("name", HARMLESS)
def test_a_long_template_is_not_taken_for_a_hostile_one(name: str) -> None:
    canary.check(name, HARMLESS[name])


@pytest.mark.parametrize("name", ["laughs_equal", "laughs_count"])
def test_the_parent_names_the_template_that_ended_its_child(name: str) -> None:
    with pytest.raises(RecipeError, match=f"template `{name}.jinja` is refused: its canary did not end within 1 s and 160 MiB"):
        canary.check(f"{name}.jinja", HOSTILE[name])
