"""Merge an adapter into its base model, so that programs without peft can load the result."""

import os
import shutil
from pathlib import Path
from typing import Any

from zephyr_fast._core import ConfigError, InputError, OutputExistsError
from zephyr_fast.train.model import base_of_adapter
from zephyr_fast.train.trust import check_kernels, never_ask, refused_model

DTYPES = ("float32", "bfloat16", "float16")


def merge(adapter: str, out: str | Path, *, dtype: str | None = None) -> Path:
    """Merge an adapter into its base model.

    Args:
        adapter: Directory or Hub id of the adapter.
        out: Output directory; it must not exist. It appears when the model is complete.
        dtype: Dtype of the merged weights. The default is that of the base model. The sum is
            computed in float32.

    Returns:
        The output directory.

    Raises:
        ConfigError: For an unknown dtype, and for a base model with custom code.
        InputError: If this is not an adapter, or a model cannot be loaded.
        OutputExistsError: If the output directory exists.
    """
    out = Path(out)
    if dtype not in (None, *DTYPES):
        raise ConfigError(f"unknown dtype `{dtype}`; expected one of: {', '.join(DTYPES)}")
    if os.path.lexists(out):
        raise OutputExistsError(f"`{out}` exists already; choose another directory")
    base = base_of_adapter(adapter)
    if base is None:
        raise InputError(f"`{adapter}` is not an adapter: it has no `adapter_config.json`")
    draft = out.with_name(f".{out.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _make(draft)
        model = _merged(adapter, base, dtype)
        model.save_pretrained(draft)
        _save_rest(adapter, base, model, draft)
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def _make(draft: Path) -> None:
    try:
        draft.mkdir(parents=True)  # never through a link in its place, which `rmtree` leaves
    except FileExistsError:
        raise OutputExistsError(f"`{draft}` is not a directory; remove it") from None


def _merged(adapter: str, base: str, dtype: str | None) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM

    never_ask()
    with refused_model(f"the model `{base}`"):
        config = AutoConfig.from_pretrained(base, trust_remote_code=False)
        check_kernels(config, base)
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, trust_remote_code=False
        )
    with refused_model(f"the adapter `{adapter}`"):
        merged = PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True)
    merged.config.use_cache = True
    return merged.to(getattr(torch, dtype) if dtype else config.dtype or torch.float32)


def _save_rest(adapter: str, base: str, model: Any, draft: Path) -> None:
    """Save the tokenizer and the generation config of the adapter, else those of the base model."""
    from transformers import AutoTokenizer, GenerationConfig

    for source in (adapter, base):
        try:
            AutoTokenizer.from_pretrained(source, trust_remote_code=False).save_pretrained(draft)
            break
        except (OSError, ValueError):  # it has none
            continue
    try:
        GenerationConfig.from_pretrained(adapter).save_pretrained(draft)
    except OSError:  # of another program: `save_pretrained` has saved that of the base model
        return
