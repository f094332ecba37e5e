"""`zephyr-fast verify`: checks a finished dataset."""

from pathlib import Path

import click

from zephyr_fast._core import IntegrityError
from zephyr_fast.printed import say, say_json, shown


@click.command(short_help="Verify a dataset against its manifest.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(folder: Path, as_json: bool) -> None:
    """Verify every file in DIR against the manifest, and report files that do not belong.

    Exits with code 7 if anything differs, and names the file, batch and offset.
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
            f"`{shown(folder)}` is intact: {found.files:,} files, {found.bytes:,} bytes, "
            f"{found.batches:,} record batches"
        )
