"""No judge's text is read as a number that the judge did not give, and none raises."""

import random
import re

import pytest

from judge_texts import BRACKETS, RATINGS
from zephyr_fast.endpoint.call import Choice, TokenLogprob
from zephyr_fast.judge.expected import expected
from zephyr_fast.judge.scale import Fault, Reading, Scale, Unread, Verdict
from zephyr_fast.judge.sections import sections
from zephyr_fast.judge.verdict import bracketed, labelled

FIVE, TEN = Scale(1, 5), Scale(1, 10)


def outcome(reading: Reading) -> float | Fault | None:
    return reading.fault if isinstance(reading, Unread) else reading.score


def test_there_are_many_texts() -> None:
    assert len(RATINGS) + len(BRACKETS) >= 80 and len(set(RATINGS)) == len(RATINGS)


@pytest.mark.parametrize(("text", "wanted"), RATINGS)
def test_a_rating_is_read_or_refused(text: str, wanted: float | Fault | None) -> None:
    assert outcome(labelled(text, "Rating", FIVE)) == wanted


@pytest.mark.parametrize(("text", "wanted"), BRACKETS)
def test_a_number_in_brackets_is_read_or_refused(text: str, wanted: float | Fault | None) -> None:
    assert outcome(bracketed(text, TEN)) == wanted


def test_taking_the_first_number_would_be_noticed() -> None:
    """The reading that most tools use gives wrong numbers on these texts."""
    wrong = 0
    for text, wanted in [*RATINGS, *BRACKETS]:
        found = re.search(r"[0-9]+(?:\.[0-9]+)?", text)
        wrong += (float(found[0]) if found else Fault.NO_VERDICT) != wanted
    assert wrong >= 30


def test_not_available_is_a_verdict_only_where_it_is_allowed() -> None:
    honesty = Scale(1, 5, allows_na=True)
    for text in ("Rating: N/A", "Rating: n/a", "Rating: **NA**", "Rating: N/A."):
        assert labelled(text, "Rating", honesty) == Verdict(None)
        assert outcome(labelled(text, "Rating", FIVE)) is Fault.NOT_A_NUMBER
    assert outcome(labelled("Rating: N/A\nRating: 3", "Rating", honesty)) is Fault.SEVERAL_VERDICTS


def test_an_answer_that_was_cut_has_no_verdict() -> None:
    for read in (
        lambda text: labelled(text, "Rating", FIVE, is_cut=True),
        lambda text: bracketed(text, FIVE, is_cut=True),
    ):
        assert outcome(read("Rating: [[4]]")) is Fault.CUT


def test_another_label() -> None:
    assert labelled("Feedback.\n\nOverall Score: 8/10", "Overall score", TEN) == Verdict(8)
    assert outcome(labelled("Score: 8", "Overall score", TEN)) is Fault.NO_VERDICT


PARTS = """### Answer 1
Clear.
Rating: 4

#### Answer 2
**Answer 3**
Rating: 2"""


def test_each_text_has_its_section() -> None:
    first, second, third = sections(PARTS, 3)
    assert isinstance(first, str) and labelled(first, "Rating", FIVE) == Verdict(4)
    assert isinstance(second, str) and outcome(labelled(second, "Rating", FIVE)) is Fault.NO_VERDICT
    assert isinstance(third, str) and labelled(third, "Rating", FIVE) == Verdict(2)
    assert sections(f"<think>{PARTS}</think>{PARTS}", 3) == sections(PARTS, 3)
    (first, *_, missing) = sections(PARTS, 4)
    assert isinstance(first, str)
    assert isinstance(missing, Unread) and missing.fault is Fault.NO_SECTION


