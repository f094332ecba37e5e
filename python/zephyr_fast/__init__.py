"""zephyr-fast: raw chat and preference data to verified token shards, and dSFT and dDPO on them.

What the command line does is a function here: `prep`, `binarize`, `verify`, `scan_ledger`,
`estimate.estimate`, and, with the `train` extra installed, `open_shards` and `ref_logprobs`.
Imports are light; torch and TRL are loaded by `zephyr_fast.train` alone.
"""

from typing import TYPE_CHECKING, Any

from zephyr_fast._core import (
    ConfigError,
    InputError,
    IntegrityError,
    InternalError,
    LockedError,
    MemoryLimitError,
    NoRowsWrittenError,
    OutputExistsError,
    StorageError,
    TooManyBadRowsError,
    ZephyrError,
    __version__,
)
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.dataset.verify import VerifyReport, verify
from zephyr_fast.prepare import binarize, prep
from zephyr_fast.prepare.progress import Progress

if TYPE_CHECKING:
    from zephyr_fast.dataset.ledger import scan_ledger
    from zephyr_fast.load.index import open_shards
    from zephyr_fast.load.shards import Shards
    from zephyr_fast.train.ref_logprobs.compute import ref_logprobs

__all__ = [
    "ConfigError",
    "InputError",
    "IntegrityError",
    "InternalError",
    "LockedError",
    "Manifest",
    "MemoryLimitError",
    "NoRowsWrittenError",
    "OutputExistsError",
    "Progress",
    "Shards",
    "StorageError",
    "TooManyBadRowsError",
    "VerifyReport",
    "ZephyrError",
    "__version__",
    "binarize",
    "open_shards",
    "prep",
    "ref_logprobs",
    "scan_ledger",
    "verify",
]

_HEAVY = {
    "Shards": "zephyr_fast.load.shards",
    "open_shards": "zephyr_fast.load.index",
    "scan_ledger": "zephyr_fast.dataset.ledger",
    "ref_logprobs": "zephyr_fast.train.ref_logprobs.compute",
}


def __getattr__(name: str) -> Any:
    """Imports numpy, pyarrow, polars and torch only for those who read shards or ledgers, or run
    a model.
    """
    if name in _HEAVY:
        from importlib import import_module

        return getattr(import_module(_HEAVY[name]), name)
    raise AttributeError(f"module `zephyr_fast` has no attribute `{name}`")
