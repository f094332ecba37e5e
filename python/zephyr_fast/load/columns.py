"""The columns of a product's shards as numpy and Arrow see them, and their invariants.

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


def layouts(product: Product) -> tuple[Layout, ...]:
    """Return the columns in the order in which a batch stores them."""
    return tuple(
        Layout(one.name, np.dtype(one.dtype), is_list=one.is_list, may_be_null=one.may_be_null)
        for one in product.facts.columns
    )


def _schema(product: Product) -> pa.Schema:
    types = [(one, pa.from_numpy_dtype(one.dtype)) for one in layouts(product)]
    return pa.schema([(one.name, pa.list_(kind) if one.is_list else kind) for one, kind in types])


SCHEMAS: Mapping[str, pa.Schema] = {product: _schema(product) for product in Product}
"""The same columns as Arrow schemas."""


def id_columns(product: Product) -> tuple[str, ...]:
    """Return the columns whose values a model looks up in its embedding table."""
    return tuple(name for group in product.facts.ids for name in group)


def check(product: Product, batch: Batch) -> None:
    """Raise ValueError if columns of a batch contradict each other."""
    if product.facts.is_packed:
        _check_packed(batch)


def lengths(product: Product, batch: Batch) -> npt.NDArray[np.int64]:
    """Return the tokens per sample, [rows] int64. For a pair: prompt plus longer completion."""
    sizes = {
        name: np.diff(column.offsets).astype(np.int64)
        for name, column in batch.items()
        if isinstance(column, Lists)
    }
    longest = [
        np.maximum.reduce([sizes[name] for name in group], dtype=np.int64)
        for group in product.facts.ids
    ]
    total: npt.NDArray[np.int64] = np.add.reduce(longest, dtype=np.int64)
    return total


def _check_packed(batch: Batch) -> None:
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
