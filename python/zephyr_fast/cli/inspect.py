"""`zephyr-fast verify`: checks a dataset against its manifest."""

from pathlib import Path

import click

from zephyr_fast._core import IntegrityError
from zephyr_fast.printed import say, say_json, shown, warn

PROBLEMS_SHOWN = 20
"""Problems that are printed, one a line; `--json` prints all."""


@click.command(short_help="Verify a dataset against its manifest.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(folder: Path, as_json: bool) -> None:
    """Verify every file in DIR against the manifest, and report files that do not belong.

    Prints file, batch and offset of each problem, and exits with code 7 if there is one.
    """
    import json
    from dataclasses import asdict

    from zephyr_fast.dataset.verify import located
    from zephyr_fast.dataset.verify import verify as verify_dataset

    found = verify_dataset(folder, raise_on_error=False)
    if as_json:
        say_json(json.dumps(asdict(found), indent=1))
    if found.problems:
        count = len(found.problems)
        if count == 1:
            only = located(folder, found.problems[0])
            raise IntegrityError(f"{only}; copy or rebuild the dataset")
        for problem in () if as_json else found.problems[:PROBLEMS_SHOWN]:
            warn(shown(located(folder, problem)))
        first = f"; the first {PROBLEMS_SHOWN} are above" if count > PROBLEMS_SHOWN else ""
        raise IntegrityError(
            f"`{folder}` has {count:,} problems{first}; copy or rebuild the dataset"
        )
    if not as_json:
        say(
            f"`{shown(folder)}` is intact: {found.files:,} files, {found.bytes:,} bytes, "
            f"{found.batches:,} record batches"
        )
