"""`prep` and `binarize` as functions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict, Unpack

from zephyr_fast import _core
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.prepare import canary
from zephyr_fast.prepare.inputs import find_inputs, find_tokenizer
from zephyr_fast.prepare.progress import Progress, listener
from zephyr_fast.prepare.recipe import Recipe, Value, against, read
from zephyr_fast.prepare.spool import Spool, is_table, rows_or_paths
from zephyr_fast.untrusted.limits import THREADS_MAX, check_count


class ArrowStream(Protocol):
    """A data frame or table, e.g. of polars, pandas, pyarrow, DuckDB or `datasets`."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Rows = ArrowStream | Iterable[Mapping[str, object]]
Paths = str | Path | Sequence[str | Path]


class RunOptions(TypedDict, total=False):
    """The keyword arguments of `prep` and `binarize`. `prep` describes each of them."""

    input: Paths | Rows | None
    tokenizer: str | Path | None
    overrides: Mapping[str, Value] | None
    decontaminate: Mapping[str, str] | None
    threads: int | None
    overwrite: bool
    strict: bool
    max_bad_rows: int | None
    max_memory: int | None
    on_progress: Callable[[Progress], object] | None


def prep(
    recipe: str | Path = "ultrachat", *, out: str | Path, **options: Unpack[RunOptions]
) -> Manifest:
    """Clean, filter, deduplicate, tokenize and pack dialogues.

    If `out` already holds the result of the same run, nothing is written.

    Args:
        recipe: Name of a bundled recipe, or the path of a TOML file.
        out: Output directory. Created if missing.
        **options: The other arguments, all optional and by keyword:

            - `input`: Files, directories, globs, URLs or Hub ids, "-" for stdin, or "sample" for
              the bundled rows. Or the rows themselves: a data frame or table (polars, pandas,
              pyarrow, `datasets`, DuckDB), or an iterable of dicts. They are stored in a temporary
              file during the run. Defaults to the recipe's dataset on the Hub.
            - `tokenizer`: Directory, tokenizer.json, Hub id, or "sample". Defaults to the
              recipe's tokenizer.
            - `overrides`: Recipe keys to override, e.g. `{"pack": {"seq_len": 512}}` or
              `{"pack.seq_len": 512}`. With `{"shards": {"tokens": False}}`, only text is written
              and no tokenizer is needed.
            - `decontaminate`: Evaluation sets to remove overlaps with, as
              `{"name": "path:field"}`, e.g. `{"mt_bench": "eval/mt_bench.jsonl:turns"}`. Added to
              those of the recipe.
            - `threads`: Number of threads. Defaults to one per core. Does not affect the output.
            - `overwrite`: Delete the dataset of another run in `out` first.
            - `strict`: Fail on the first unreadable row. Excludes `max_bad_rows`.
            - `max_bad_rows`: Maximum number of unreadable rows. Defaults to 0.1 % of the rows, at
              least 20 and at most 1,000.
            - `max_memory`: Memory limit of the process in bytes. Batches shrink to fit, and the
              run fails if that is not enough.
            - `on_progress`: Called about ten times a second with a `Progress`.

    Returns:
        The manifest of the dataset in `out`.

    Raises:
        ConfigError: The recipe, an override, an option or the template is invalid.
        InputError: An input or tokenizer is missing, unreadable, or changed during the run.
        TooManyBadRowsError: Too many rows are unreadable.
        NoRowsWrittenError: No row was written.
        MemoryLimitError: The run needs more memory than `max_memory`.
        OutputExistsError: `out` holds a different run, or files that zephyr-fast did not write.
        LockedError: Another process is writing to `out`.
        StorageError: Writing failed.
        KeyboardInterrupt: The user pressed Ctrl-C.

    Example:
        >>> manifest = prep(input="sample", overrides={"pack": {"seq_len": 512}}, out=out)
        >>> manifest.rows.read, manifest.rows.written
        (320, 298)
    """
    return make("prep", recipe, out, options)


