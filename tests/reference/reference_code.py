"""Which lines of a text are code, slow and obvious: the twin of `code.rs`, which truecasing and
deduplication ask.

A line of a fenced block is code. Outside, lines without an empty line between them belong
together, and a line that ends with a colon ends its group. A group is code if one of its lines is.
"""

from dataclasses import dataclass

import regex

SPACE = r"\p{White_Space}"
FENCE = regex.compile(r"[ \t]*(```|~~~)")
CALL = regex.compile(r"[\p{Alphabetic}\p{N}_]\((?!(?:s|es|ies)\))")
SIGNS = set("=<>{}\\")
STARTS = ("# ", "#!", "//", "/*", "*/", "-- ", "$ ", "@", "% ", "|", '"""', "'''")
QUOTED = regex.compile(rf"`[^`]+`|(?:(?<=\A|{SPACE}))[^\p{{White_Space}}]*://[^\p{{White_Space}}]*")
ALONE = "begin break continue do done else end endif esac fi finally loop pass return then try"
STATEMENTS = (
    "class const def echo export fn from func function import include int let mkdir package "
    "private public return static sudo use using var void"
)
OPENERS = "case class def elif except for if switch while with"
QUERIES = "CREATE DELETE FROM INSERT SELECT UPDATE WHERE"
STATEMENT_WORDS_MAX = 4


@dataclass
class Line:
    """A line of a text, without its line end."""

    start: int
    text: str
    is_code: bool = False

    @property
    def is_blank(self) -> bool:
        return not regex.sub(SPACE, "", self.text)


def lines_of(text: str) -> list[Line]:
    """Every line, with whether it is code."""
    lines, start = [], 0
    for part in text.split("\n"):
        lines.append(Line(start, part))
        start += len(part) + 1
    group: list[Line] = []
    fenced = False
    for line in lines:
        is_fence = FENCE.match(line.text) is not None
        if fenced or is_fence:
            line.is_code = True
            fenced = fenced != is_fence
            group = []
        elif line.is_blank:
            group = []
        else:
            group.append(line)
            if any(other.is_code or looks_like_code(other.text) for other in group):
                for other in group:
                    other.is_code = True
            if line.text.rstrip(" \t\r").endswith(":"):
                group = []
    return lines


def looks_like_code(line: str) -> bool:
    """Whether one line, by itself, is code, markup or maths."""
    text = QUOTED.sub("", line).strip(" \t\r")
    words = [word for word in regex.split(SPACE, text) if word]
    first = words[0].rstrip(":;") if words else ""
    is_short = len(words) <= STATEMENT_WORDS_MAX and not text.endswith((".", "!", "?"))
    return (
        line.startswith(("    ", "\t"))
        or bool(SIGNS & set(text))
        or text.count("|") > 1
        or text.endswith(";")
        or text.startswith(STARTS)
        or CALL.search(text) is not None
        or (len(words) == 1 and first in ALONE.split())
        or (is_short and first in STATEMENTS.split())
        or (text.endswith(":") and first in OPENERS.split())
        or first in QUERIES.split()
    )
