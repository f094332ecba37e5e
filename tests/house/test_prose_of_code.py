"""Texts that users read in code are in plain English. `prose.py` has the lists of odd words."""

from prose import measure, texts_of

STRINGS_SOFT_MAX = 6.0


def test_what_users_read_is_in_plain_english() -> None:
    texts = texts_of("strings")
    assert {".py", ".rs", ".json"} == {one.path.suffix for one in texts}
    found = measure(texts)
    assert found.words > 5_000
    assert not found.found, "\n".join(found.found)
    assert found.soft <= STRINGS_SOFT_MAX
