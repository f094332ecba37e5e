"""Measure truecasing and deduplication on real rows and write docs/quality.md.

    pip install --target /tmp/peers truecase sacremoses
    PYTHONPATH=/tmp/peers python scripts/quality.py

Needs the directory of real rows (ZEPHYR_FAST_DATA). Packages that are missing are left out of the
table. Fully lowercased published rows are the test: every tool gets the same texts, and the
published text says which letters are right. `sacremoses` is trained on the first half of the rows,
and all tools are tested on the second. Deduplication is tested on rows of which it gets a changed
version too.
"""

import argparse
import gzip
import importlib.util
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from zephyr_fast import prep, scan_ledger

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "quality.md"
PUBLISHED = "ultrachat/raw_real.jsonl.gz"
MIX = "ultrachat/raw_mix_nc.jsonl.zst"
MIXES = {"long answers": MIX, "open questions": "ultrachat/raw_mix_open.jsonl.zst"}

Texts = list[str]
Tool = Callable[[Texts], Texts]

# A capital at the start of a text, or after a sentence. List numbers, initials and abbreviations
# with a capital after them are excluded, because they end no sentence.
NO_END = ("Dr", "Mr", "Mrs", "St", "vs", "Inc", "Ltd", "etc", "al", "Corp")
BEFORE = "".join(rf"(?<!\b{word})" for word in NO_END)
START = re.compile(
    rf"(?:\A\s*|(?<![\s(.][A-Za-z])(?<![\s(.]\d)(?<![\s(.]\d\d)(?<!\A\d)(?<!\.){BEFORE}"
    r"[.!?][\"')\]”’]*\s+)[\"'“‘]*(?=[A-Z])"
)
PRONOUN = re.compile(r"(?<![^\s\"'“‘(])I(?=[ ,;!?\n]|['’](?:m|ve|d|ll)\b)")
# Broader than the rule of the engine: lines that may be code.
CODE = re.compile(
    r"[{}=<>\\|]|;\s*$|\w\(|^(?: {4}|\t)|::|->|^\s*(?:#|//|def |class |import |from \w+ import"
    r"|return |else\b|print|echo |SELECT |public |private |var |let |const |function )"
)
WORD = re.compile(r"[^\W_]+")
# Of deduplication: the threshold and the number of words of a short row, as the engine has them.
THRESHOLD, SHORT = 0.7, 64
PLANTED = 450
VERSIONS: dict[str, Callable[..., str]] = {
    "upper case": lambda text, is_last=False: text.upper(),
    "one line": lambda text, is_last=False: " ".join(text.split()),
    "last tenth cut": lambda text, is_last=False: text[: len(text) * 9 // 10] if is_last else text,
}
DEDUP_RECIPE = "[truecase]\nenabled = false\n[dedup]\nexact = true\nnear = true\n"
TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
SENTENCE = re.compile(r"[^.!?\n]*[.!?]*[\"')\]”’]*")


def main() -> None:
    options = parse()
    rows = list(published(options.data))
    half = len(rows) // 2
    tools = dict(tools_trained_on([turn for row in rows[:half] for turn in row]))
    turns = [turn for row in rows for turn in row]
    tested = [turn for row in rows[half:] for turn in row if len(turn.lower()) == len(turn)]
    tables = [
        unchanged(tools, turns, rows),
        restored(tools, tested),
        in_code({name: tools[name] for name in ("careful", "h4")}, options.data),
    ]
    page = "\n".join([HEAD, *tables, DEDUP_HEAD, planted(options.data), precision(options.data)])
    print(page)
    if not options.dry_run:
        PAGE.write_text(page, encoding="utf-8")


def parse() -> argparse.Namespace:
    import os

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("ZEPHYR_FAST_DATA") or ROOT.parent / "shared" / "data"),
        help="directory of real rows (default: ZEPHYR_FAST_DATA)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the page without writing it")
    return parser.parse_args()


def published(data: Path) -> Iterator[Texts]:
    with gzip.open(data / PUBLISHED, "rt", encoding="utf-8") as file:
        yield from (json.loads(line)["data"] for line in file)


