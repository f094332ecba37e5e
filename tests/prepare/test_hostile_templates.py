"""Templates that want all memory or all time end in an error by what the engine counts: no clock
decides, and no signal is needed.
"""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest

from measured import measured
from zephyr_fast import ConfigError, _core
from zephyr_fast.prepare import canary

RESIDENT_BYTES_MAX = 200 << 20
WRITES = "{% for m in messages %}{{ m.role + m.content }}</s>{% endfor %}"

FIXTURES = sorted((Path(__file__).parents[1] / "fixtures" / "hostile_templates").glob("*.jinja"))
HOSTILE = {path.stem: path.read_text() for path in FIXTURES} | {
    "parentheses": "{{ " + "(" * 30_000 + "1" + ")" * 30_000 + " }}" + WRITES,
    "attribute_chain": "{{ messages" + ".a" * 32_000 + " }}" + WRITES,
    "index_chain": "{{ messages" + "[1]" * 20_000 + " }}" + WRITES,
    "call_chain": "{{ messages" + "()" * 32_000 + " }}" + WRITES,
    "concat_chain": "{{ 'a'" + "~'a'" * 16_000 + " }}" + WRITES,
    "names_joined": "{{ a" + "~a" * 30_000 + " }}" + WRITES,
    "names_in_turn": "{{ a" + " and b or c" * 5_000 + " }}" + WRITES,
    "text_and_numbers": "{{ 'a'" + "+1" * 20_000 + " }}" + WRITES,
    "minuses_of_a_name": "{{ " + "-" * 60_000 + "a }}" + WRITES,
    "nested_ifs": "{% if 1 %}" * 2_800 + "{% endif %}" * 2_800 + WRITES,
    "nested_filters": "{% filter upper %}" * 1_900 + "a" + "{% endfilter %}" * 1_900 + WRITES,
    "nested_loops_in_source": "{% for i in [1, 2] %}" * 1_900
    + "a"
    + "{% endfor %}" * 1_900
    + WRITES,
    "slice_chain": "{% for x in messages" + "[:]" * 20_000 + " %}{% endfor %}" + WRITES,
    "repeat_chain": "{% for x in messages" + "*1" * 20_000 + " %}{% endfor %}" + WRITES,
    "too_long": "a" * 70_000 + WRITES,
}
# Refused for their source alone, whatever is rendered.
COMPILED = {
    "parentheses", "attribute_chain", "index_chain", "call_chain", "concat_chain", "names_joined",
    "names_in_turn", "text_and_numbers", "minuses_of_a_name", "nested_ifs",
    "nested_filters", "nested_loops_in_source", "repeat_chain", "self_block",
    "slice_chain", "too_long", "extends_self", "import_self", "include_self",
}  # fmt: skip
# Long, not hostile: they compile on a stack that their chains of operators do not use up.
HARMLESS = {
    "and_chain": "{{ 1" + " and 1" * 10_000 + " }}" + WRITES,
    "sum_chain": "{{ 1" + "+1" * 30_000 + " }}" + WRITES,
    "minuses": "{{ " + "-" * 60_000 + "1 }}" + WRITES,
    "elifs": "{% if 0 %}" + "{% elif 0 %}" * 5_000 + "{% endif %}" + WRITES,
    "filter_chain": "{{ 'a'" + "|upper" * 10_000 + " }}" + WRITES,
}


def stranger(name: str, text: str, special: dict[str, str] | None = None) -> str:
    """A template as `_core.unknown_template` gives it."""
    named = {"bos": "<s>", "eos": "</s>", "pad": None, "unk": None} | (special or {})
    source = {"name": name, "text": text, "special": named, "control": []}
    return json.dumps(source | {"date": None, "args": {}, "train_end": "require"})


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_refused_by_what_is_counted(name: str) -> None:
    done = measured(canary.COMMAND, stranger(name, HOSTILE[name]).encode())
    assert done.exit_code == ConfigError.exit_code
    assert done.resident_bytes < RESIDENT_BYTES_MAX


