"""Texts in code are in plain English: what users read, and what explains it to contributors.

`prose.py` has the lists of odd words.
"""

import pytest

from prose import measure, texts_of

STRINGS_SOFT_MAX = 6.0


def test_what_users_read_is_in_plain_english() -> None:
    texts = texts_of("strings")
    assert {".py", ".rs", ".json"} == {one.path.suffix for one in texts}
    found = measure(texts)
    assert found.words > 5_000
    assert not found.found, "\n".join(found.found)
    assert found.soft <= STRINGS_SOFT_MAX


@pytest.mark.parametrize(
    ("kind", "hard", "soft", "semicolons", "long"),
    [("docstrings", 1.0, 11.0, 3.0, 0.03), ("comments", 1.0, 8.0, 1.5, 0.03)],
)
def test_explanations_in_code_are_in_plain_english(
    kind: str, hard: float, soft: float, semicolons: float, long: float
) -> None:
    texts = texts_of(kind)
    assert {".py", ".rs"} <= {one.path.suffix for one in texts}
    found = measure(texts)
    assert found.words > 4_000
    assert found.hard <= hard, "\n".join(found.found)
    assert found.soft <= soft
    assert found.semicolons <= semicolons
    assert found.long_sentences <= long