def tools_trained_on(turns: Texts) -> Iterator[tuple[str, Tool]]:
    yield "careful", lambda texts: ours(texts, "careful")
    yield "h4", lambda texts: ours(texts, "h4")
    if importlib.util.find_spec("truecase"):
        yield "`truecase` 0.0.14", statistical_truecaser()
    if importlib.util.find_spec("sacremoses"):
        yield "`sacremoses` 0.2.0", moses_truecaser(turns)


def ours(texts: Texts, rules: str) -> Texts:
    """Return the texts as `prep` writes them with one of the two rules."""
    with tempfile.TemporaryDirectory() as folder:
        recipe, source, out = (Path(folder) / name for name in ("r.toml", "rows.jsonl", "out"))
        recipe.write_text(f'[truecase]\nenabled = true\nrules = "{rules}"\n', encoding="utf-8")
        # A second message, since a dialogue needs an answer.
        lines = [json.dumps({"data": [text, "."]}) + "\n" for text in texts]
        source.write_text("".join(lines), encoding="utf-8")
        overrides: dict[str, Any] = {"shards.tokens": False, "shards.test_fraction": 0.0}
        prep(str(recipe), input=source, out=out, overrides=overrides)
        tables = [pq.read_table(path) for path in sorted(out.glob("**/*.parquet"))]
        texts_written = [table for table in tables if "messages" in table.column_names]
    prompts: Texts = pa.concat_tables(texts_written)["prompt"].to_pylist()
    assert len(prompts) == len(texts)
    return prompts


def statistical_truecaser() -> Tool:
    from truecase.TrueCaser import TrueCaser  # type: ignore[import-not-found]

    caser = TrueCaser()
    return lambda texts: [by_sentence(text, caser.get_true_case_from_tokens) for text in texts]


def moses_truecaser(turns: Texts) -> Tool:
    from sacremoses import MosesTruecaser  # type: ignore[import-not-found]

    caser = MosesTruecaser()
    caser.train([TOKEN.findall(line) for turn in turns for line in turn.splitlines()])

    def cased(tokens: Texts) -> Texts:
        first, *rest = caser.truecase(" ".join(tokens)) or [""]
        return [first[:1].upper() + first[1:], *rest]

    return lambda texts: [by_sentence(text, cased) for text in texts]


def by_sentence(text: str, cased: Callable[[Texts], Texts]) -> str:
    """Return the text with the case of a tool that reads the tokens of one sentence."""
    letters = list(text)
    for sentence in SENTENCE.finditer(text):
        spans = list(TOKEN.finditer(text, *sentence.span()))
        if not spans:
            continue
        made = cased([found[0] for found in spans])
        if len(made) == len(spans):
            for found, token in zip(spans, made, strict=True):
                if token.lower() == found[0].lower() and len(token) == len(found[0]):
                    letters[found.start() : found.end()] = token
    return "".join(letters)


def unchanged(tools: dict[str, Tool], turns: Texts, rows: Sequence[Texts]) -> str:
    lines = []
    for name, tool in tools.items():
        made = iter(tool(turns))
        letters = [sum(map(different, row, [next(made) for _ in row])) for row in rows]
        same = sum(count == 0 for count in letters) / len(rows)
        lines.append([name, f"{sum(letters):,}", f"{same:.1%}"])
    return section(
        "Changes to published rows",
        f"{len(rows)} rows of ultrachat_200k, {len(turns):,} messages. Their authors truecased "
        "them, so a change is a fault, or a matter of taste.",
        ["rule or package", "letters changed", "rows unchanged"],
        lines,
    )


