"""`zephyr-fast verify`: looks at a data set that has been written."""

from pathlib import Path

import click

from zephyr_fast._core import IntegrityError
from zephyr_fast.printed import say, say_json, shown


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def verify(folder: Path, as_json: bool) -> None:
    """Check every byte of FOLDER against what was written, and that nothing else lies there.

    Leaves with exit code 7, naming file, batch and offset, if anything is not as it was.
    """
    import json
    from dataclasses import asdict

    from zephyr_fast.dataset.verify import summary
    from zephyr_fast.dataset.verify import verify as verify_dataset

    found = verify_dataset(folder, raise_on_error=False)
    if as_json:
        say_json(json.dumps(asdict(found), indent=1))
    if found.problems:
        raise IntegrityError(summary(folder, found))
    if not as_json:
        say(
            f"`{shown(folder)}` is whole: {found.files:,} files, {found.bytes:,} bytes, "
            f"{found.batches:,} batches of shards"
        )
