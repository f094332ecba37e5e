"""Turn raw chat and preference data into verified token shards, and train dSFT and dDPO on them.

Every command of the command line is also a function: `prep`, `binarize`, `verify` and `estimate`.
`scan_ledger` reads the outcome of every row. With the `train` extra there are also `open_shards`,
`open_documents` and `ref_logprobs`. Imports are light: only `zephyr_fast.train` loads torch and
TRL.
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
from zephyr_fast.prepare.progress import Progress
from zephyr_fast.prepare.run import binarize, prep

if TYPE_CHECKING:
    from zephyr_fast.costs import Estimate, estimate
    from zephyr_fast.dataset.ledger import scan_ledger
    from zephyr_fast.load.documents import open_documents
    from zephyr_fast.load.index import open_shards
    from zephyr_fast.load.shards import Shards
    from zephyr_fast.prepare.encode import encode
    from zephyr_fast.train.ref_logprobs.compute import ref_logprobs

__all__ = [
    "ConfigError",
    "Estimate",
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
    "encode",
    "estimate",
    "open_documents",
    "open_shards",
    "prep",
    "ref_logprobs",
    "scan_ledger",
    "verify",
]

_LAZY = {
    "Estimate": "zephyr_fast.costs",
    "Shards": "zephyr_fast.load.shards",
    "encode": "zephyr_fast.prepare.encode",
    "estimate": "zephyr_fast.costs",
    "open_documents": "zephyr_fast.load.documents",
    "open_shards": "zephyr_fast.load.index",
    "scan_ledger": "zephyr_fast.dataset.ledger",
    "ref_logprobs": "zephyr_fast.train.ref_logprobs.compute",
}


def __getattr__(name: str) -> Any:
    """Import names on first use that need numpy, pyarrow, polars or torch."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module `zephyr_fast` has no attribute `{name}`")
