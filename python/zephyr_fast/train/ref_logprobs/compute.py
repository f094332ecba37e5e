"""Compute and store reference log-probs for preference pairs (`zephyr-fast ref-logprobs`).

Under `accelerate launch -m zephyr_fast ref-logprobs …`, every process computes its share of the
parts. Each part is committed atomically, so an interrupted run can resume. Its values depend only
on its pairs, so the bytes are the same with any number of processes and interruptions on the same
kind of device.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zephyr_fast._core import ConfigError, InputError, IntegrityError
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.dataset.product import Product
from zephyr_fast.dataset.remote import local
from zephyr_fast.load.collators import PairCollator, layout_for
from zephyr_fast.load.samples import Sample
from zephyr_fast.load.shards import Shards
from zephyr_fast.train import packing
from zephyr_fast.train.causality import check_model
from zephyr_fast.train.model import base_of_adapter, check_fit, load_tokenizer, log, read_manifest
from zephyr_fast.train.padding_free import pack_forward
from zephyr_fast.train.ref_logprobs import store
from zephyr_fast.train.ref_logprobs.store import PAIRS_PER_PART, Key, LogProbs
from zephyr_fast.train.ref_logprobs.weights import weights_digest
from zephyr_fast.train.trust import refused, refused_forward, refused_model

if TYPE_CHECKING:
    from accelerate import PartialState

TOKENS_PER_BATCH = 16384
"""Prompt and completion tokens per batch: enough to fill a GPU with a 7 B model."""

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Part:
    """Pairs `first` to `first + pairs` of a split, computed and committed by one process."""

    split: str
    number: int
    pairs: int

    @property
    def first(self) -> int:
        return self.number * PAIRS_PER_PART


def ref_logprobs(
    prefs: str | Path,
    model: str,
    *,
    splits: tuple[str, ...] = (),
    dtype: str | None = None,
    attention: str | None = None,
) -> Path:
    """Compute the missing reference log-probs of the pairs in `prefs`.

    Args:
        prefs: Directory or URL of a dataset of pairs.
        model: Directory or Hub id of the model, or of an adapter.
        splits: The splits to compute; all if empty.
        dtype: Dtype of weights and matrix products, which must be that of the training run. The
            default is `bfloat16` on an accelerator and `float32` on the CPU.
        attention: Attention implementation in transformers.

    Returns:
        The directory with the log-probs.

    Raises:
        ConfigError: If model and pairs do not match, or an option is invalid.
        InputError: If the pairs or the model cannot be loaded.
        IntegrityError: If the dataset is damaged.
    """
    if model == "sample":
        raise InputError("the bundled model `sample` has no weights; run `sft` first")
    prefs = local(prefs)
    state, manifest = _processes(), read_manifest(str(prefs), Product.PAIRS)
    dtype = dtype or ("float32" if state.device.type == "cpu" else "bfloat16")
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype `{dtype}`; expected one of: {', '.join(DTYPES)}")
    check_fit(
        base_of_adapter(model) or model,
        [manifest],
        load_tokenizer(str(prefs), manifest),
        trust=False,
    )
    pairs = {name: manifest.split(name).examples for name in splits or manifest.splits}
    key, missing = _agreed(prefs, model, dtype, manifest, pairs)
    if missing is None:
        log(f"`{key.folder(prefs)}` is up to date; nothing to do")
        return key.folder(prefs)
    _compute(prefs, key, missing[state.process_index :: state.num_processes], model, attention)
    state.wait_for_everyone()
    if state.is_main_process:
        with store.made(key.folder(prefs)) as folder:
            folder.sweep()
        store.write_manifest(prefs, key, _finished(prefs, key, manifest) | pairs)
    state.wait_for_everyone()
    return key.folder(prefs)


def _processes() -> "PartialState":
    """Return the state of this launch.

    By default, each of several CPU processes sees only itself.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    return PartialState(
        cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    )


