"""Which replies are paired: every preset, strategy and score against slow Python, and the old
script's draws against CPython.
"""

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

import zephyr_fast
from out_folder import ledger, manifest, shard_rows, text_rows
from reference_pairs import ASPECTS, PRESETS, pairs, score
from reference_rows import every, read
from zephyr_fast._core import names

SAMPLE = Path(zephyr_fast.__file__).parent / "sample"
RUST = Path(__file__).parents[2] / "rust" / "core" / "src"
TWO_SCORES = ("overall", "mean_aspects")
SETTINGS = [
    *({"binarize.preset": preset} for preset in names("presets")),
    *(
        {"binarize.strategy": strategy, "binarize.score_by": by}
        for strategy, by in itertools.product(names("strategies"), TWO_SCORES)
    ),
    *(
        {"binarize.strategy": "best-vs-worst", "binarize.score_by": by}
        for by in names("scores")
        if by not in TWO_SCORES
    ),
]


def binarized(
    path: Path | str, settings: dict[str, Any], out: Path
) -> dict[int, list[dict[str, Any]] | str]:
    """By row: its pairs as text, or the reason why there are none. The tokenizer does not matter
    here, so it is the small one.
    """
    loose = {
        "tokenize.control_tokens": "allow",
        "binarize.max_length": 1 << 20,
        "dedup.exact": False,
        "shards.test_fraction": 0.0,
    }
    zephyr_fast.binarize(input=path, tokenizer="sample", out=out, overrides={**loose, **settings})
    texts = iter(text_rows(out, "train"))
    lines = ledger(out)
    made = {
        line["row_id"]: line["reason"]
        if line["reason"]
        else [next(texts) for _ in range(line["pairs"])]
        for line in lines
    }
    assert next(texts, None) is None
    return made


def assert_pairs_are_the_twins(path: Path, settings: dict[str, Any], out: Path) -> None:
    strategy, by, repair, sources, _ = PRESETS[settings.get("binarize.preset", "h4-v2-rules")]
    strategy, by = (
        settings.get("binarize.strategy", strategy),
        settings.get("binarize.score_by", by),
    )
    made, seed = binarized(path, settings, out), settings.get("seed", 42)
    ids = {line["row_id"]: line["prompt_id"] for line in ledger(out)}
    for row_id, row in enumerate(read(path)):
        if made[row_id] in ("invalid_json", "empty_turn", "prompt_not_prefix"):
            continue  # not of these rules
        raw = row.raw if isinstance(row.raw, dict) else json.loads(row.raw)
        answers = raw["completions"]
        scores = [score(answer, by, repair) for answer in answers]
        wanted = (
            "excluded_source"
            if raw.get("source") in sources
            else pairs(answers, scores, strategy, seed, ids[row_id])
        )
        found = made[row_id]
        if not isinstance(found, str):
            found = [
                (
                    p["chosen"][-1]["content"],
                    p["rejected"][-1]["content"],
                    p["score_chosen"],
                    p["score_rejected"],
                )
                for p in found
            ]
        assert found == wanted, (row_id, settings)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings.values()))
def test_each_preset_strategy_and_score_picks_what_slow_python_picks(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    assert_pairs_are_the_twins(SAMPLE / "ultrafeedback.jsonl", settings, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("raw_scored.jsonl.gz", 1),
        ("raw_alpacaeval_weighted.jsonl.zst", 6),
        ("raw_alpacaeval_v1.jsonl.zst", 6),
        ("raw_alpacaeval_claude.jsonl.zst", 2),
    ],
)
@pytest.mark.parametrize("preset", names("presets"))
def test_each_preset_picks_what_slow_python_picks_on_real_rows(
    preset: str, name: str, step: int, real: Path, tmp_path: Path
) -> None:
    path = every(step, real / "ultrafeedback" / name, tmp_path)
    assert_pairs_are_the_twins(path, {"binarize.preset": preset}, tmp_path / "out")