@pytest.mark.parametrize(
    "text",
    [
        PARTS + "\n### Answer 2\nRating: 5",  # as a text under judgement may pretend
        "### Answer 2\nRating: 5\n### Answer 1\nRating: 1\n### Answer 3\nRating: 3",
        PARTS + "\n### Answer 4\nRating: 5",
        "### Answer 0\nRating: 5\n" + PARTS,
    ],
)
def test_headings_that_repeat_or_go_astray_leave_no_section(text: str) -> None:
    for part in sections(text, 3):
        assert isinstance(part, Unread) and part.fault is Fault.REPEATED_SECTION


def choice(*top: tuple[str, float], token: str = "4") -> Choice:
    return Choice(token, "length", (TokenLogprob(token, dict(top).get(token, -9.0), top),))


def test_the_expected_number_is_the_mean_over_the_scale() -> None:
    from math import exp, log

    half = choice(("4", log(0.5)), (" 2", log(0.25)), ("▁1", log(0.25)))
    assert outcome(expected(half, FIVE)) == pytest.approx(2.75)
    # Mass on words, on numbers outside the scale and on `04` is not part of the mean.
    mixed = choice(("4", log(0.6)), ("9", log(0.2)), ("The", log(0.1)), ("04", log(0.1)))
    assert outcome(expected(mixed, FIVE)) == pytest.approx(4)
    p = {"1": -1.85, "2": -3.86, "3": -3.78, "4": -4.5, "5": -3.31}
    mass = sum(map(exp, p.values()))
    mean = sum(int(n) * exp(lp) for n, lp in p.items()) / mass
    assert outcome(expected(choice(*p.items()), FIVE, mass_min=0.2)) == pytest.approx(mean)
    assert outcome(expected(choice(*p.items()), FIVE)) is Fault.LOW_MASS


def test_a_digit_that_further_tokens_continue_is_not_the_number() -> None:
    """A server that writes more tokens than requested may write `10` as two."""
    for rest, expects in (
        ("0", Fault.NOT_A_NUMBER),
        (".5", Fault.NOT_A_NUMBER),
        ("/10", Fault.NOT_A_NUMBER),
        (".", pytest.approx(1)),
        (" point", pytest.approx(1)),
    ):
        first = choice(("1", -0.01), token="1")
        assert first.logprobs is not None
        tokens = (*first.logprobs, *(TokenLogprob(one, -0.1, ((one, -0.1),)) for one in rest))
        assert outcome(expected(Choice(f"1{rest}", "stop", tokens), FIVE)) == expects


def test_digits_of_other_scripts_are_no_numbers_and_spaces_are_skipped() -> None:
    assert outcome(expected(choice((" 4", -0.1), token=" 4"), FIVE)) == pytest.approx(4)
    for token in ("４", "٤", "④", "4\u200b", "<0x34>"):
        assert outcome(expected(choice((token, -0.1), token=token), FIVE)) is Fault.LOW_MASS


def test_no_expected_number_without_log_probs_or_with_an_unfit_scale() -> None:
    assert outcome(expected(Choice("4", "stop"), FIVE)) is Fault.LOW_MASS
    assert outcome(expected(choice(("The", -0.1), token="The"), FIVE, mass_min=0)) is Fault.LOW_MASS
    with pytest.raises(ValueError, match="0 to 9"):
        expected(choice(("4", -0.1)), TEN)


def test_no_text_raises_and_no_number_leaves_the_scale() -> None:
    draws = random.Random(1)
    bits = [
        "Rating",
        ":",
        " ",
        "\n",
        "[[",
        "]]",
        "[",
        "]",
        "4",
        "5",
        "0",
        "10",
        ".",
        "/",
        "N/A",
        "*",
        "</think>",
        "<think>",
        "### Answer 1",
        "### Answer 2",
        "٤",
        "\ud800",
        "\0",
        "-",
        "：",
        "a",
    ]
    for _ in range(4_000):
        text = "".join(draws.choice(bits) for _ in range(draws.randint(0, 40)))
        for reading in (labelled(text, "Rating", FIVE), bracketed(text, FIVE)):
            assert isinstance(reading, Unread) or 1 <= (reading.score or 0) <= 5
        assert len(sections(text, 2)) == 2