def _agreed(
    prefs: str | Path, model: str, dtype: str, manifest: Manifest, pairs: dict[str, int]
) -> tuple[Key, list[Part] | None]:
    """Return the key and the missing parts, or None if all are finished.

    The main process determines both, so they are equal on all processes.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    agreed: list[Any] = [None, None]
    if PartialState().is_main_process:
        key = Key.of(*weights_digest(model), dtype, manifest)
        is_finished = pairs.items() <= _finished(prefs, key, manifest).items()
        agreed = [
            key,
            None
            if is_finished
            else [part for part in _parts(pairs) if not _is_intact(prefs, key, part)],
        ]
    broadcast_object_list(agreed)
    return agreed[0], agreed[1]


def _finished(prefs: str | Path, key: Key, manifest: Manifest) -> dict[str, int]:
    """Return the pairs of the finished splits; splits that do not match the dataset are ignored."""
    samples = {name: split.examples for name, split in manifest.splits.items()}
    return {
        name: pairs
        for name, pairs in store.finished_splits(prefs, key).items()
        if samples.get(name) == pairs
    }


def _parts(pairs: dict[str, int]) -> list[Part]:
    return [
        Part(split, number, min(PAIRS_PER_PART, count - number * PAIRS_PER_PART))
        for split, count in sorted(pairs.items())
        for number in range(-(-count // PAIRS_PER_PART))
    ]


def _path(prefs: str | Path, key: Key, part: Part) -> Path:
    return key.folder(prefs) / store.part_name(part.split, part.number)


def _is_intact(prefs: str | Path, key: Key, part: Part) -> bool:
    """Return whether an earlier run committed this part intact; a damaged part is recomputed."""
    path = _path(prefs, key, part)
    try:
        content = store.read_file(path, store.PART_BYTES_MAX)
        return content == store.part_bytes(store.read_part(content, path, part.pairs))
    except (OSError, IntegrityError):
        return False


def _compute(
    prefs: str | Path, key: Key, parts: list[Part], model: str, attention: str | None
) -> None:
    if not parts:
        return
    policy = _load(model, key.dtype, attention)
    shards = {split: Shards(prefs, split) for split in {part.split for part in parts}}
    _try_forward(policy, model)
    tokens, longest = _some_tokens(prefs)
    check_model(policy, tokens, width=longest)
    collate = _collator(policy, tokens, longest)
    for done, part in enumerate(parts, 1):
        samples = [shards[part.split][row] for row in range(part.first, part.first + part.pairs)]
        store.write_part(_path(prefs, key, part), _log_probs(policy, collate, samples))
        log(f"reference log-probs: part {done} of {len(parts)} ({part.split}, {part.pairs} pairs)")


def _load(name: str, dtype: str, attention: str | None) -> Any:
    """Load the model as trainers load a reference: no dropout, fused LM head, packed forward."""
    from accelerate import PartialState
    from trl.trainer.utils import add_fused_lm_head, create_model_from_path

    base = base_of_adapter(name)
    with refused_model(f"the model `{base or name}`"):
        model = create_model_from_path(
            base or name,
            dtype=dtype,
            attn_implementation=attention,
            device_map=None,
            trust_remote_code=False,
        )
    complete = _with_adapter(model, name) if base else model
    with refused(f"the model `{base or name}`"):
        add_fused_lm_head(model)
        pack_forward(model)
    return complete.eval().to(PartialState().device)


def _try_forward(model: Any, name: str) -> None:
    """Raise InputError if a forward pass fails, because the configuration is inconsistent.

    Errors of memory and devices pass unchanged.
    """
    import torch

    ids = torch.zeros((1, 2), dtype=torch.int64, device=next(model.parameters()).device)
    with torch.inference_mode(), refused_forward(f"the model `{name}`"):
        model(input_ids=ids, labels=ids, use_cache=False, fused_lm_head=True)


def _some_tokens(prefs: str | Path) -> tuple[npt.NDArray[np.int64], int]:
    """Return tokens of the first pairs of the first split, and the longest row of all splits.

    So all processes check and prove the model with the same tokens.
    """
    manifest = read_manifest(str(prefs), Product.PAIRS)
    first = next(name for name, split in sorted(manifest.splits.items()) if split.examples)
    pairs, count = Shards(prefs, first), min(2, manifest.split(first).examples)
    tokens = np.concatenate(
        [
            pairs[row][name]
            for row in range(count)
            for name in ("prompt_ids", "chosen_ids", "rejected_ids")
        ]
    )
    return tokens, max(split.seq_len for split in manifest.splits.values())


def _collator(model: Any, tokens: npt.NDArray[np.int64], longest: int) -> PairCollator:
    """Return a collator that packs if the model is proven to isolate packed completions."""
    padded = PairCollator(pad_token_id=0)
    try:
        layout = layout_for(model.config._attn_implementation)
    except ConfigError as error:
        log(f"{error}; continuing with one completion per row, which is slower")
        return padded
    completions = max(2, -(-TOKENS_PER_BATCH // longest))
    proof = packing.prove(model, tokens, layout, width=longest, windows=completions)
    return replace(padded, layout=layout) if packing.allowed("auto", proof) else padded


def _with_adapter(model: Any, name: str) -> Any:
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    with refused_model(f"the adapter `{name}`"):
        adapted = PeftModel.from_pretrained(model, name)
    if isinstance(adapted.get_output_embeddings(), BaseTunerLayer):
        raise ConfigError(
            f"`{name}` adapts `lm_head`, which TRL's fused LM head does not support; "
            "merge the adapter into its base model first"
        )
    return adapted


def _log_probs(model: Any, collate: PairCollator, samples: list[Sample]) -> LogProbs:
    """Return the summed log-probs per pair, [pairs, 2] float32, in the order of `samples`."""
    import torch

    device = next(model.parameters()).device
    found = np.empty((len(samples), 2), dtype=np.float32)
    with torch.inference_mode():
        for rows in _batches(samples):
            batch = _moved(collate([samples[row] for row in rows]), device)
            labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
            sums = (
                model(**batch, labels=labels, use_cache=False, fused_lm_head=True)
                .log_probs.float()
                .sum(dim=1)
            )
            found[rows] = torch.stack(sums.chunk(2), dim=1).cpu().numpy()
    return found


def _moved(batch: Any, device: Any) -> Any:
    if isinstance(batch, dict):
        return {name: _moved(value, device) for name, value in batch.items()}
    return batch.to(device) if hasattr(batch, "to") else batch


def _batches(samples: list[Sample]) -> Iterator[list[int]]:
    """Yield rows of similar length with at most `TOKENS_PER_BATCH` tokens, or a single pair."""
    sizes = [
        2 * len(sample["prompt_ids"]) + len(sample["chosen_ids"]) + len(sample["rejected_ids"])
        for sample in samples
    ]
    rows: list[int] = []
    for row in sorted(range(len(samples)), key=lambda row: -sizes[row]):
        if rows and sum(sizes[other] for other in rows) + sizes[row] > TOKENS_PER_BATCH:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
