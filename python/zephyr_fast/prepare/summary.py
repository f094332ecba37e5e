"""Prints the summary of a run: the outcome of the rows, and the contents of the shards."""

from pathlib import Path

from zephyr_fast._core import StorageError, describe, names
from zephyr_fast.dataset.manifest import Decontamination, Manifest, RoleWordsEntry
from zephyr_fast.dataset.names import SPLITS
from zephyr_fast.printed import channel, say, shown

COLUMNS_NAMED = 12
"""Unused columns that the summary names. The manifest has all of them."""

WORDS_NAMED = 12
"""Words for roles that the summary names for each shape. The manifest has all of them."""

SHARE_WARNED = 0.05
"""Share of the rows from which on one structural reason is a warning."""


def print_summary(manifest: Manifest, out: Path) -> None:
    """Print a short table on stdout, as wide as the terminal. If stdout is not a terminal, each
    entry is one line.

    Names are printed literally, never as markup, emoji or escape sequences.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    entries = [(shown(label), shown(value)) for label, value in lines(manifest, out)]
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        for label, value in entries:
            say(f"{label:<16} {value}")
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in entries:
        channel.log(f"{label:<16} {value}")
        table.add_row(Text(label), Text(value))
    try:
        console.print(table)
    except BrokenPipeError:
        raise  # the reader has closed the pipe: click ends the command
    except OSError as error:
        raise StorageError(f"cannot write to stdout: {error.strerror or error}") from error


def lines(manifest: Manifest, out: Path) -> list[tuple[str, str]]:
    """Return the entries of the summary, as (label, value)."""
    rows = manifest.rows
    parts = {
        "dropped": rows.dropped,
        "duplicates": rows.duplicates,
        "quarantined": rows.quarantined,
    }
    removed = "".join(f" + {sum(counts.values()):,} {part}" for part, counts in parts.items())
    entries = [("rows", f"{rows.read:,} read = {rows.written:,} written{removed}")]
    entries += [(part, _counts(counts)) for part, counts in parts.items() if counts]
    if manifest.shapes:
        entries.append(("shapes", _shapes(manifest)))
    entries += _unused_columns(manifest)
    entries += _encoding(manifest)
    entries += _changes(manifest)
    entries.append(("decontamination", _decontamination(manifest.decontamination)))
    entries += [
        (name, manifest.kind.facts.summary(manifest.splits[name], manifest.tokenizer is not None))
        for name in SPLITS
        if name in manifest.splits
    ]
    files = f"{out}/: manifest.json, {_shards(manifest)}, _ledger/ (the outcome of every row)"
    return [*entries, ("files", files)]


def _encoding(manifest: Manifest) -> list[tuple[str, str]]:
    """Return the entries about the tokenizer and the template, if tokens were written."""
    tokenizer, template = manifest.tokenizer, manifest.template
    if tokenizer is None or template is None:
        return []
    origin = "the tokenizer's own" if template.name == "tokenizer" else template.name
    ends = " or ".join(f"`{end}`" for end in template.ends)
    trained = f"assistant messages end with {ends}" if ends else "no end of a message is trained"
    eos = f"EOS `{tokenizer.eos}`" if tokenizer.eos else "no EOS"
    size = f"{tokenizer.vocab_size:,} tokens, {eos}, {tokenizer.sha256[:12]}"
    return [("tokenizer", size), ("template", f"{origin}; {trained}")]


def warnings(manifest: Manifest) -> list[str]:
    """Return the warnings about a dataset that was written."""
    found = _frequent_reasons(manifest)
    template = manifest.template
    if template is None:
        return found
    if template.foreign_markers:
        markers = ", ".join(f"`{marker}`" for marker in template.foreign_markers[:4])
        found.append(
            f"the template `{template.name}` writes {markers}, which the tokenizer splits into "
            "several tokens; if the template belongs to another model, use `--template auto`"
        )
    if not template.ends:
        found.append(
            f"the template `{template.name}` ends no assistant message, so a model trained on this "
            "dataset does not learn to stop"
        )
    return found


def _shapes(manifest: Manifest) -> str:
    """Return the rows of each shape, and which words in them stand for which roles."""
    return ", ".join(
        f"{_counts({shape: rows})}{_roles(manifest.role_words.get(shape))}"
        for shape, rows in _by_count(manifest.shapes)
    )


def _roles(words: RoleWordsEntry | None) -> str:
    if words is None or not words.roles:
        return ""
    # The assistant's words come last, as its messages do.
    found = sorted(words.roles.items(), key=lambda pair: (pair[1] == "assistant", pair[1], pair[0]))
    more = len(found) - WORDS_NAMED
    listed = ", ".join(f"{word}→{role}" for word, role in found[:WORDS_NAMED])
    listed += f" and {more} more" if more > 0 else ""
    listed += ", and others that the manifest does not list" if words.has_more else ""
    return f" (roles {listed})"


def _unused_columns(manifest: Manifest) -> list[tuple[str, str]]:
    """Return the entry about columns with content that no row of an input used."""
    found = sorted({name for entry in manifest.inputs for name in entry.unused_columns})
    if not found:
        return []
    more = len(found) - COLUMNS_NAMED
    listed = ", ".join(found[:COLUMNS_NAMED]) + (f" and {more} more" if more > 0 else "")
    if any(entry.has_more_unused_columns for entry in manifest.inputs):
        listed += " (and others that the manifest does not list)"
    return [("columns not used", listed)]


def _frequent_reasons(manifest: Manifest) -> list[str]:
    """Return a warning for each structural reason that removed more than 5 % of the rows."""
    rows, structural = manifest.rows, names("structural_reasons")
    remedies = {code: remedy for code, _, _, remedy in describe("reasons")}
    counts = {**rows.dropped, **rows.quarantined}
    return [
        f"{count:,} of {rows.read:,} rows ({count / rows.read:.0%}) were not written for the "
        f"reason `{code}`. {remedies[code].rstrip('.')}"
        for code, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        if code in structural and count > SHARE_WARNED * rows.read
    ]


def _changes(manifest: Manifest) -> list[tuple[str, str]]:
    """Return the entries about near-duplicates, phrases, capital letters, doubtful pairs and the
    order of messages, if there are any.
    """
    entries = []
    if manifest.dedup.near_search_truncated:
        entries.append(
            (
                "near-dedup",
                f"search was cut short for {manifest.dedup.near_search_truncated:,} rows (too many "
                "candidates); some near-duplicates may remain",
            )
        )
    if manifest.phrases:
        entries.append(("phrases", _counts(manifest.phrases)))
    if manifest.truecase.rows:
        entries.append(
            (
                "truecased",
                f"{manifest.truecase.letters_changed:,} letters capitalized in "
                f"{manifest.truecase.rows:,} rows",
            )
        )
    if manifest.doubtful_pairs:
        entries.append(("doubtful pairs", _doubtful_pairs(manifest)))
    structure = manifest.structure
    unusual = {
        f"{structure.messages_cut:,} messages after the last answer removed": structure.rows_cut,
        "assistant speaks first": structure.rows_starting_with_assistant,
        "a role speaks twice in a row": structure.rows_with_repeated_role,
    }
    if any(unusual.values()):
        kept = [f"{what} in {rows:,} rows" for what, rows in unusual.items() if rows]
        entries.append(("structure", "; ".join(kept)))
    return entries


def _doubtful_pairs(manifest: Manifest) -> str:
    kept = 'doubtful_pairs = "keep"' in manifest.recipe.text
    what = "kept, see `binarize.doubtful_pairs`" if kept else "left out of rows with other pairs"
    return f"{_counts(manifest.doubtful_pairs)} ({what})"


def _decontamination(found: Decontamination) -> str:
    if found.status == "not checked":
        return "not checked (use --decontaminate NAME=PATH:FIELD)"
    done = "dropped" if found.action == "drop" else "flagged"
    sets = ", ".join(
        f"{entry.name}: {entry.instances_matched:,} of {entry.instances:,} instances "
        f"({entry.share:.1%}) found in {entry.rows_matched:,} rows"
        for entry in found.sets
    )
    return f"{found.rows_matched:,} rows {done}; {sets}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in _by_count(counts))


def _by_count(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _shards(manifest: Manifest) -> str:
    splits = [manifest.splits[name] for name in SPLITS if name in manifest.splits]
    files = [entry.file for split in splits for entry in split.shards or split.text]
    return ", ".join(files) if len(files) <= 2 else f"{files[0]} … {files[-1]}"
