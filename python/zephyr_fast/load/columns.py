"""The columns of each product's shards, their layout in a batch, and their invariants.

They are part of the format, so a damaged schema message in a file is harmless.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from zephyr_fast.dataset.product import Product
from zephyr_fast.untrusted.message import Column, Layout, Lists

Batch = dict[str, Column]
"""A record batch: columns by name."""

_INT32, _INT64, _FLOAT64 = np.dtype("<i4"), np.dtype("<i8"), np.dtype("<f8")


def layouts(product: Product) -> tuple[Layout, ...]:
    """Return the columns in the order in which a batch stores them."""
    match product:
        case Product.WINDOWS:
            return (
                Layout("input_ids", _INT32, is_list=True),
                Layout("labels", _INT32, is_list=True),
                Layout("seq_lengths", _INT32, is_list=True),
                Layout("row_ids", _INT64, is_list=True),
            )
        case Product.PAIRS:
            return (
                Layout("prompt_ids", _INT32, is_list=True),
                Layout("chosen_ids", _INT32, is_list=True),
                Layout("rejected_ids", _INT32, is_list=True),
                Layout("score_chosen", _FLOAT64, is_list=False, may_be_null=True),
                Layout("score_rejected", _FLOAT64, is_list=False, may_be_null=True),
                Layout("row_id", _INT64, is_list=False),
                Layout("pair", _INT32, is_list=False),
            )


def _schema(product: Product) -> pa.Schema:
    types = [(one, pa.from_numpy_dtype(one.dtype)) for one in layouts(product)]
    return pa.schema([(one.name, pa.list_(kind) if one.is_list else kind) for one, kind in types])


SCHEMAS: Mapping[str, pa.Schema] = {product: _schema(product) for product in Product}
"""The same columns as Arrow schemas."""


def id_columns(product: Product) -> tuple[str, ...]:
    """Return the columns whose values a model looks up in its embedding table."""
    match product:
        case Product.WINDOWS:
            return ("input_ids",)
        case Product.PAIRS:
            return ("prompt_ids", "chosen_ids", "rejected_ids")


def check(product: Product, batch: Batch) -> None:
    """Raise ValueError if columns of a batch contradict each other."""
    match product:
        case Product.WINDOWS:
            _check_windows(batch)
        case Product.PAIRS:
            pass  # a prompt can be combined with any two completions


def lengths(product: Product, batch: Batch) -> npt.NDArray[np.int64]:
    """Return the tokens per sample, [rows] int64. For a pair: prompt plus longer completion."""
    sizes = {
        name: np.diff(column.offsets).astype(np.int64)
        for name, column in batch.items()
        if isinstance(column, Lists)
    }
    match product:
        case Product.WINDOWS:
            return sizes["input_ids"]
        case Product.PAIRS:
            longer: npt.NDArray[np.int64] = np.maximum(sizes["chosen_ids"], sizes["rejected_ids"])
            return sizes["prompt_ids"] + longer


def _check_windows(batch: Batch) -> None:
    """Raise ValueError unless labels match the ids and documents add up to sequences."""
    ids, labels, lengths = batch["input_ids"], batch["labels"], batch["seq_lengths"]
    assert isinstance(ids, Lists) and isinstance(labels, Lists) and isinstance(lengths, Lists)
    starts = ids.offsets - ids.offsets[0]
    if not np.array_equal(starts, labels.offsets - labels.offsets[0]):
        raise ValueError("`labels` and `input_ids` differ in length")
    given = labels.values[labels.offsets[0] : labels.offsets[-1]]
    if not ((given == ids.values[ids.offsets[0] : ids.offsets[-1]]) | (given == -100)).all():
        raise ValueError("a label is neither -100 nor the token id at its index")
    ends = np.zeros(len(lengths.values) + 1, np.int64)
    lengths.values.cumsum(out=ends[1:])
    ends = ends[lengths.offsets]
    if (len(lengths.values) and lengths.values.min() < 0) or not np.array_equal(
        ends - ends[0], starts
    ):
        raise ValueError("`seq_lengths` do not add up to `input_ids`")
