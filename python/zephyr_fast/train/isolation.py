"""Measure whether a model isolates the documents of a packed row.

Two sets of documents are tried: short ones, and documents that fill the longest row of the run. In
both, a document must pass two checks:

- Its log-probs must not change at all when only the tokens of the other documents change. This is
  exact in every dtype, so it notices the small leaks of weights that are close to zero.
- Its log-probs must be those of the document alone, except for rounding. This notices attention
  that cuts a document in two, and positions that do not restart.

A control shows that the first check can fail: within one document, the same change must change the
log-probs of later tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zephyr_fast.load.collators import Layout
from zephyr_fast.train.isolation_documents import Documents, Ids, long_documents, short_documents
from zephyr_fast.train.trust import machine_errors

if TYPE_CHECKING:
    import torch

Forward = Callable[[dict[str, Any]], "torch.Tensor"]

EXACT = 1e-5
"""Largest float32 rounding difference, relative to the largest log-prob if that is above 1; 1e-6
is usual.
"""

NOISE_FACTOR = 4
"""Differences may be this many times the measured rounding noise."""

NOISE_MAX = 8
"""Maximum tolerance, in roundings of the largest log-prob, however large the noise is."""

UNFIT = (
    *(TypeError, ValueError, LookupError, AttributeError, AssertionError),
    RuntimeError,  # and NotImplementedError
)
"""What a model raises if it does not support position ids, or not these."""


class Measure(NamedTuple):
    """The result of a measurement. All values are in nats, and are the largest of all tokens."""

    difference: float
    """Difference between packed documents and the same documents alone."""
    tolerance: float
    """Maximum of `difference` that rounding explains."""
    leak: float
    """Change of a document's log-probs if only the other documents change."""
    noise: float
    """Maximum of `leak` that rounding explains; 0 if other rows have no influence at all."""
    control: float
    """Change of log-probs if earlier tokens of the same document change."""
    resolution: float
    """Maximum of `control` that is too small to prove anything."""

    @property
    def holds(self) -> bool:
        """Whether documents are isolated; False if any value is not a number."""
        return (
            self.difference <= self.tolerance
            and self.leak <= self.noise
            and self.control > max(self.noise, self.resolution)
        )


FAILED = Measure(inf, 0.0, inf, 0.0, 0.0, 0.0)
"""The measure of a model that cannot be measured."""


class UnfitError(Exception):
    """A forward pass with packed documents failed; the message says why."""


def measure(
    model: Any,
    tokens: "torch.Tensor | Ids",
    layout: Layout,
    *,
    width: int,
    windows: int = 1,
    autocast: "torch.dtype | None" = None,
    device: Any = None,
) -> Measure:
    """Return the worse measure of both sets; see `packing.prove` for the arguments.

    Raises:
        UnfitError: If the model does not support packed documents.
    """
    vocabulary = model_of(model).config.get_text_config().vocab_size
    forward = partial(log_probs, model, device or next(model.parameters()).device)
    rounding = _rounding(model, autocast)
    sets = (
        short_documents(tokens, vocabulary),
        long_documents(tokens, vocabulary, width, windows if layout == "varlen" else 1),
    )
    with at_rest(model):
        measures = [_measured(forward, one, layout, rounding) for one in sets]
    control = max(one.control for one in measures)
    return worst([one._replace(control=control) for one in measures])


def worst(measures: Sequence[Measure]) -> Measure:
    """Return the measure that is furthest from isolated documents."""
    return min(measures, key=lambda one: (one.holds, -_excess(one), -one.difference))


def model_of(model: Any) -> Any:
    """Return the model within whatever wraps it for several devices."""
    from accelerate.utils import extract_model_from_parallel

    return extract_model_from_parallel(model, keep_torch_compile=False)


def _measured(
    forward: Forward, documents: Documents, layout: Layout, rounding: float | None
) -> Measure:
    apart = [forward({"input_ids": one[None]})[0] for one in documents.ids]
    scale = max(1.0, *(float(values.abs().max()) for values in apart))
    packed = [_packed(forward, documents, rows, layout) for rows in documents.batches]
    changes = [
        _change(forward, documents, rows, layout, values, kept)
        for rows, values in zip(documents.batches, packed, strict=True)
        for kept in range(documents.kinds)
    ]
    return Measure(
        difference=_largest(values - apart[number] for batch in packed for number, values in batch),
        tolerance=_tolerance(forward, documents, apart, scale, rounding),
        leak=float(np.max(changes)),
        noise=min(
            NOISE_FACTOR * _noise(forward, documents),
            EXACT * scale if rounding is None else NOISE_MAX * rounding * scale,
        ),
        control=_control(forward, documents, layout),
        resolution=(EXACT if rounding is None else rounding) * scale,
    )


def _control(forward: Forward, documents: Documents, layout: Layout) -> float:
    """Return the change of log-probs if each row is one document and all but its kind 1 change."""
    rows = documents.batches[0]
    joined = _packed(forward, documents, rows, layout, is_joined=True)
    return _change(forward, documents, rows, layout, joined, 1, is_joined=True)


