"""The truecaser's twin: the same rules as regular expressions over the whole text, where the
engine walks it by hand.

Rules: the head of `truecase.rs` and `truecase/protect.rs`. Character classes are Unicode's own,
so `regex` stands in for `re`.
"""

import regex

SPACE = r"\p{White_Space}"
WORD = r"[\p{Alphabetic}\p{N}]"
ABBREVIATIONS = (
    "e.g. i.e. etc. vs. approx. no. fig. a.m. p.m. mr. mrs. ms. dr. prof. st. jr. sr. cf. al. inc. "
    "ltd. co. corp. dept. est. eq. sec. "
    "vol. pp. ed. eds. ca. u.s. u.k."
)

END = regex.compile(rf"([.!?])[\"')\]”’]*(?={SPACE})|\n[ \t\r]*(?=\n)")
LEAD = regex.compile(rf"{SPACE}*[\"'(\[“‘]*")
NAME = regex.compile(rf"(?<={WORD})\.(?={WORD})|[\p{{N}}_/\\=]|(?<=.)\p{{Uppercase}}", regex.DOTALL)
JOINER = r"\p{Alphabetic}\p{N}_.\-/\\&@+=*"
PRONOUN = regex.compile(
    rf"(?<![{JOINER}'’])i(?=\Z|\.(?:\Z|{SPACE})|['’](?:m|ve|d|ll)(?!{WORD})|[^{JOINER}'’).])",
)

PROTECTED = regex.compile(
    "|".join(
        [
            r"^[ \t]*```[^\n]*(?:\n(?![ \t]*```)[^\n]*)*(?:\n[ \t]*```[^\n]*)?",
            r"^[ \t\r]*(?:[{}<\[#$>|]|//|/\*|\*/|(?:if|for|while) \()[^\n]*",
            r"^[ \t\r]*(?:def|class|import|from|return|function|const|let|var|SELECT) (?=[^\n]*[^ "
            r"\t\r\n])[^\n]*",
            r"^[^\n]*(?:[{};][ \t\r]*$|=>[^\n]*|==[^\n]*|\(\);[^\n]*)",
            rf"(?:(?<=\A|{SPACE}))(?:[^\p{{White_Space}}]*(?:://|@)|[(\[{{<\"'“‘]*(?i:www\.))[^\p{{White_Space}}]*",
            r"`[^`\n]+`",
            r"\$\$(?!\$\$)(?s:.+?)\$\$",
            rf"\$(?![$]|{SPACE})[^$\n]*[^$\p{{White_Space}}]\$",
        ]
    ),
    regex.MULTILINE,
)


def truecase(text: str) -> tuple[str, int]:
    """The text with its capitals, and how many letters changed."""
    places = {found.start() for found in PRONOUN.finditer(text)}
    ends = [
        0,
        *(
            found.end()
            for found in END.finditer(text)
            if not (found[1] == "." and _dot_is_no_end(text[: found.start(1)]))
        ),
    ]
    for end in ends:
        place = LEAD.match(text, end).end()
        word = regex.split(SPACE, text[place:], maxsplit=1)[0]
        if word and word[0].islower() and not NAME.search(word.rstrip(".,;:!?)]}\"'”").rstrip("’")):
            places.add(place)
    for found in PROTECTED.finditer(text):
        places -= set(range(found.start(), found.end()))
    letters, letters_changed = list(text), 0
    for place in places:
        capital = letters[place].upper()
        if letters[place].islower() and len(capital) == 1 and capital != letters[place]:
            letters[place], letters_changed = capital, letters_changed + 1
    return "".join(letters), letters_changed


def _dot_is_no_end(before: str) -> bool:
    """Whether the dot behind `before` belongs to an ellipsis, an abbreviation, an initial or a
    list number.
    """
    if before.endswith((".", "…")):
        return True
    stem = regex.split(SPACE, before)[-1].lstrip("\"'([“‘")
    is_initial = bool(regex.fullmatch(r"\p{Alphabetic}", stem))
    is_number = bool(regex.fullmatch("[0-9]+", stem))
    return is_initial or is_number or (stem + ".").lower() in ABBREVIATIONS.split()
