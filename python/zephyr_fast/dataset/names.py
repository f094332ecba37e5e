"""The names that files of a dataset may have. The forms are fixed, so a manifest cannot refer to
any other file, locally or in a cache.
"""

import re
from collections.abc import Iterable

SPLITS = ("train", "test")
"""The splits that the core writes. File names start with them."""

_SHARD = re.compile(r"(train|test)-[0-9]{5,10}(-[0-9]{1,10})?\.arrow")
_TEXT = re.compile(r"text/(train|test)-[0-9]{5,10}\.parquet")
_OTHERS = re.compile(
    r"""README\.md
    | tokenizer/(tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json
        |added_tokens\.json|chat_template\.jinja)
    | _ledger/part-[0-9]{5,10}\.parquet
    | _quarantine/[0-9]{5,10}-[^/\x00-\x1f\x7f-\x9f]{1,255}\.jsonl""",
    re.VERBOSE,
)


def is_shard(name: str, split: str) -> bool:
    """Whether a shard of this split may have this name."""
    return _SHARD.fullmatch(name) is not None and name.startswith(f"{split}-")


def is_text(name: str, split: str) -> bool:
    """Whether a text file of this split may have this name."""
    return _TEXT.fullmatch(name) is not None and name.startswith(f"text/{split}-")


def is_other(name: str) -> bool:
    """Whether any other file of a dataset may have this name: data card, tokenizer, ledger or
    quarantine.
    """
    return _OTHERS.fullmatch(name) is not None


def repeated(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
