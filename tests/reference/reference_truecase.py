"""The truecaser's twin: both rules, slow and obvious, as expressions over lines where the engine
walks bytes.

Rules: the heads of `truecase/h4.rs` and `truecase/careful.rs`. Character classes are Unicode's
own, so `regex` stands in for `re`.
"""

from collections.abc import Iterator

import regex

from reference_code import SPACE, Line, lines_of

WORD = r"[\p{Alphabetic}\p{N}]"
CLOSERS = r"[\"')\]”’]"
OPENERS = r"[\"'“‘]"
ABBREVIATIONS = (
    "e.g. i.e. etc. vs. approx. a.m. p.m. mr. mrs. ms. dr. prof. st. jr. sr. cf. al. inc. ltd. "
    "co. corp. dept. est. ed. eds. ca. u.s. u.k."
)
ENGLISH = (
    "the and you is are was were it what how that this with for will would have has need want "
    "think like know am can my of they we if about your me not he she there because but just"
)

END = regex.compile(rf"(?:\.{CLOSERS}*|[!?])(?=[ \t])")
ENDS_LINE = regex.compile(rf"([.!?]){CLOSERS}*[ \t\r]*\Z")
ENDS_PARAGRAPH = regex.compile(rf"[.!?…:]{CLOSERS}*[ \t\r]*\Z")
LEAD = regex.compile(rf"{SPACE}*{OPENERS}*")
LIST = regex.compile(
    r"[ \t]*(?:[-*+•–—·◦▪]|\(?(?:[0-9]{1,3}|[A-Za-z]|[ivxIVX]{1,5})[.)])(?:[ \t]|\Z)"
)
NAME = regex.compile(
    rf"(?<={WORD})\.(?={WORD})|[\p{{N}}_/\\=@]|(?<=.)\p{{Uppercase}}", regex.DOTALL
)
PRONOUN = regex.compile(
    rf"(?<=(?:\A|[ \t\r]){OPENERS}?)i"
    rf"(?=['’](?:m|ve|d|ll)(?!{WORD})|[,;:!?.]*[\"”']?(?:[ \t\r]|\Z))"
)
VARIABLE = regex.compile(
    rf"(?<!{WORD})i *[+*/^=<>\[\]_{{}}\\]|[+*/^=<>\[\]_{{}}\\] *i(?!{WORD})"
    rf"|(?<!{WORD}|_)j(?!{WORD}|_)"
)
PROTECTED = regex.compile(
    "|".join(
        [
            rf"(?:(?<=\A|{SPACE}))(?:[^\p{{White_Space}}]*(?:://|@)|[(\[{{<\"'“‘]*(?i:www\.))[^\p{{White_Space}}]*",
            r"`[^`]+`",
            rf"\$(?![$]|{SPACE})[^$]*[^$\p{{White_Space}}]\$",
        ]
    )
)


def h4(text: str) -> tuple[str, int]:
    """The four replacements of the published set, and how many letters changed."""
    places = {0} if text else set()
    places |= {found.end() for found in regex.finditer(r"\. (?=.)", text)}
    places |= {found.start() + 1 for found in regex.finditer(r" i(?=[ '])", text)}
    return _capitalised(text, places)


def careful(text: str) -> tuple[str, int]:
    """The text with its capitals if it lacks them, and how many letters changed."""
    lines = lines_of(text)
    prose = {line.start for line in _prose(lines)}
    starts = list(_starts(text, lines, prose))
    telling = [text[place].islower() for place, tells in starts if tells]
    if not any(telling) or 2 * sum(telling) < len(telling):
        return text, 0
    small = {place for place, _ in starts}
    for line in lines:
        if line.start in prose and _is_english(text):
            spans = [range(*found.span()) for found in PROTECTED.finditer(line.text)]
            small |= {
                line.start + found.start()
                for found in PRONOUN.finditer(line.text)
                if not any(found.start() in span for span in spans)
            }
    return _capitalised(text, small)


RULES = {"careful": careful, "h4": h4}


def _prose(lines: list[Line]) -> Iterator[Line]:
    """The lines that are not code, empty, or of verse, CSV or a bare list."""
    group: list[Line] = []
    for line in [*lines, Line(0, "")]:
        ends = line.is_code or line.is_blank
        if ends or LIST.match(line.text):
            if not _is_verse(group):
                yield from group
            group = []
            if not ends:
                yield line
            continue
        group.append(line)
        if line.text.rstrip(" \t\r").endswith(":"):
            if not _is_verse(group):
                yield from group
            group = []


def _is_verse(group: list[Line]) -> bool:
    """Whether most lines of a group, the last aside, end in the middle of a sentence."""
    inner = group[:-1]
    broken = sum(ENDS_PARAGRAPH.search(line.text) is None for line in inner)
    return 2 * broken > len(inner)


def _starts(text: str, lines: list[Line], prose: set[int]) -> Iterator[tuple[int, bool]]:
    """Offsets of the letters at which sentences begin."""
    before = None
    after_blank = False
    for line in lines:
        if line.is_blank:
            after_blank = before is not None
            continue
        if line.start in prose:
            spans = [range(*found.span()) for found in PROTECTED.finditer(line.text)]
            opens = before is None or (
                bool(found := ENDS_LINE.search(before.text))
                and not (found[1] == "." and _dot_is_no_end(before.text[: found.start()]))
            )
            opens |= after_blank and ENDS_PARAGRAPH.search(line.text) is not None
            ends = [(0, before is None)] if opens and not LIST.match(line.text) else []
            ends += [
                (found.end(), found[0][0] == ".")
                for found in END.finditer(line.text)
                if not (found[0][0] == "." and _dot_is_no_end(line.text[: found.start()]))
            ]
            for end, tells in ends:
                place = LEAD.match(line.text, end).end()
                if any(place in span for span in spans) or place >= len(line.text):
                    continue
                word = regex.split(SPACE, line.text[place:], maxsplit=1)[0]
                bare = word.rstrip(".,;:!?)]}\"'”’")
                letter = line.text[place]
                if letter.isupper() or (letter.islower() and not NAME.search(bare)):
                    yield line.start + place, tells
        before, after_blank = line, False


def _dot_is_no_end(before: str) -> bool:
    """Whether the dot behind `before` belongs to an ellipsis, an abbreviation, an initial or a
    list number, or is the mark itself.
    """
    if before.endswith((".", "…")):
        return True
    stem = regex.split(SPACE, before)[-1].lstrip("\"'([“‘")
    is_initial = bool(regex.fullmatch(r"\p{Alphabetic}", stem))
    is_number = bool(regex.fullmatch("[0-9]{1,2}", stem))
    return (
        (not stem and before.endswith(tuple("\"'([“‘")))
        or is_initial
        or is_number
        or (stem.isascii() and (stem + ".").lower() in ABBREVIATIONS.split())
    )


def _is_english(text: str) -> bool:
    """Whether `i` in this text is the English pronoun."""
    words = {word.lower() for word in regex.findall(rf"{WORD}+", text) if word.isascii()}
    return bool(words & set(ENGLISH.split())) and not VARIABLE.search(text)


def _capitalised(text: str, places: set[int]) -> tuple[str, int]:
    letters, letters_changed = list(text), 0
    for place in places:
        capital = letters[place].upper()
        if letters[place].islower() and len(capital) == 1 and capital != letters[place]:
            letters[place], letters_changed = capital, letters_changed + 1
    return "".join(letters), letters_changed
