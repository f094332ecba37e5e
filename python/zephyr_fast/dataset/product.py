"""What the rows of a dataset are: packed windows of dialogues, or pairs of answers to one prompt.

What differs from product to product is a method here, or (where numpy is needed) a function of
`load/columns.py`. Each is a `match` without a default, so the type checker reports every place
that a new product is missing from. Facts that the core has are read from the core.
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
    """What the rows of a dataset are, by the word that its manifest has for it."""

    WINDOWS = "sft"
    PAIRS = "preference"

    @property
    def command(self) -> str:
        """The command that makes it."""
        return _fact("commands", self)

    @property
    def act(self) -> str:
        """The training that takes it: an argument of `python -m zephyr_fast.train`."""
        return _fact("acts", self)

    @property
    def trained_columns(self) -> tuple[str, ...]:
        """Those columns of its shards that are lists of int32 and trained on; scalars go in by
        `load.index.with_columns`.
        """
        return _names(f"trained_columns:{self}")

    @property
    def training(self) -> str:
        """What its training is, for a help text."""
        match self:
            case Product.WINDOWS:
                return "supervised training on the packed shards"
            case Product.PAIRS:
                return "direct preference optimisation on the pairs"

    @property
    def length_key(self) -> str:
        """The recipe key that limits the tokens of a sample."""
        match self:
            case Product.WINDOWS:
                return "seq_len"
            case Product.PAIRS:
                return "max_length"

    @property
    def counted_bytes_min(self) -> int:
        """What the engine counts for the smallest row, to decide when a batch is closed."""
        match self:
            case Product.WINDOWS:
                return 8  # one id and its label
            case Product.PAIRS:
                return 28  # scores, row id and number of the pair

    @property
    def row_bytes_min(self) -> int:
        """Bytes that a row takes in a file at least: a 4-byte offset for each list, and values."""
        match self:
            case Product.WINDOWS:
                return 28
            case Product.PAIRS:
                return 40

    @property
    def can_pad(self) -> bool:
        """Whether a sample can be made in which nothing is trained."""
        match self:
            case Product.WINDOWS:
                return True  # by its labels
            case Product.PAIRS:
                return False  # a loss on pairs has no weights

    @property
    def varies_in_length(self) -> bool:
        """Whether sorting samples by length saves padding."""
        match self:
            case Product.WINDOWS:
                return False  # packed windows all have about `seq_len` tokens
            case Product.PAIRS:
                return True

    @property
    def needs_reference(self) -> bool:
        """Whether its loss takes the log-probs of a reference model."""
        match self:
            case Product.WINDOWS:
                return False
            case Product.PAIRS:
                return True

    def documents(self, split: Sums) -> int:
        """How many token sequences a model reads in an epoch, none of which sees another."""
        match self:
            case Product.WINDOWS:
                return split.rows
            case Product.PAIRS:
                return 2 * split.examples

    def tokens_seen(self, split: Sums) -> int:
        """How many tokens a model reads in an epoch; a pair's prompt comes before both answers."""
        match self:
            case Product.WINDOWS:
                return split.tokens
            case Product.PAIRS:
                return 2 * split.tokens - split.label_tokens

    def summary(self, split: Sums, has_tokens: bool) -> str:
        """What a split holds, in a phrase for the summary of a run."""
        match self:
            case Product.WINDOWS:
                return _windows(split) if has_tokens else f"{split.rows:,} dialogues, text alone"
            case Product.PAIRS:
                pairs = f"{split.examples:,} pairs of {split.rows:,} prompts"
                return f"{pairs}, {_pair_tokens(split)}" if has_tokens else f"{pairs}, text alone"


def _windows(split: Sums) -> str:
    cut = f", {split.tokens_truncated:,} tokens of {split.rows_truncated:,} dialogues truncated"
    trained, fill = split.label_tokens / max(split.tokens, 1), split.fill or 0.0
    return (
        f"{split.rows:,} dialogues in {split.examples:,} windows of {split.seq_len:,}, "
        f"fill {fill:.1%}; {split.tokens:,} tokens, {trained:.0%} trained"
        f"{cut if split.tokens_truncated else ''}"
    )


def _pair_tokens(split: Sums) -> str:
    cut = (
        f", {split.tokens_truncated:,} cut off at {split.seq_len:,}"
        if split.tokens_truncated
        else ""
    )
    return f"{split.tokens:,} tokens{cut}"


def _fact(kind: str, product: Product) -> str:
    """The entry for `product` in one of the core's lists that have one per product."""
    return dict(zip(_names("products"), _names(kind), strict=True))[product.value]


@cache
def _names(kind: str) -> tuple[str, ...]:
    return tuple(_core.names(kind))
