"""Near-dedup against exact Jaccard and against datasketch, on rows made of templates and, where
they are, on real ones.
"""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xxhash

from real_data import DATA, needs_real_data
from reference_dedup import exact_key, form, marked, shingles, similarity
from zephyr_fast import ConfigError, prep, scan_ledger

RECIPE = (
    "[truecase]\nenabled = false\n[tokenize]\ncontrol_tokens = 'allow'\n"
    "[dedup]\nexact = {exact}\nnear = {near}\nof = '{of}'\n"
)
THRESHOLD = 0.7

Dialogues = Sequence[Sequence[str]]


def jaccard(left: frozenset[Any], right: frozenset[Any]) -> float:
    return len(left & right) / len(left | right)


def run(
    folder: Path,
    dialogues: Sequence[Sequence[str]],
    near: bool = True,
    of: str = "dialogue",
    overrides: dict[str, Any] | None = None,
    **options: Any,
) -> pl.DataFrame:
    rows = folder / "rows.jsonl"
    lines = [json.dumps({"id": str(at), "data": list(turns)}) for at, turns in enumerate(dialogues)]
    rows.write_text("\n".join(lines), encoding="utf-8")
    recipe = folder / "dedup.toml"
    recipe.write_text(RECIPE.format(exact="true", near=str(near).lower(), of=of))
    settings = {"shards.tokens": False, **(overrides or {})}
    prep(
        str(recipe),
        out=folder / "out",
        input=rows,
        overrides=settings,
        overwrite=True,
        **options,
    )
    return scan_ledger(folder / "out").collect()


def templated(count: int, chance: random.Random) -> list[list[str]]:
    """Rows of a few templates, with gaps of all widths: pairs of every similarity, and equal
    rows.
    """
    words = [
        f"{first}{second}"
        for first in "bdfgklmnprst"
        for second in ("an", "ell", "ick", "ow", "u", "yre")
    ]
    templates = [
        [chance.choice(words) for _ in range(chance.randrange(12, 120))] for _ in range(12)
    ]
    dialogues = []
    for _ in range(count):
        text = list(chance.choice(templates))
        for _ in range(chance.choice([0, 0, 1, 2, 4, 8])):
            text[chance.randrange(len(text))] = chance.choice(words)
        dialogues.append([" ".join(text), "yes"])
    return dialogues


def missed_and_found(dialogues: Dialogues, kept: Iterable[int]) -> tuple[int, int]:
    """Of the rows that nearly repeat an earlier kept row: how many were kept all the same, and
    how many were not.
    """
    stay = set(kept)
    by_shingle: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    sizes: dict[int, int] = {}
    missed = found = 0
    for row, turns in enumerate(dialogues):
        told = shingles(turns)
        shared = Counter(earlier for shingle in told for earlier in by_shingle[shingle])
        is_near = any(
            count / (len(told) + sizes[earlier] - count) >= THRESHOLD
            and similarity(turns, dialogues[earlier]) >= THRESHOLD
            for earlier, count in shared.items()
        )
        missed += is_near and row in stay
        found += is_near and row not in stay
        if row in stay:
            sizes[row] = len(told)
            for shingle in told:
                by_shingle[shingle].append(row)
    return missed, found


def kept_by_datasketch(dialogues: Dialogues) -> list[int]:
    """The rows that stay by datasketch with 14 bands of 8, every flagged pair checked as ours
    are.
    """
    from datasketch import MinHash, MinHashLSH

    index, kept = MinHashLSH(num_perm=112, params=(14, 8)), []
    told_by_row = [shingles(turns) for turns in dialogues]
    tokens = [[repr(shingle).encode() for shingle in told] for told in told_by_row]
    hashes = MinHash.bulk(tokens, num_perm=112, seed=1, hashfunc=xxhash.xxh32_intdigest)
    for row, minhash in enumerate(hashes):
        if any(
            similarity(dialogues[row], dialogues[earlier]) >= THRESHOLD
            for earlier in index.query(minhash)
        ):
            continue
        index.insert(row, minhash)
        kept.append(row)
    return kept


def kept(ledger: pl.DataFrame) -> list[int]:
    return ledger.filter(pl.col("outcome") != "duplicate")["row_id"].to_list()


def check_flagged(dialogues: Dialogues, ledger: pl.DataFrame) -> None:
    """Every flagged row really is near, or equal to, an earlier row that stays."""
    stay = set(kept(ledger))
    for row, earlier, reason in (
        ledger.filter(outcome="duplicate").select("row_id", "duplicate_of", "reason").iter_rows()
    ):
        assert earlier < row and earlier in stay
        if reason == "exact":
            assert exact_key(dialogues[earlier]) == exact_key(dialogues[row])
        else:
            both = (dialogues[earlier], dialogues[row])
            assert jaccard(*map(shingles, both)) >= similarity(*both) >= THRESHOLD


