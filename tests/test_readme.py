"""What the README says to type is typed here, in its order, in an empty folder. Training is cut to two steps."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- run by tests/test_readme\.py -->\n```(\w+)\n(.*?)```", re.DOTALL)
ON_CPU = "--max_steps 2 --eval_strategy no"


def test_the_daily_commands_do_what_the_readme_says(tmp_path: Path) -> None:
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": here, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    blocks = BLOCK.findall(README)
    assert [language for language, _ in blocks] == ["sh", "python"]
    commands = [shlex.split(f"{line} {ON_CPU}" if "zephyr_fast.train" in line else line) for line in blocks[0][1].splitlines()]
    assert len(commands) == 4
    for command in [*commands, [sys.executable, "-c", blocks[1][1]]]:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr[-3000:]}"
    assert "320 " in done.stdout
    assert "duplicate" in done.stdout
    for model in ("tiny-sft", "tiny-dpo"):
        assert (tmp_path / model / "model.safetensors").is_file()


def test_the_make_targets_that_the_readme_names_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target
