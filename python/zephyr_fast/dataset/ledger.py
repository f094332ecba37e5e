"""Opens the ledger of an out folder: one line for each row read, with its place, its outcome and
the reason.
"""

from pathlib import Path

import polars as pl

from zephyr_fast._core import InputError


def scan_ledger(folder: str | Path) -> pl.LazyFrame:
    """All ledger lines of a data set, in row order.

    Columns: row_id, input (place in the manifest's `inputs`), offset and length (bytes of the
    decompressed stream), source_id, prompt_id, outcome (written, dropped, duplicate,
    quarantined), reason, detail, duplicate_of, split, letters_changed, control_tokens, tokens,
    label_tokens, tokens_truncated, pairs, contamination. The last is null, or a list of what the
    row shares with evaluation sets: set, instance (row of the set's file, from 0), part (place
    where that row has a list of texts), overlap (share of the instance's words), turn, start and
    end (characters of that turn, as Python slices them). InputError where the folder has no
    ledger.
    """
    parts = sorted(
        path for path in (Path(folder) / "_ledger").glob("part-*.parquet") if path.is_file()
    )
    if not parts:
        raise InputError(
            f"`{folder}` has no ledger; name the out folder of a finished `zephyr-fast prep` or "
            "`binarize`"
        )
    return pl.scan_parquet(parts)
