"""Prints what a run made: where every row went, and what the shards hold."""

from pathlib import Path

from zephyr_fast._core import StorageError
from zephyr_fast.dataset.manifest import Decontamination, Manifest
from zephyr_fast.printed import shown


def print_summary(manifest: Manifest, out: Path) -> None:
    """A short table on stdout. Names are shown as they are: none is taken for markup, an emoji
    or an escape sequence.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, says in lines(manifest, out):
        table.add_row(Text(shown(name)), Text(shown(says)))
    try:
        Console(highlight=False, markup=False, emoji=False).print(table)
    except BrokenPipeError:
        raise  # the reader has seen enough: click ends the command
    except OSError as error:
        raise StorageError(f"cannot print: {error.strerror or error}") from error


def lines(manifest: Manifest, out: Path) -> list[tuple[str, str]]:
    """What is said, as (word, sentence)."""
    rows = manifest.rows
    parts = {
        "dropped": rows.dropped,
        "duplicates": rows.duplicates,
        "quarantined": rows.quarantined,
    }
    gone = "".join(f" + {sum(reasons.values()):,} {verdict}" for verdict, reasons in parts.items())
    told = [("rows", f"{rows.read:,} read = {rows.written:,} written{gone}")]
    told += [(verdict, _counts(reasons)) for verdict, reasons in parts.items() if reasons]
    if manifest.dedup.near_search_truncated:
        told.append(
            (
                "near-dedup",
                f"{manifest.dedup.near_search_truncated:,} rows share a band with too many others "
                "to compare them all",
            )
        )
    if manifest.phrases:
        told.append(("phrases", _counts(manifest.phrases)))
    if manifest.truecase.rows:
        told.append(
            (
                "truecased",
                f"{manifest.truecase.letters_changed:,} letters in {manifest.truecase.rows:,} rows",
            )
        )
    told.append(("decontamination", _decontamination(manifest.decontamination)))
    told += [
        (name, manifest.kind.summary(split, has_tokens=manifest.tokenizer is not None))
        for name, split in manifest.splits.items()
    ]
    told.append(
        (
            "files",
            f"{out}/ (manifest.json, {_shards(manifest)}, _ledger/: why each row was dropped or "
            "changed)",
        )
    )
    return told


def _decontamination(found: Decontamination) -> str:
    if found.status == "not checked":
        return "not checked; name evaluation sets with --decontaminate NAME=PATH:FIELD"
    done = "dropped" if found.action == "drop" else "flagged"
    sets = ", ".join(
        f"{card.name} {card.instances_matched:,} of {card.instances:,} instances "
        f"({card.share:.1%}) in {card.rows_matched:,} rows"
        for card in found.sets
    )
    return f"{found.rows_matched:,} rows {done}; {sets}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(
        f"{name} {count:,}"
        for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    )


def _shards(manifest: Manifest) -> str:
    files = [card.file for split in manifest.splits.values() for card in split.shards or split.text]
    return ", ".join(files) if len(files) <= 2 else f"{files[0]} … {files[-1]}"