def rows_of(path: Path, rows: list[list[dict[str, Any]]]) -> Path:
    """Raw rows with these completions, each with a prompt of its own."""
    lines = [
        {"source": "flan", "instruction": f"Question {number}?", "completions": row}
        for number, row in enumerate(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def reply(text: str, overall: Any, rating: Any = "3") -> dict[str, Any]:
    annotations = {aspect: {"Rating": rating, "Rationale": "-"} for aspect in ASPECTS}
    return {
        "model": f"model of {text}",
        "response": text,
        "annotations": annotations,
        "overall_score": overall,
    }


# From ZEPHYR's facts: chosen index to rejected index for n completions, which is what restarting at
# 42 in every row comes to.
@pytest.mark.parametrize(("count", "table"), [(2, [1, 0]), (3, [2, 2, 0]), (4, [2, 0, 0, 0])])
def test_the_october_script_rejects_by_a_fixed_table(
    count: int, table: list[int], tmp_path: Path
) -> None:
    rows = [
        [reply(f"reply {place}", 9 if place == chosen else 5) for place in range(count)]
        for chosen in range(count)
    ]
    made = binarized(
        rows_of(tmp_path / "rows.jsonl", rows), {"binarize.preset": "h4-v1"}, tmp_path / "out"
    )
    assert [pair[0]["chosen"][-1]["content"] for pair in made.values()] == [
        f"reply {place}" for place in range(count)
    ]
    assert [pair[0]["rejected"][-1]["content"] for pair in made.values()] == [
        f"reply {place}" for place in table
    ]


def test_the_engines_table_of_draws_is_that_of_cpython() -> None:
    source = (RUST / "binarize" / "draws.rs").read_text(encoding="utf-8")
    table = [int(number, 16) for number in re.findall(r"0x([0-9a-f]{8})\b", source)]
    random.seed(42)
    assert table == [random.getrandbits(32) for _ in range(64)]


# A 10 beside a mean rating of at most 2 was a 1, above 4 it is a 10, and between them twice the
# mean stands in.
@pytest.mark.parametrize(
    ("rating", "mended"), [("2", 1.0), ("2.5", 5.0), ("4", 8.0), ("4.5", 10.0), ("N/A", 10.0)]
)
def test_a_ten_is_mended_by_its_ratings(rating: str, mended: float, tmp_path: Path) -> None:
    path = rows_of(tmp_path / "rows.jsonl", [[reply("ten", 10, rating), reply("low", 0.5)]])
    for settings, wanted in (({}, mended), ({"binarize.repair": False}, 10.0)):
        made = binarized(path, settings, tmp_path / f"out-{len(settings)}")
        assert [(pair["score_chosen"], pair["score_rejected"]) for pair in made[0]] == [
            (wanted, 0.5)
        ]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("row", "strategy", "wanted"),
    [
        ([], "all-lower", "too_few_completions"),
        ([reply("a", 5)], "best-vs-random", "too_few_completions"),
        ([reply("a", "N/A"), reply("b", 5)], "best-vs-random", "too_few_completions"),
        ([reply("a", "N/A"), reply("b", None)], "all-lower", "no_scores"),
        ([reply("a", 5), reply("b", 5)], "best-vs-random-lower", "tie"),
        ([reply("a", 5), reply("b", "5")], "best-vs-worst", "tie"),
        ([reply("a", 5), reply("b", 5)], "best-vs-random", [("a", "b")]),
        ([reply("a", 5), reply("a", 3)], "best-vs-random", "identical_completions"),
        ([reply("a", 5), reply("a", 3)], "all-lower", "identical_completions"),
        (
            [reply("a", 5), reply("a", 3), reply("b", 4), reply("c", 3)],
            "all-lower",
            [("a", "b"), ("a", "c")],
        ),
        (
            [reply("a", 1), reply("b", 3), reply("c", 3), reply("d", 1)],
            "best-vs-worst",
            [("b", "d")],
        ),
        ([reply("a", "N/A"), reply("b", 3), reply("c", 2)], "best-vs-worst", [("b", "c")]),
    ],
)
def test_ties_gaps_and_equal_answers_end_as_they_are_named(
    row: list[dict[str, Any]], strategy: str, wanted: Any, tmp_path: Path
) -> None:
    settings = {"binarize.strategy": strategy, "binarize.score_by": "overall"}
    kept = [reply("x", 9), reply("y", 1)]  # a run that keeps no row is an error
    made = binarized(rows_of(tmp_path / "rows.jsonl", [row, kept]), settings, tmp_path / "out")[0]
    assert wanted == (
        made
        if isinstance(made, str)
        else [tuple(p[side][-1]["content"] for side in ("chosen", "rejected")) for p in made]
    )


def test_another_seed_picks_other_rejected_replies_and_never_another_chosen_one(
    tmp_path: Path,
) -> None:
    first, second = (
        binarized(SAMPLE / "ultrafeedback.jsonl", {"seed": seed}, tmp_path / str(seed))
        for seed in (42, 43)
    )
    assert first != second
    for row_id, made in first.items():
        assert isinstance(made, str) == isinstance(second[row_id], str)
        assert isinstance(made, str) or [p["chosen"] for p in made] == [
            p["chosen"] for p in second[row_id]
        ]  # type: ignore[union-attr]


def test_answers_are_the_sources_byte_for_byte(tmp_path: Path) -> None:
    odd = [
        "  spaces  ",
        "tab\t\r\nline",
        "\u2028\u200b\x07 end ",
        "é e\u0301",
        "\U0001f469\u200d\U0001f4bb",
        "i am small. so am i",
    ]
    rows = [[reply(text, 9), reply(text[::-1] + "!", 2)] for text in odd]
    made = binarized(rows_of(tmp_path / "rows.jsonl", rows), {}, tmp_path / "out")
    assert [pair[0]["chosen"][-1]["content"] for pair in made.values()] == odd
    assert [pair[0]["rejected"][-1]["content"] for pair in made.values()] == [
        text[::-1] + "!" for text in odd
    ]


def test_repeated_rows_go_where_the_published_set_dropped_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(2 * rows_of(path, [[reply("a", 9, "5"), reply("b", 2, "1")]]).read_bytes())
    for preset, is_dropped in (("paper", 1), ("argilla", 1), ("h4-v1", 0), ("h4-v2-rules", 0)):
        zephyr_fast.binarize(
            input=path,
            tokenizer="sample",
            out=tmp_path / preset,
            overrides={"binarize.preset": preset},
        )
        rows = manifest(tmp_path / preset)["rows"]
        assert (rows["written"], rows["duplicates"]) == (
            2 - is_dropped,
            {"exact": 1} if is_dropped else {},
        )
        assert (
            sum(len(shard_rows(tmp_path / preset, split)) for split in ("train", "test"))
            == 2 - is_dropped
        )
