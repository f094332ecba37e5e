"""What the README says to type is typed here, in its order, in an empty folder. Training is cut
to two steps.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- run by tests/house/test_readme\.py -->\n```(\w+)\n(.*?)```", re.DOTALL)
ON_CPU = ["--max_steps", "2", "--eval_strategy", "no"]


def commands_of(language: str, text: str) -> list[list[str]]:
    """The commands of a block; of a Python one, the interpreter with all of it. A line that ends
    with a backslash goes on.
    """
    if language == "python":
        return [[sys.executable, "-c", text]]
    lines = text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [[*command, *ON_CPU] if "zephyr_fast.train" in command else command for command in words]


def test_the_commands_do_what_the_readme_says(tmp_path: Path) -> None:
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": here, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    commands = [
        command
        for language, text in BLOCK.findall(README)
        for command in commands_of(language, text)
    ]
    assert len(commands) == 8
    printed = ""
    for command in commands:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr[-3000:]}"
        printed += done.stdout
    assert "320 " in printed
    assert "duplicate" in printed
    for model in ("tiny-sft", "tiny-dpo"):
        assert (tmp_path / model / "model.safetensors").is_file()
    assert list((tmp_path / "prefs" / "_ref").glob("*/manifest.json"))


def test_the_make_targets_that_the_readme_names_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target