def binarize(
    recipe: str | Path = "ultrafeedback", *, out: str | Path, **options: Unpack[RunOptions]
) -> Manifest:
    """Turn scored completions, or existing pairs, into preference pairs (text and tokens).

    Arguments, return value and exceptions are those of `prep`.

    Example:
        >>> binarize(input="sample", out=out).splits["train"].examples
        222
    """
    return make("binarize", recipe, out, options)


@dataclass(frozen=True)
class Resolved:
    """The recipe and the local files of a run."""

    recipe: Recipe
    inputs: list[Path]
    tokenizer: Path | None


def check_options(command: str, options: RunOptions) -> None:
    """TypeError for an unknown argument, ConfigError for a value out of range."""
    for name in options:
        if name not in RunOptions.__annotations__:
            raise TypeError(f"{command}() got an unexpected keyword argument '{name}'")
    check_count("threads", options.get("threads"), 1, THREADS_MAX)
    check_count("max_bad_rows", options.get("max_bad_rows"))
    check_count("max_memory", options.get("max_memory"))
    if options.get("strict") and options.get("max_bad_rows") is not None:
        raise _core.ConfigError("--strict and --max-bad-rows exclude each other; drop one of them")


def resolve_recipe(recipe: str | Path, options: RunOptions) -> Recipe:
    """Return the checked recipe with all overrides and evaluation sets."""
    found = read(recipe, options.get("overrides"))
    return against(found, options.get("decontaminate") or {})


def named_inputs(options: RunOptions) -> Sequence[str | Path]:
    """Return the inputs that the caller named, which must not be rows themselves."""
    given = options.get("input")
    if given is None:
        return []
    if isinstance(given, str | Path):
        return [given]
    has_rows, items = (True, []) if is_table(given) else rows_or_paths(given)  # type: ignore[arg-type]
    if has_rows:
        raise TypeError("`input` must name files here, not be the rows themselves")
    return list(items)


def _inputs(command: str, recipe: Recipe, given: object, spool: Spool) -> list[Path]:
    """Return the files of the input, which may be rows in memory."""
    if given is None or isinstance(given, str | Path):
        return find_inputs(command, recipe, [] if given is None else [given], spool=spool)
    if is_table(given):
        return [spool.table(given)]
    if isinstance(given, Mapping) or not isinstance(given, Iterable):
        raise _core.InputError(
            f"cannot read rows from a {type(given).__name__}; pass a data frame, an iterable of "
            "dicts (one per row), or one split of a `DatasetDict`"
        )
    has_rows, items = rows_or_paths(given)
    return (
        [spool.rows(items)] if has_rows else find_inputs(command, recipe, list(items), spool=spool)
    )


def _resolve(command: str, recipe: str | Path, options: RunOptions, spool: Spool) -> Resolved:
    """Find everything that a run reads, and try an unknown template."""
    check_options(command, options)
    found = resolve_recipe(recipe, options)
    inputs = _inputs(command, found, options.get("input"), spool)
    tokenizer = find_tokenizer(found, options.get("tokenizer"), inputs)
    check_template(found, tokenizer)
    return Resolved(found, inputs, tokenizer)


def check_template(recipe: Recipe, tokenizer: Path | None) -> None:
    """ConfigError if the recipe uses an unknown template that fails in its canary process."""
    if tokenizer:
        unknown = _core.unknown_template(recipe.arguments, tokenizer)
        if unknown:
            canary.check(unknown)


def make(command: str, recipe: str | Path, out: str | Path, options: RunOptions) -> Manifest:
    """Run a command. Arguments, return value and exceptions are those of `prep`."""
    with Spool() as spool:
        found = _resolve(command, recipe, options, spool)
        manifest = _core.run(
            command,
            found.recipe.arguments,
            found.inputs,
            found.tokenizer,
            out,
            threads=options.get("threads"),
            overwrite=options.get("overwrite", False),
            strict=options.get("strict", False),
            max_bad_rows=options.get("max_bad_rows"),
            max_memory=options.get("max_memory"),
            on_progress=listener(options.get("on_progress")),
        )
    return Manifest.parse(manifest)