def test_flagged_pairs_are_near_and_few_near_rows_are_missed(tmp_path: Path) -> None:
    ours, theirs = [0, 0], [0, 0]
    # One corpus decides nothing: which rows share a band is chance, so either tool finds up to two
    # hundredths more than the other.
    for seed in range(1, 9):
        dialogues = templated(1500, random.Random(seed))
        ledger = run(tmp_path, dialogues)
        check_flagged(dialogues, ledger)
        for counts, stay in ((ours, kept(ledger)), (theirs, kept_by_datasketch(dialogues))):
            missed, found = missed_and_found(dialogues, stay)
            assert found > 300
            counts[0] += missed
            counts[1] += found
    assert ours[1] / sum(ours) >= theirs[1] / sum(theirs) - 0.01


def test_survivors_depend_neither_on_threads_nor_on_which_equal_row_comes_first(
    tmp_path: Path,
) -> None:
    dialogues = templated(600, random.Random(5))
    dialogues += dialogues[:100]
    ledger = run(tmp_path, dialogues, threads=1)
    assert ledger.equals(run(tmp_path, dialogues, threads=2))
    # Equal rows change places, each with another of its kind; every row's text stays where it was.
    swapped = [[turns[0], turns[1].upper()] for turns in dialogues]
    again = run(tmp_path, swapped)
    columns = ["row_id", "outcome", "reason", "duplicate_of"]
    assert ledger.select(columns).equals(again.select(columns))


def test_the_recipe_says_which_turns_are_compared(tmp_path: Path) -> None:
    long, other = (" ".join(f"{letter}{number}" for number in range(40)) for letter in "ab")
    dialogues = [
        [long, other],
        [long, long],
        [other, f"{other} indeed"],
        [long.upper(), f"{other} indeed"],
    ]
    duplicates = {
        of: run(tmp_path, dialogues, of=of)["duplicate_of"].to_list()
        for of in ("prompt", "last_reply", "dialogue")
    }
    assert duplicates["prompt"] == [None, 0, None, 0]
    assert duplicates["last_reply"] == [None, None, 0, 0]
    assert duplicates["dialogue"] == [None, None, None, 0]
    with pytest.raises(ConfigError, match="unknown variant `answers`"):
        run(tmp_path, dialogues, of="answers")


def test_rows_that_differ_in_signs_code_or_borders_stay_apart(tmp_path: Path) -> None:
    asked = "Simplify {0} for me please and say why"
    answered = "The answer to the question is {0} and nothing more"
    pairs = [
        [[asked.format(text), answered.format(text)] for text in ("x + y + z", "x - y - z")],
        [["What is 2+2?", "4"], ["What is 2-2?", "4"]],
        [["It was 10.5 degrees", "Cold."], ["It was -10.5 degrees", "Cold."]],
        [["Fix it.", "for i in a:\n    f(i)\ng()"], ["Fix it.", "for i in a:\n    f(i)\n    g()"]],
        [["Fix it.", "class Foo"], ["Fix it.", "class foo"]],
        [["a b c", "d e f"], ["a b", "c d e f"]],
    ]
    ledger = run(tmp_path, [turns for pair in pairs for turns in pair])
    assert ledger["duplicate_of"].to_list() == [None] * 2 * len(pairs)


