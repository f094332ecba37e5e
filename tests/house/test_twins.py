"""What the engine knows by name, its slow twins know too: a name that is added here or there
alone is told.
"""

from pathlib import Path

import pytest

from reference import KNOWN, Walk, recipe
from reference_filters import FILTERS
from reference_pairs import PRESETS, SCORES, STRATEGIES, pairs, score
from reference_rows import VERDICTS, Refused
from reference_shapes import SHAPES
from reference_tokens import Tokens
from reference_truecase import RULES
from zephyr_fast._core import names

TESTS = Path(__file__).parents[1]

TWINS = {
    "filters": FILTERS,
    "presets": PRESETS,
    "scores": SCORES,
    "shapes": SHAPES,
    "strategies": STRATEGIES,
    "truecase_rules": RULES,
}

ELSEWHERE = {
    "line_too_long": "bad_rows.py",
    "too_deep": "bad_rows.py",
    "too_many_tokens": "bad_rows.py",
    "contaminated": "prepare/test_decontaminate.py",
    "template_error": "prepare/test_hostile_templates.py",
    "mask_not_provable": "prepare/test_templates.py",
    "tokenizer": "prepare/test_quarantine.py",
}
"""Reasons that the twin never gives, and the tests that hold them."""


@pytest.mark.parametrize("kind", TWINS)
def test_the_twin_knows_every_name_of_the_engines_list(kind: str) -> None:
    twin = set(TWINS[kind])
    assert twin == set(names(kind)), (
        f"the twin's {kind}: {', '.join(sorted(twin ^ set(names(kind))))}"
    )


def test_every_reason_is_the_twins_or_another_tests() -> None:
    assert not VERDICTS.keys() & ELSEWHERE.keys()
    known = VERDICTS.keys() | ELSEWHERE.keys()
    assert known == set(names("reasons")), (
        f"reasons: {', '.join(sorted(known ^ set(names('reasons'))))}"
    )
    for reason, test in ELSEWHERE.items():
        assert f'"{reason}"' in (TESTS / test).read_text(encoding="utf-8"), reason


def test_words_of_other_keys_that_the_twin_takes_are_the_engines() -> None:
    kinds = {
        "truecase.id_from": "id_from",
        "dedup.of": "compared",
        "tokenize.train_on": "train_on",
        "tokenize.control_tokens": "control_tokens",
        "template.name": "templates",
    }
    for key, kind in kinds.items():
        assert set(KNOWN[key]) <= set(names(kind)), key


def test_a_word_that_the_twin_does_not_know_is_an_error() -> None:
    answers = [{"response": text, "overall_score": number} for number, text in enumerate("ab")]
    with pytest.raises(NotImplementedError, match="best-vs-none"):
        pairs(answers, [0.0, 1.0], "best-vs-none", 42, "")
    with pytest.raises(NotImplementedError, match="loudness"):
        score(answers[0], "loudness", False)
    with pytest.raises(KeyError, match="too_loud"):
        Refused("too_loud")
    sample = Tokens(TESTS.parent / "python" / "zephyr_fast" / "sample" / "tokenizer")
    with pytest.raises(NotImplementedError, match="neutralize"):
        Walk("prep", recipe("ultrachat", {"tokenize.control_tokens": "neutralize"}), sample)
    with pytest.raises(NotImplementedError, match="tail"):
        FILTERS["phrases"]({"phrases": ["a"], "drop": "tail"}, [], answers)
    with pytest.raises(NotImplementedError, match="middle"):
        FILTERS["phrases"]({"phrases": ["a"], "at": "middle"}, [], answers)