def restored(tools: dict[str, Tool], gold: Texts) -> str:
    lower = [text.lower() for text in gold]
    lines = []
    for name, tool in tools.items():
        made = tool(lower)
        prose, whole = ([0, 0], [0, 0]), ([0, 0], [0, 0])
        wrong = 0
        for text, small, cased in zip(gold, lower, made, strict=True):
            spans = [*lines_of_prose(text)]
            for number, pattern in enumerate((START, PRONOUN)):
                for found in pattern.finditer(text):
                    place = found.end() if number == 0 else found.start()
                    hit = cased[place] == text[place]
                    for counts in (prose, whole):
                        if counts is whole or any(place in span for span in spans):
                            counts[number][0] += hit
                            counts[number][1] += 1
            wrong += sum(
                new != right and new != old
                for new, right, old in zip(cased, text, small, strict=True)
            )
        cells = [f"{hits / total:.1%}" for counts in (prose, whole) for hits, total in counts]
        lines.append([name, *cells, f"{wrong:,}"])
    return section(
        "Capitals restored in lowercased rows",
        f"The {len(gold):,} messages of the second half of these rows, in lower case. A sentence "
        "starts at a capital of the published text, at the start of a message or after `.`, `!` or "
        "`?`. Prose excludes code, and lines of verse, lists and tables, most of which end in the "
        "middle of a sentence. `careful` leaves those alone. A wrong capital is one that the "
        "published text does not have.",
        [
            "rule or package",
            "sentence starts, prose",
            "pronoun `I`, prose",
            "sentence starts, all lines",
            "pronoun `I`, all lines",
            "wrong capitals",
        ],
        lines,
    )


def lines_of_prose(text: str) -> Iterator[range]:
    """Spans of the lines that are neither code nor part of verse, a list or a table."""
    start, fenced, group = 0, False, list[tuple[int, str]]()
    for line in [*text.split("\n"), ""]:
        fence = line.lstrip().startswith("```")
        fenced = fenced != fence
        if fenced or fence or CODE.search(line) or not line.strip():
            yield from prose_of(group)
            group = []
        else:
            group.append((start, line))
        start += len(line) + 1


def prose_of(group: Sequence[tuple[int, str]]) -> Iterator[range]:
    ends = [bool(re.search(r"[.!?:…][\"')\]”’]*\s*\Z", line)) for _, line in group[:-1]]
    if 2 * ends.count(False) <= len(ends):
        yield from (range(start, start + len(line)) for start, line in group)


def in_code(tools: dict[str, Tool], data: Path) -> str:
    turns = [turn for row in mixed(data, MIX) for turn in row]
    lines = []
    for name, tool in tools.items():
        made = tool(turns)
        pairs = list(zip(turns, made, strict=True))
        changed = sum(different(text, cased) for text, cased in pairs)
        code = [word for text, cased in pairs for word in changed_in_code(text, cased)]
        messages = sum(text != cased for text, cased in pairs)
        counts = (messages, changed, len(code), code.count("i"))
        lines.append([name, *(f"{count:,}" for count in counts)])
    return section(
        "Changes to code",
        f"{len(turns):,} messages of long answers of language models, with much code. A line "
        "counts as code if it is in a fenced block or has any sign of code (`CODE` in the script), "
        "so a sentence with `std::string` in it counts as well.",
        ["rule", "messages changed", "letters changed", "of these in code", "of these `i`"],
        lines,
    )


def mixed(data: Path, name: str) -> list[Texts]:
    stream = cast(io.RawIOBase, pa.input_stream(data / name, compression="zstd"))
    with io.BufferedReader(stream) as file:
        return [json.loads(line)["data"] for line in file]


def changed_in_code(text: str, cased: str) -> Iterator[str]:
    """Yield the word of each letter of code that was changed."""
    start, fenced = 0, False
    for line in text.split("\n") if text != cased else ():
        fence = line.lstrip().startswith("```")
        fenced = fenced != fence
        if fenced or fence or CODE.search(line):
            for word in re.finditer(r"\w+", line):
                made = cased[start + word.start() : start + word.end()]
                yield from [word[0]] * different(word[0], made)
        start += len(line) + 1