@pytest.mark.parametrize("name", HARMLESS)
def test_a_long_template_is_not_taken_for_a_hostile_one(name: str) -> None:
    canary.check(stranger(name, HARMLESS[name]))


@pytest.mark.parametrize(
    "condition",
    ["pad_token == '!'", "unk_token", "bos_token == '<|user|>'", "eos_token is undefined"],
)
@pytest.mark.parametrize("name", ["laughs_equal", "deep_list_equal", "laughs_count"])
def test_the_canary_sees_the_special_tokens_that_the_run_would_see(
    name: str, condition: str
) -> None:
    hostile = HOSTILE[name].removesuffix(WRITES)
    text = f"{{% if {condition} %}}{hostile}{{% endif %}}{WRITES}"
    special = {"bos": "<|user|>", "eos": None, "pad": "!", "unk": "?"}
    with pytest.raises(ConfigError, match=r"exceeds the step or output limit|nested more than"):
        _core.canary(stranger(name, text, special))
    tame = {"bos": "<s>", "eos": "</s>", "pad": None, "unk": None}
    _core.canary(stranger(name, text, tame))


@pytest.mark.parametrize("name", sorted(set(HOSTILE) - COMPILED))
def test_a_template_that_turns_hostile_for_one_row_loses_that_row_alone(
    name: str, tmp_path: Path
) -> None:
    hostile = HOSTILE[name].removesuffix(WRITES)
    file = tmp_path / "sly.jinja"
    file.write_text(f"{{% if messages[0].content == 'now' %}}{hostile}{{% endif %}}{WRITES}")
    tokenizer = Path(_core.__file__).parent / "sample" / "tokenizer"
    dialogues = [
        [{"role": "user", "content": said}, {"role": "assistant", "content": "Yes."}]
        for said in ("why", "now", "why")
    ]
    first, second, third = json.loads(
        _core.render((tokenizer, str(file)), json.dumps(dialogues), False)
    )
    assert first["text"] == third["text"] == "userwhy</s>assistantYes.</s>"
    assert second.get("reason") in ("template_error", "mask_not_provable"), second


def test_the_child_has_no_files_and_no_network(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("kept")
    tries = {
        "open": f"open({str(victim)!r})",
        "write": f"open({str(tmp_path / 'new')!r}, 'w')",
        "remove": f"os.unlink({str(victim)!r})",
        "rename": f"os.rename({str(victim)!r}, {str(victim) + '2'!r})",
        "run": "os.execv('/bin/true', ['true'])",
        "connect": "socket.create_connection(('127.0.0.1', 9))",
    }
    code = (
        "import os, socket\nfrom zephyr_fast.untrusted.child import confine\nconfine(1 << 28, 60)\n"
    )
    for name, attempt in tries.items():
        code += f"try:\n    {attempt}\nexcept OSError:\n    print({name!r}, flush=True)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    refused = set(done.stdout.split())
    # Without Landlock, names can still be changed: that part is the kernel's to give.
    always = {"open", "write", "connect"}
    assert always <= refused, done
    if has_landlock():
        assert refused == set(tries), done
    assert victim.read_text() == "kept" or not has_landlock()


def has_landlock() -> bool:
    return ctypes.CDLL(None).syscall(444, None, 0, 1) >= 1


@pytest.mark.parametrize("name", ["out_of_memory", "endless"])
def test_the_parent_names_the_template_that_ended_its_child(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = {
        "out_of_memory": "bytearray(1 << 40)",
        "endless": "import signal; os.kill(os.getpid(), signal.SIGXCPU)",
    }[name]
    monkeypatch.setattr(canary, "COMMAND", [sys.executable, "-c", f"import os; {work}"])
    with pytest.raises(
        ConfigError,
        match=f"template `{name}.jinja` was rejected: its trial rendering failed within",
    ):
        canary.check(stranger(f"{name}.jinja", WRITES))
