"""What several test files stand on: the packaged rows as shards, and a small model with random
weights, made once a session.
"""

import os
from pathlib import Path

import pytest

from real_data import DATA, MISSING

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

SAMPLE = Path(__file__).parents[1] / "python" / "zephyr_fast" / "sample"


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged dialogues, packed to 256 tokens."""
    from zephyr_fast import prep

    out = tmp_path_factory.mktemp("data") / "shards"
    prep(input="sample", out=out, overrides={"pack.seq_len": 256})
    return out


@pytest.fixture(scope="session")
def prefs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged pairs, rendered with a template that writes BOS itself, as stock TRL needs it
    to get one.
    """
    from zephyr_fast import binarize

    folder = tmp_path_factory.mktemp("data")
    template = folder / "zephyr-bos.jinja"
    zephyr = (SAMPLE.parent / "templates" / "zephyr.jinja").read_text(encoding="utf-8")
    template.write_text("{{ bos_token }}" + zephyr, encoding="utf-8")
    binarize(
        input="sample",
        out=folder / "prefs",
        overrides={"template.name": str(template), "shards.test_fraction": 0.2},
    )
    return folder / "prefs"


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model, small and with random weights, saved as a folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "start"
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(SAMPLE / "model")).save_pretrained(
        folder
    )
    return folder


@pytest.fixture(scope="session")
def real() -> Path:
    """The directory of real rows and tokenizers."""
    if not DATA.is_dir():
        pytest.skip(MISSING)
    return DATA