def test_case_lines_and_tails_hide_no_near_row_with_code(tmp_path: Path) -> None:
    """Rows of an answer with code, and versions that are formatted differently."""
    code = "".join(f"    Total{n} = total_of(n - {n})  # Adds {n} to it\n" for n in range(12))
    row = ["How do I add all of these up?", f"Like this:\n```python\ndef f(n):\n{code}```\nDone."]
    versions = [
        [text.upper() for text in row],
        [" ".join(text.split()) for text in row],
        [row[0], row[1][: len(row[1]) * 9 // 10]],
    ]
    ledger = run(tmp_path, [row, *versions])
    assert ledger["duplicate_of"].to_list() == [None, 0, 0, 0]


def test_case_and_white_space_of_prose_do_not_count(tmp_path: Path) -> None:
    dialogues = [
        ["What is a tree", "A plant,\nwith a trunk."],
        ["what  is a TREE\n", "a plant, with\n\na trunk."],
        ["Show it", "So:\n```\nf(x)\n```\nThat is all."],
        ["show it", "so:\n```\nf(x)  \n```\nthat  is all."],
        ["show it", "so:\n```\nF(x)\n```\nthat is all."],
    ]
    ledger = run(tmp_path, dialogues, near=False)
    assert ledger["duplicate_of"].to_list() == [None, 0, None, 2, None]


@pytest.mark.parametrize("of", [(False, False), (False, True), (True, False), (True, True)])
def test_tokens_of_hard_texts_are_those_of_the_slow_twin(
    of: tuple[bool, bool], tmp_path: Path
) -> None:
    """Texts of few tokens have one shingle, so near rows are those with the same tokens."""
    chance = random.Random(11)
    words = ["a", "b", "Foo", "foo", "2", "3", "10.5", "word", "f(x)", "é", "É", "İ", "😀", "日本"]
    marks = ["+", "-", "−", "*", "**", "/", "!", " - ", " + ", "= ", ";", "(", "- ", "`", "```\n"]
    pieces = [*words, *marks, " ", "  ", "\n", "\n\n", "    ", "\t", ":\n"]
    dialogues: list[list[str]] = []
    while len(dialogues) < 500:
        turns = ["".join(chance.choices(pieces, k=chance.randrange(1, 7))) for _ in range(2)]
        dialogues += [turns] if len(marked(turns)) < 2 and form(turns) == of else []
    recipe = {"dedup.exact": False}
    ledger = run(tmp_path, dialogues, overrides=recipe)
    first: dict[Any, int] = {}
    expected = []
    for row, turns in enumerate(dialogues):
        told = marked(turns) if shingles(turns) else None
        earlier = first.setdefault(told, row) if told else row
        expected.append(None if earlier == row else earlier)
    assert ledger["duplicate_of"].to_list() == expected
    assert len(first) > 200 and sum(one is not None for one in expected) > 40


def test_short_rows_of_every_form_are_compared_as_by_the_slow_twin(tmp_path: Path) -> None:
    """Pairs of rows with the same words, so that each pair is compared."""
    chance = random.Random(12)
    words = ["if", "Foo", "bar", "2", "x", "10.5"]
    signs = [" ", " + ", " - ", "\n    ", "\n", "(", "=", " = "]

    def row() -> str:
        return "".join(word + chance.choice(signs) for word in words)

    def changed(text: str) -> str:
        return chance.choice([text, text.upper(), " ".join(text.split()), text.lower()])

    pairs = []
    for number in range(400):
        one = [f"Do part{number}.", changed(row())]
        other = chance.choice([one, [one[0], row()]])
        pairs.append((one, [changed(text) for text in other]))
    expected = [similarity(*pair) >= THRESHOLD for pair in pairs]
    rows = [turns for pair in pairs for turns in pair]
    ledger = run(tmp_path, rows, overrides={"dedup.exact": False})
    found = ledger["duplicate_of"].to_list()
    assert found[::2] == [None] * len(pairs)
    assert [earlier is not None for earlier in found[1::2]] == expected
    assert 100 < sum(expected) < 300


def test_rows_without_words_are_never_near(tmp_path: Path) -> None:
    ledger = run(
        tmp_path, [["😀", "!"], ["🎉", "?"], ["😀", " ! "], ["hi", "you"], ["Hi!", "you."]]
    )
    assert ledger["duplicate_of"].to_list() == [None, None, 0, None, 3]


@needs_real_data
@pytest.mark.parametrize(
    ("file", "step"), [("raw_mix_open.jsonl.zst", 4), ("raw_mix_nc.jsonl.zst", 10)]
)
def test_real_near_rows_are_found_as_well_as_datasketch_finds_them(
    tmp_path: Path, file: str, step: int
) -> None:
    with pa.input_stream(DATA / "ultrachat" / file, compression="zstd") as stream:
        # Blocks of neighbours, where the near rows are.
        lines = stream.read().splitlines()
    dialogues = [json.loads(line)["data"] for at, line in enumerate(lines) if at // 500 % step == 0]
    ledger = run(tmp_path, dialogues)
    check_flagged(dialogues, ledger)
    missed, found = missed_and_found(dialogues, kept(ledger))
    their_missed, their_found = missed_and_found(dialogues, kept_by_datasketch(dialogues))
    print(
        f"{file}: {len(dialogues)} rows; found {found}, missed {missed}; datasketch found "
        f"{their_found}, missed {their_missed}"
    )
    assert np.isclose(len(dialogues), ledger.height)
    assert found / max(found + missed, 1) >= their_found / max(their_found + their_missed, 1) - 0.01
