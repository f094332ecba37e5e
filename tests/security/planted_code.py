"""Folders with code in them that nobody may run: it would leave a canary."""

import hashlib
import json
import os
import pty
import shutil
import subprocess
from pathlib import Path
from typing import Any

from zephyr_fast.dataset.manifest import seal

HANGS = 600
"""Seconds after which a command is taken for hanging, on however slow a machine."""


def evil(folder: Path, name: str, canary: Path) -> None:
    (folder / f"{name}.py").write_text(
        f"open({str(canary)!r}, 'w').write('ran')\nclass Evil: pass\n"
    )


def with_code(shards: Path, folder: Path, canary: Path, **changes: Any) -> Path:
    """The same data set, whose tokenizer asks to run a file beside it, which no manifest may
    name; all digests are right.
    """
    shutil.copytree(shards, folder)
    config = folder / "tokenizer" / "tokenizer_config.json"
    config.write_text(
        json.dumps(
            json.loads(config.read_text())
            | {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
            | changes
        )
    )
    evil(folder / "tokenizer", "evil", canary)
    fields = json.loads((folder / "manifest.json").read_text())
    fields["files"] = [
        card for card in fields["files"] if card["file"] != "tokenizer/tokenizer_config.json"
    ]
    content = config.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    fields["files"].append(
        {"file": f"tokenizer/{config.name}", "bytes": len(content), "sha256": digest}
    )
    (folder / "manifest.json").write_text(seal(fields))
    return folder


def model_with_code(folder: Path, start: Path, canary: Path) -> Path:
    """A model whose configuration asks to run files beside it."""
    shutil.copytree(start, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    evil(folder, "evil", canary)
    return folder


def on_a_terminal(line: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Runs a command whose stdin and output are a terminal on which somebody has typed `y`, many
    times.
    """
    main_end, terminal = pty.openpty()
    running = subprocess.Popen(
        line,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    os.write(main_end, b"y\n" * 20)
    printed = b""
    while True:
        try:
            part = os.read(main_end, 1 << 16)
        except OSError:
            break
        if not part:
            break
        printed += part
    os.close(main_end)
    return running.wait(HANGS), printed.decode(errors="replace")


class Bomb:
    """Pickled, it is a command that leaves a canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.canary}",)