def different(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def planted(data: Path) -> str:
    lines = []
    for mix, name in MIXES.items():
        rows = mixed(data, name)
        rows = rows[:: len(rows) // PLANTED][:PLANTED]
        for change, version in VERSIONS.items():
            versions = [[*map(version, row[:-1]), version(row[-1], True)] for row in rows]
            first = duplicates([*rows, *versions])[len(rows) :]
            pairs = list(zip(rows, versions, first, strict=True))
            near = [pair for pair in pairs if jaccard(*map(fives, pair[:2])) >= THRESHOLD]
            missed = [row for row, _, earlier in near if earlier is None]
            short = sum(len(words(row)) <= SHORT for row in missed)
            lines.append([mix, change, f"{len(near)}", f"{len(near) - len(missed)}", f"{short}"])
    return section(
        "Near-duplicates found",
        f"{PLANTED} rows of each mix and a changed version of each. A version is a near-duplicate "
        f"if the Jaccard similarity of its runs of five words, without case, is at least "
        f"{THRESHOLD}. A row is short if it has at most {SHORT} words. In short rows, signs, and "
        "the case and indentation of code, must be similar too, as far as both rows have them.",
        ["rows", "change", "near-duplicates", "found", "missed in short rows"],
        lines,
    )


def precision(data: Path) -> str:
    lines = []
    for mix, name in MIXES.items():
        rows = mixed(data, name)
        pairs = [
            (row, rows[first])
            for row, first in zip(rows, duplicates(rows), strict=True)
            if first is not None
        ]
        right = sum(jaccard(*map(fives, pair)) >= THRESHOLD for pair in pairs)
        lines.append([mix, f"{len(rows):,}", f"{len(pairs)}", f"{right / len(pairs):.3f}"])
    return section(
        "Precision",
        "Of the rows of the whole mixes that are dropped as duplicates, the share whose exact "
        f"Jaccard similarity to the kept row is at least {THRESHOLD}.",
        ["rows", "count", "dropped", "precision"],
        lines,
    )


def duplicates(rows: Sequence[Texts]) -> list[int | None]:
    """Return for each row the earlier row that it repeats, by `dedup.exact` and `dedup.near`."""
    with tempfile.TemporaryDirectory() as folder:
        recipe, source, out = (Path(folder) / name for name in ("r.toml", "rows.jsonl", "out"))
        recipe.write_text(DEDUP_RECIPE, encoding="utf-8")
        lines = [json.dumps({"data": row}) + "\n" for row in rows]
        source.write_text("".join(lines), encoding="utf-8")
        prep(str(recipe), input=source, out=out, overrides={"shards.tokens": False})
        ledger = scan_ledger(out).sort("row_id").collect()
    first: list[int | None] = ledger["duplicate_of"].to_list()
    assert len(first) == len(rows)
    return first


def words(row: Texts) -> Texts:
    return [word for text in row for word in WORD.findall(text.lower())]


def fives(row: Texts) -> frozenset[tuple[str, ...]]:
    found = words(row)
    return frozenset(tuple(found[at : at + 5]) for at in range(max(1, len(found) - 4)))


def jaccard(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other)


def section(title: str, text: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    table = [head, ["---"] * len(head), *rows]
    return "\n".join(
        [f"## {title}", "", text, "", *("| " + " | ".join(row) + " |" for row in table), ""]
    )


HEAD = """# Quality of truecasing and deduplication

`truecase.rules` selects one of two rules.

`careful` (default) changes a message only if it lacks capitals: at least half of its sentences
start with a small letter. It then capitalizes the starts of sentences and, in English text, the
pronoun `i`. Code, markup, maths, verse, CSV, links and the first letters of list items stay.

`h4` repeats the replacements of the published dataset ultrachat_200k, without exceptions: the first
letter of a message, a letter after a dot and a space, and `i` in ` i ` and ` i'`. It also changes
code, so use it only to rebuild that dataset (recipe `ultrachat-200k`).

`scripts/quality.py` wrote this page:

```
pip install --target /tmp/peers truecase sacremoses
PYTHONPATH=/tmp/peers python scripts/quality.py
```
"""

DEDUP_HEAD = """## Deduplication

A near-duplicate shares most of its runs of five words with an earlier row. Case, signs and
indentation do not count for this, so a version in other capitals or with other line breaks is
found. They do count between short rows, where they can be the whole difference: `2+2` and `2-2`,
or `class Foo` and `class foo`. A copy in capitals or on one line has lost its case or lines, so
there its words and signs decide.
"""


if __name__ == "__main__":
    main()
