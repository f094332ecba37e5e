"""`prep` and `binarize` as functions: raw rows in, a folder of verified token shards out."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from zephyr_fast import _core
from zephyr_fast.dataset.manifest import Manifest
from zephyr_fast.prepare import canary
from zephyr_fast.prepare.inputs import find_inputs, find_tokenizer
from zephyr_fast.prepare.progress import Progress, listener
from zephyr_fast.prepare.recipe import Value, against, read
from zephyr_fast.untrusted.limits import THREADS_MAX, check_count

Paths = str | Path | Sequence[str | Path]


class RunOptions(TypedDict, total=False):
    """What `prep` and `binarize` take beside a recipe and the folder to write.

    input          files, folders, globs, or "sample"; without it the recipe's own source on the Hub
    tokenizer      a folder, a tokenizer.json, a Hub id, or "sample"
    overrides       keys laid over the recipe, as `{"pack.seq_len": 512}`; with
                   `{"shards.tokens": False}` text alone is written, and no tokenizer is needed
    decontaminate  evaluation sets to keep out, added to the recipe's, as
                   `{"mt_bench": "eval/mt_bench.jsonl:turns"}` (path, colon, field)
    threads        one a core unless given; the bytes are the same
    overwrite      another run's folder is replaced
    strict         the first unreadable row ends the run
    max_bad_rows        unreadable rows allowed
    max_memory     bytes that this process may hold, all that is in it counted: the run takes
                   smaller bites, and ends with a ConfigError where that is not enough
    on_progress called with the counters, about ten times a second
    """

    input: Paths | None
    tokenizer: str | Path | None
    overrides: Mapping[str, Value] | None
    decontaminate: Mapping[str, str] | None
    threads: int | None
    overwrite: bool
    strict: bool
    max_bad_rows: int | None
    max_memory: int | None
    on_progress: Callable[[Progress], object] | None


def prep(recipe: str = "ultrachat", *, out: str | Path, **options: Unpack[RunOptions]) -> Manifest:
    """Cleans, filters, dedups, tokenizes and packs dialogues; gives the manifest of the out folder.

    `recipe`: a packaged name or the path of a TOML file. `out`: the folder to write; a finished one
    of the same run is left as it is. The other arguments are those of `RunOptions`.

    Raises ConfigError, TooManyBadRowsError, InputError, OutputExistsError (the directory holds
    another run), LockedError, StorageError; KeyboardInterrupt on Ctrl-C.
    """
    return _run("prep", recipe, out, options)


def binarize(
    recipe: str = "ultrafeedback", *, out: str | Path, **options: Unpack[RunOptions]
) -> Manifest:
    """Turns scored replies (or pairs) into preference pairs, as text and as tokens.

    Arguments and errors: see `prep`.
    """
    return _run("binarize", recipe, out, options)


def _run(command: str, recipe: str, out: str | Path, options: RunOptions) -> Manifest:
    for name in options:
        if name not in RunOptions.__annotations__:
            raise TypeError(f"{command}() got an unexpected keyword argument '{name}'")
    threads, max_bad_rows = options.get("threads"), options.get("max_bad_rows")
    max_memory, given = options.get("max_memory"), options.get("input")
    check_count("threads", threads, 1, THREADS_MAX)
    check_count("max_bad_rows", max_bad_rows)
    check_count("max_memory", max_memory)
    found = against(read(recipe, options.get("overrides")), options.get("decontaminate") or {})
    named = [given] if isinstance(given, str | Path) else given or []
    inputs = find_inputs(command, found, named)
    tokenizer = find_tokenizer(found, options.get("tokenizer"), inputs)
    if tokenizer:
        unknown = _core.unknown_template(found.text, found.name, found.overrides, tokenizer)
        if unknown:
            canary.check(unknown)
    manifest = _core.run(
        command,
        found.text,
        found.name,
        found.overrides,
        inputs,
        tokenizer,
        out,
        threads=threads,
        overwrite=options.get("overwrite", False),
        strict=options.get("strict", False),
        max_bad_rows=max_bad_rows,
        max_memory=max_memory,
        on_progress=listener(options.get("on_progress")),
    )
    return Manifest.parse(manifest)
