"""What deduplication compares of a dialogue, slow and obvious: the twin of `dedup/tokens.rs`."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import regex

from reference_code import SPACE, Line, lines_of

WORD = regex.compile(r"[\p{Alphabetic}\p{N}]+")
SIGNS = "+-*/^=<>~%&|±×÷−–≤≥≠≈"
OPERAND = regex.compile(r"[\x00-\x7f]\Z|[0-9]")
BEFORE = regex.compile(rf"([{regex.escape(SIGNS)}]*)[ (]*\Z")

MARKED_WORDS_MAX = 64
SENTENCE = regex.compile(
    rf"(?:(?<=\A|{SPACE})\p{{Alphabetic}}+{SPACE}+){{4}}\p{{Alphabetic}}+(?=\Z|{SPACE})"
)

T = TypeVar("T")
Token = tuple[str, ...]
"""Its kind and its text: a word, a sign, an indentation or a border between messages."""


def normal(text: str) -> str:
    """Lower case, single spaces."""
    return " ".join(word.lower() for word in regex.split(rf"{SPACE}+", text) if word)


def exact_key(texts: Iterable[str]) -> list[list[str]]:
    """What two dialogues must share to be exact duplicates: per message, runs of prose without
    case and white space, and lines of code as they are.
    """
    return [[*_parts_of_key(text)] for text in texts]


def shingles(texts: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """Runs of five words, or all of them if there are fewer; none if there is no word."""
    words = _words(texts)
    return _fives(words) if words else frozenset()


def marked(texts: Sequence[str]) -> frozenset[tuple[Token, ...]]:
    """Runs of five tokens of a short row, which two short rows must share too."""
    if len(_words(texts)) > MARKED_WORDS_MAX:
        return frozenset()
    return _fives([token for number, text in enumerate(texts) for token in _tokens(number, text)])


def flat(texts: Sequence[str]) -> frozenset[tuple[Token, ...]]:
    """The same without case and lines."""
    if len(_words(texts)) > MARKED_WORDS_MAX:
        return frozenset()
    tokens: list[Token] = []
    for number, text in enumerate(texts):
        tokens += [("border",)] if number else []
        tokens += _tokens_of_prose(normal(text))
    return _fives(tokens)


def form(texts: Sequence[str]) -> tuple[bool, bool]:
    """Whether a row is in capitals, and whether it is on one line."""
    letters = "".join(texts)
    has_lower = regex.search(r"\p{Lowercase}", letters) is not None
    has_upper = regex.search(r"\p{Uppercase}", letters) is not None
    return has_upper and not has_lower, not any("\n" in stripped(text) for text in texts)


def stripped(text: str) -> str:
    return regex.sub(rf"\A{SPACE}+|{SPACE}+\Z", "", text)


def similarity(one: Sequence[str], other: Sequence[str]) -> float:
    """The Jaccard similarity of the words of two dialogues, or, if both are short, that of all
    tokens if it is lower. A row in capitals or on one line has lost its case or lines.
    """
    tokens = marked if form(one) == form(other) else flat
    pairs = [(shingles(one), shingles(other)), (tokens(one), tokens(other))]
    return min(len(a & b) / len(a | b) for a, b in pairs if a and b)


def _words(texts: Iterable[str]) -> list[str]:
    return [word.lower() for text in texts for word in WORD.findall(text)]


def _fives(tokens: Sequence[T]) -> frozenset[tuple[T, ...]]:
    return frozenset(tuple(tokens[at : at + 5]) for at in range(max(1, len(tokens) - 4)))


def _runs(text: str) -> Iterator[list[Line]]:
    """Single lines of code, and neighbouring lines of prose together."""
    prose: list[Line] = []
    for line in lines_of(text):
        line.is_code &= SENTENCE.search(line.text) is None
        if line.is_code:
            yield from [prose] if prose else []
            yield [line]
            prose = []
        else:
            prose.append(line)
    yield from [prose] if prose else []


def _parts_of_key(text: str) -> Iterator[str]:
    for run in _runs(text):
        if run[0].is_code:
            yield "\n" + regex.sub(rf"{SPACE}+\Z", "", run[0].text)
        elif prose := normal("\n".join(line.text for line in run)):
            yield prose


def _tokens(number: int, text: str) -> Iterator[Token]:
    if number:
        yield ("border",)
    for run in _runs(text):
        if run[0].is_code:
            yield from _tokens_of_code(run[0].text)
        else:
            yield from _tokens_of_prose("\n".join(line.text for line in run))


def _tokens_of_prose(text: str) -> Iterator[Token]:
    end = 0
    for found in WORD.finditer(text):
        if OPERAND.match(found[0]):
            yield from _signs(_signs_before(text[end : found.start()], is_first=end == 0))
        yield ("word", found[0].lower())
        end = found.end()


def _tokens_of_code(line: str) -> Iterator[Token]:
    line = regex.sub(rf"{SPACE}+\Z", "", line)
    indent = regex.match(rf"{SPACE}*", line)[0]
    if indent:
        yield ("indent", indent)
    end = len(indent)
    for found in WORD.finditer(line):
        yield from _signs(line[end : found.start()], more="!")
        yield ("word", found[0])
        end = found.end()
    yield from _signs(line[end:], more="!")


def _signs(text: str, more: str = "") -> Iterator[Token]:
    for letter in text:
        if letter in SIGNS + more:
            yield ("sign", "-" if letter in "−–" else letter)


def _signs_before(gap: str, is_first: bool) -> str:
    """The signs that belong to the number or single letter behind a gap between words."""
    signs = BEFORE.search(gap)[1]
    tail = len(gap) - len(gap.rstrip(" ("))
    head = gap[: len(gap) - tail - len(signs)]
    is_apart = " " in gap[len(gap) - tail :]
    starts_line = head.rstrip(" ").endswith("\n") or (is_first and not head.strip(" "))
    is_bullet = is_apart and starts_line
    is_emphasis = (
        not is_apart
        and set(signs) <= {"*"}
        and (starts_line or regex.search(rf"{SPACE}\Z", head) is not None)
    )
    return "" if is_bullet or is_emphasis else signs
