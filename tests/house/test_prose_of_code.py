"""Texts in code are in plain English: what users read has no odd words, and docstrings and
comments few. `prose.py` has the lists.
"""

import pytest

from prose import measure, texts_of

STRINGS_SOFT_MAX = 6.0


def test_what_users_read_is_in_plain_english() -> None:
    texts = texts_of("strings")
    assert {".py", ".rs"} == {one.path.suffix for one in texts}
    found = measure(texts)
    assert found.words > 5_000
    assert not found.found, "\n".join(found.found)
    assert found.soft <= STRINGS_SOFT_MAX


@pytest.mark.parametrize(("kind", "hard", "soft"), [("docstrings", 1.0, 15), ("comments", 1.5, 15)])
def test_docstrings_and_comments_are_in_plain_english(kind: str, hard: float, soft: float) -> None:
    found = measure(texts_of(kind))
    assert found.words > 3_000
    assert found.hard <= hard, "\n".join(found.found)
    assert found.soft <= soft