def _change(
    forward: Forward,
    documents: Documents,
    rows: list[list[int]],
    layout: Layout,
    before: "list[tuple[int, torch.Tensor]]",
    kept: int,
    *,
    is_joined: bool = False,
) -> float:
    """Return the largest change of log-probs of the documents of kind `kept` if others change."""
    now = _packed(forward, documents.changed(kept), rows, layout, is_joined=is_joined)
    return _largest(
        values - earlier
        for (number, values), (_, earlier) in zip(now, before, strict=True)
        if number % documents.kinds == kept
    )


def _packed(
    forward: Forward,
    documents: Documents,
    rows: list[list[int]],
    layout: Layout,
    *,
    is_joined: bool = False,
) -> "list[tuple[int, torch.Tensor]]":
    """Return the numbers and log-probs of the documents of a packed batch.

    Raises UnfitError if the model does not support the batch.
    """
    batch = documents.batch(rows, layout, is_joined=is_joined)
    try:
        values = forward(batch)
    except UNFIT as error:
        if isinstance(error, machine_errors()):
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UnfitError(reason) from error
    return list(documents.split(values, rows, layout))


def _largest(differences: "Iterator[torch.Tensor]") -> float:
    # np.max, unlike max, returns NaN if there is one.
    return float(np.max([float(one.abs().max()) for one in differences]))


def _excess(one: Measure) -> float:
    excess = max(one.difference - one.tolerance, one.leak - one.noise)
    return inf if np.isnan([one.difference, one.leak]).any() else excess


def _noise(forward: Forward, documents: Documents) -> float:
    """Return how much a row changes with the tokens of other rows, which must not matter.

    It does where a kernel depends on the batch, e.g. on the number of tokens of an expert. The
    rows are plain: not packed, and without position ids.
    """
    rows = documents.batches[0]
    stream = np.concatenate([documents.ids[number] for row in rows for number in row])
    lines = max(2, len(rows))
    table = np.resize(stream, (lines, len(stream) // lines))
    values = forward({"input_ids": table})
    found = []
    for kept in (slice(0, lines // 2), slice(lines // 2, lines)):
        other = np.roll(table, 1, axis=1)[:, ::-1].copy()
        other[kept] = table[kept]
        found.append(forward({"input_ids": other})[kept] - values[kept])
    return _largest(iter(found))


def _tolerance(
    forward: Forward,
    documents: Documents,
    apart: "list[torch.Tensor]",
    scale: float,
    rounding: float | None,
) -> float:
    """Return the largest difference that rounding explains.

    It is constant in float32. In other dtypes, it is a multiple of the noise between unpacked
    batches of different shapes.
    """
    if rounding is None:
        return EXACT * scale
    table = np.zeros((len(documents.ids), max(len(one) for one in documents.ids)), np.int64)
    mask = np.zeros_like(table)
    for row, one in enumerate(documents.ids):
        table[row, : len(one)], mask[row, : len(one)] = one, 1
    padded = forward({"input_ids": table, "attention_mask": mask})
    noise = _largest(
        padded[row, : len(one) - 1] - apart[row] for row, one in enumerate(documents.ids)
    )
    least = rounding * scale
    return min(max(least, NOISE_FACTOR * noise), NOISE_MAX * least)


def _rounding(model: Any, autocast: "torch.dtype | None") -> float | None:
    """Return the relative rounding of the least precise products; None if all are float32."""
    import torch

    dtypes = {parameter.dtype for parameter in model.parameters()} | {autocast or torch.float32}
    # Weights of one byte are converted before they are multiplied.
    floats = {
        torch.bfloat16 if one.itemsize == 1 else one for one in dtypes if one.is_floating_point
    }
    if not all(one.is_floating_point for one in dtypes):  # quantized weights
        floats.add(torch.bfloat16)
    if torch.backends.cuda.matmul.allow_tf32 and torch.cuda.is_available():
        floats.add(torch.float16)  # tf32 has as many digits
    coarsest = max(torch.finfo(one).eps for one in floats)
    return None if coarsest <= torch.finfo(torch.float32).eps else coarsest


def log_probs(model: Any, device: Any, inputs: dict[str, Any]) -> "torch.Tensor":
    """Return the log-prob of each token but the first of a row, [R, W - 1] float32."""
    import torch

    moved = {
        name: torch.as_tensor(value).to(device)
        if isinstance(value, np.ndarray | torch.Tensor)
        else value
        for name, value in inputs.items()
    }
    output = model(**moved, labels=moved["input_ids"], use_cache=False, fused_lm_head=True)
    width = inputs["input_ids"].shape[1] - 1
    values: torch.Tensor = output.log_probs[:, -width:].float()
    return values


@contextmanager
def at_rest(model: Any) -> Iterator[None]:
    """Disable dropout and gradients; restore the modes of all modules and the generators after."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
