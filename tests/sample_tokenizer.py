"""The bundled tokenizer with another config."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from zephyr_fast import _core

SAMPLE = Path(_core.__file__).parent / "sample" / "tokenizer"


def with_config(folder: Path, config: Mapping[str, object]) -> Path:
    """Write it to a folder, which is made if it is not there."""
    folder.mkdir(exist_ok=True)
    shutil.copy(SAMPLE / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
