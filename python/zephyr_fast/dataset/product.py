"""The kinds of dataset: packed sequences of dialogues, or pairs of completions of one prompt.

Everything that depends on the kind is a method here, or (if it needs numpy) a function of
`load/columns.py`. Each is a `match` without a default, so the type checker reports every method
that lacks a new kind. Facts that the core knows are read from the core.
"""

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

    @property
    def training(self) -> str:
        """A description of its training, for a help text."""
        match self:
            case Product.WINDOWS:
                return "supervised training on the packed shards"
            case Product.PAIRS:
                return "direct preference optimization on the pairs"

    @property
    def unit(self) -> str:
        """The plural name of its examples."""
        match self:
            case Product.WINDOWS:
                return "sequences"
            case Product.PAIRS:
                return "pairs"

    @property
    def length_key(self) -> str:
        """The recipe key that limits the tokens of an example."""
        match self:
            case Product.WINDOWS:
                return "seq_len"
            case Product.PAIRS:
                return "max_length"

    @property
    def counted_bytes_min(self) -> int:
        """Bytes that the core counts for the smallest row, to decide when a batch is full."""
        match self:
            case Product.WINDOWS:
                return 8  # one id and its label
            case Product.PAIRS:
                return 28  # scores, row id and number of the pair

    @property
    def row_bytes_min(self) -> int:
        """Minimum bytes of a row in a file: a 4-byte offset for each list, and the values."""
        match self:
            case Product.WINDOWS:
                return 28
            case Product.PAIRS:
                return 40

    @property
    def can_pad(self) -> bool:
        """Whether there can be an example that does not contribute to the loss."""
        match self:
            case Product.WINDOWS:
                return True  # by its labels
            case Product.PAIRS:
                return False  # a loss on pairs has no weights

    @property
    def varies_in_length(self) -> bool:
        """Whether sorting examples by length reduces padding."""
        match self:
            case Product.WINDOWS:
                return False  # packed sequences all have about `seq_len` tokens
            case Product.PAIRS:
                return True

    @property
    def needs_reference(self) -> bool:
        """Whether its loss uses the log-probs of a reference model."""
        match self:
            case Product.WINDOWS:
                return False
            case Product.PAIRS:
                return True

    def documents(self, split: Sums) -> int:
        """Number of separate token sequences that a model processes in an epoch."""
        match self:
            case Product.WINDOWS:
                return split.rows
            case Product.PAIRS:
                return 2 * split.examples

    def tokens_seen(self, split: Sums) -> int:
        """Tokens that a model processes in an epoch. A pair's prompt precedes both completions."""
        match self:
            case Product.WINDOWS:
                return split.tokens
            case Product.PAIRS:
                return 2 * split.tokens - split.label_tokens

    def summary(self, split: Sums, has_tokens: bool) -> str:
        """Describe a split in a phrase, for the summary of a run."""
        match self:
            case Product.WINDOWS:
                return _windows(split) if has_tokens else f"{split.rows:,} dialogues, text only"
            case Product.PAIRS:
                pairs = f"{split.examples:,} pairs from {split.rows:,} prompts"
                return f"{pairs}, {_pair_tokens(split)}" if has_tokens else f"{pairs}, text only"


def _windows(split: Sums) -> str:
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


def _pair_tokens(split: Sums) -> str:
    cut = (
        f", {split.tokens_truncated:,} tokens truncated at {split.seq_len:,}"
        if split.tokens_truncated
        else ""
    )
    return f"{split.tokens:,} tokens{cut}"


def _fact(kind: str, product: Product) -> str:
    """Return the entry for `product` in a list of the core that has one per product."""
    return dict(zip(_names("products"), _names(kind), strict=True))[product.value]


@cache
def _names(kind: str) -> tuple[str, ...]:
    return tuple(_core.names(kind))
