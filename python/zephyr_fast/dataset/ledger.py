"""Opens the ledger of a dataset: one row per input row, with its location, outcome and reason."""

from pathlib import Path

import polars as pl

from zephyr_fast._core import InputError
from zephyr_fast.dataset.product import building_commands


def scan_ledger(folder: str | Path) -> pl.LazyFrame:
    """Scan the ledger of a dataset: one row per input row, in input order.

    Args:
        folder: Dataset directory.

    Returns:
        A polars LazyFrame with the columns

        - `row_id` (int64), `input` (int32): number of the row, and index of its file in
          `Manifest.inputs`
        - `offset`, `length` (int64): byte range in the decompressed file. For Parquet and Arrow,
          the index of the row in the file, and 0
        - `source_id`, `prompt_id` (str, nullable): id in the source, and SHA-256 of the prompt
        - `outcome` (str): written, dropped, duplicate or quarantined
        - `reason`, `detail` (str, nullable): the reason code, and details
        - `duplicate_of` (int64, nullable): `row_id` of the earlier row
        - `split` (str, nullable): train or test
        - `letters_changed`, `control_tokens` (int32): letters changed by truecasing, control
          tokens neutralized
        - `tokens`, `label_tokens`, `tokens_truncated`, `pairs` (int32, nullable): tokens written,
          tokens with labels, tokens truncated, pairs built
        - `contamination` (list of structs, nullable): overlaps with evaluation sets: `set`,
          `instance` (row of the set, from 0), `part` (index in a list field), `overlap` (share of
          the instance's words), `turn`, `start`, `end` (character range, as in Python slices)

    Raises:
        InputError: `folder` has no ledger.

    Example:
        >>> import polars as pl
        >>> dropped = scan_ledger(out).filter(pl.col("reason") == "phrase")
        >>> dropped.select("row_id", "outcome").collect().height
        5
    """
    parts = sorted(
        path for path in (Path(folder) / "_ledger").glob("part-*.parquet") if path.is_file()
    )
    if not parts:
        raise InputError(
            f"`{folder}` has no ledger; pass the output directory of a finished "
            f"{building_commands()}"
        )
    return pl.scan_parquet(parts)
