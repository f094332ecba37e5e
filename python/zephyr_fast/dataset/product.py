"""The kinds of dataset: packed sequences of dialogues, or pairs of completions of one prompt.

All that Python knows of a kind is its entry of `_FACTS`; other modules ask a `Product`. Facts that
the core knows are read from the core.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Protocol

from zephyr_fast import _core


class Sums(Protocol):
    """The counts of a split (`zephyr_fast.dataset.manifest.Split`)."""

    @property
    def rows(self) -> int: ...
    @property
    def examples(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def label_tokens(self) -> int: ...
    @property
    def tokens_truncated(self) -> int: ...
    @property
    def rows_truncated(self) -> int: ...
    @property
    def seq_len(self) -> int: ...
    @property
    def fill(self) -> float | None: ...


class Product(StrEnum):
    """The kind of a dataset, as its manifest names it."""

    WINDOWS = "sft"
    PAIRS = "preference"

    @property
    def facts(self) -> "Facts":
        """What Python knows of it."""
        return _FACTS[self]

    @property
    def command(self) -> str:
        """The command that writes it."""
        return _fact("commands", self)

    @property
    def act(self) -> str:
        """The training method for it: an argument of `python -m zephyr_fast.train`."""
        return _fact("acts", self)

    @property
    def trained_columns(self) -> tuple[str, ...]:
        """The columns of its shards that are lists of int32 and used in training. Scalars are added
        by `load.index.with_columns`.
        """
        return _names(f"trained_columns:{self}")

    @classmethod
    def of_command(cls, command: str) -> "Product":
        """Return the product that a command writes."""
        return next(product for product in cls if product.command == command)


def building_commands() -> str:
    """Return the commands that write datasets, for an error text."""
    return " or ".join(f"`zephyr-fast {one.command}`" for one in Product)


@dataclass(frozen=True)
class Column:
    """A column of the shards: its name, and the numpy name of its numbers' type."""

    name: str
    dtype: str
    is_list: bool = False
    may_be_null: bool = False


@dataclass(frozen=True)
class Facts:
    """What Python knows of a product."""

    building: str
    """A description of its command, for a help text."""
    training: str
    """A description of its training, for a help text."""
    unit: str
    """The plural name of its examples."""
    length_key: str
    """The recipe key that limits the tokens of an example."""
    recipe: str
    """The name of its default recipe, and of the bundled rows in `sample/`."""
    columns: tuple[Column, ...]
    """The columns of its shards, in the order in which a batch stores them."""
    ids: tuple[tuple[str, ...], ...]
    """The columns with token ids. An example is as long as the sum over these groups, of which each
    has the length of its longest column.
    """
    counted_bytes_min: int
    """Bytes that the core counts for the smallest row, to decide when a batch is full."""
    row_bytes_min: int
    """Minimum bytes of a row in a file: a 4-byte offset for each list, and the values."""
    is_packed: bool
    """Whether an example holds documents, with labels and with their lengths in `seq_lengths`."""
    can_pad: bool
    """Whether there can be an example that does not contribute to the loss."""
    varies_in_length: bool
    """Whether sorting examples by length reduces padding."""
    needs_reference: bool
    """Whether its loss uses the log-probs of a reference model."""
    documents: Callable[[Sums], int]
    """Returns the number of separate token sequences that a model processes in an epoch."""
    tokens_seen: Callable[[Sums], int]
    """Returns the tokens that a model processes in an epoch."""
    summary: Callable[[Sums, bool], str]
    """Describes a split, with tokens or without, in a phrase for the summary of a run."""


def _windows(split: Sums, has_tokens: bool) -> str:
    if not has_tokens:
        return f"{split.rows:,} dialogues, text only"
    cut = (
        f", {split.tokens_truncated:,} tokens of {split.rows_truncated:,} over-long dialogues "
        "truncated"
    )
    trained, fill = split.label_tokens / max(split.tokens, 1), split.fill or 0.0
    return (
        f"{split.rows:,} dialogues in {split.examples:,} sequences of {split.seq_len:,} tokens "
        f"({fill:.1%} full); {split.tokens:,} tokens, {trained:.0%} with labels"
        f"{cut if split.tokens_truncated else ''}"
    )


def _pairs(split: Sums, has_tokens: bool) -> str:
    pairs = f"{split.examples:,} pairs from {split.rows:,} prompts"
    if not has_tokens:
        return f"{pairs}, text only"
    cut = f", {split.tokens_truncated:,} tokens truncated at {split.seq_len:,}"
    return f"{pairs}, {split.tokens:,} tokens{cut if split.tokens_truncated else ''}"


_FACTS = {
    Product.WINDOWS: Facts(
        building="Clean, filter, deduplicate, tokenize and pack dialogues.",
        training="supervised training on the packed shards",
        unit="sequences",
        length_key="seq_len",
        recipe="ultrachat",
        columns=(
            Column("input_ids", "<i4", is_list=True),
            Column("labels", "<i4", is_list=True),
            Column("seq_lengths", "<i4", is_list=True),
            Column("row_ids", "<i8", is_list=True),
        ),
        ids=(("input_ids",),),
        counted_bytes_min=8,  # one id and its label
        row_bytes_min=28,
        is_packed=True,
        can_pad=True,  # by its labels
        varies_in_length=False,  # packed sequences all have about `seq_len` tokens
        needs_reference=False,
        documents=lambda split: split.rows,
        tokens_seen=lambda split: split.tokens,
        summary=_windows,
    ),
    Product.PAIRS: Facts(
        building="Turn scored completions into preference pairs (text and tokens).",
        training="direct preference optimization on the pairs",
        unit="pairs",
        length_key="max_length",
        recipe="ultrafeedback",
        columns=(
            Column("prompt_ids", "<i4", is_list=True),
            Column("chosen_ids", "<i4", is_list=True),
            Column("rejected_ids", "<i4", is_list=True),
            Column("score_chosen", "<f8", may_be_null=True),
            Column("score_rejected", "<f8", may_be_null=True),
            Column("row_id", "<i8"),
            Column("pair", "<i4"),
        ),
        ids=(("prompt_ids",), ("chosen_ids", "rejected_ids")),
        counted_bytes_min=28,  # scores, row id and number of the pair
        row_bytes_min=40,
        is_packed=False,  # a prompt can be combined with any two completions
        can_pad=False,  # a loss on pairs has no weights
        varies_in_length=True,
        needs_reference=True,
        documents=lambda split: 2 * split.examples,
        tokens_seen=lambda split: 2 * split.tokens - split.label_tokens,  # the prompt is read twice
        summary=_pairs,
    ),
}


def _fact(kind: str, product: Product) -> str:
    """Return the entry for `product` in a list of the core that has one per product."""
    return dict(zip(_names("products"), _names(kind), strict=True))[product.value]


@cache
def _names(kind: str) -> tuple[str, ...]:
    return tuple(_core.names(kind))
