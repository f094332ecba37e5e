"""Measures how plain the English of the project is: odd words per 1,000 words.

Hard words are used in senses that no technical document needs, such as `lies` for a file that is
stored somewhere. Soft words are ordinary, but become a mannerism if they are frequent. The lists
hold both. `texts_of` collects what people read, by kind:

docs        Markdown files
strings     string literals of Python and Rust that look like sentences, and help texts of commands
docstrings  docstrings of Python, documentation comments of Rust
comments    other comments of Python and Rust, and those of configs, recipes and the Makefile
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("python", "rust/core/src", "rust/py/src", "scripts")
DOCUMENTS = ("*.md", "docs/**/*.md", "python/**/*.md", "scripts/**/*.md")
CONFIGS = ("Makefile", "python/**/*.toml", "python/**/*.yaml")
KINDS = ("docs", "strings", "docstrings", "comments")

HARD = (
    r"stands?(?!-alone| for\b| out\b)|stood|standing",
    r"lies?|lain|lying",
    r"tells?|told|telling",
    r"walk(?:s|ed|ing)?",
    r"twins?",
    r"lands?|landed",
    r"doors?|crossings?|keeps? (?:the )?books",
    r"fates?|(?:is|are) gone|gone from|alive",
    r"(?:is|are) whole",
    r"strangers?|spoil\w*|obey\w*|trouble",
    r"mend(?:s|ed|ing)?",
    r"if need be|as (?:it|they) (?:is|are|was|were)",
    r"(?<!there )(?:is|are|was|were) no (?!longer\b|way\b|need\b|such\b|more\b)\w+",
    r"th(?:e|is|at) very",
    r"of (?:its|their|his|her|our|your|my) own",
    r"taken? (?:it away|in)",
    r"anew|once more|seldom|ma(?:ke|de) (?:it |them )?again|type (?:the|its) (?:same )?command",
    r"giv(?:e|es|en|ing) (?:\w+ )?away",
    r"asks? (?:you|for)|asked for",
    r"knows? (?:no|not|nothing)",
    r"acts?",
    r"unless (?:given|named)|without:",
    r"ours|mine|theirs",
)
"""Patterns of words that the field does not use in these senses."""

SOFT = (
    r"what(?!['’]s)",
    r"(?<!in )places?",
    r"folders?|data sets?",
    r"ma(?:ke|kes|de|king)",
    r"say(?:s|ing)?|said",
    r"giv(?:e|es|en|ing)|gave",
    r"tak(?:e|es|en|ing)|took",
    r"besides?|behind",
    r"(?:all|nothing|any\w*|everything) but|but for",
    r"so that|go(?:es)? on",
    r"left (?:out|alone|over)|leave \w+ (?:out|alone)",
    r"where (?:it|they|there|that|one|he|an?|no|the)",
    r"none|nothing|alone",
    r"of (?:one|others|another|either)",
)
"""Patterns of words that are fine now and then."""


def any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(rf"\b(?:{one})(?!\w)" for one in patterns), re.IGNORECASE)


HARD_WORD, SOFT_WORD = any_of(HARD), any_of(SOFT)
WORD = re.compile(r"[A-Za-z][A-Za-z'’]*")
SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\n\s*\n|\n\s*[-*#] ")
SENTENCE_WORDS_MAX = 25


@dataclass(frozen=True)
class Text:
    """Something that people read, with the file and the line in which it begins."""

    path: Path
    line: int
    words: str


@dataclass(frozen=True)
class Measure:
    """Rates per 1,000 words, and the share of sentences that are too long.

    `found` has a line for each hard word, with its file.
    """

    words: int
    hard: float
    soft: float
    semicolons: float
    long_sentences: float
    found: tuple[str, ...]


def measure(texts: Iterable[Text]) -> Measure:
    """Count the words of some texts."""
    texts = list(texts)
    plain = [without_code(text.words) for text in texts]
    words = sum(len(WORD.findall(one)) for one in plain)
    found = [
        f"{text.path.relative_to(ROOT)}:{text.line + one[: hit.start()].count(chr(10))}: {hit[0]}"
        for text, one in zip(texts, plain, strict=True)
        for hit in HARD_WORD.finditer(one)
    ]
    lengths = [length for one in plain for length in sentence_lengths(one)]
    rate = 1000 / max(words, 1)
    return Measure(
        words,
        len(found) * rate,
        sum(len(SOFT_WORD.findall(one)) for one in plain) * rate,
        sum(one.count(";") for one in plain) * rate,
        sum(length > SENTENCE_WORDS_MAX for length in lengths) / max(len(lengths), 1),
        tuple(found),
    )


def without_code(text: str) -> str:
    """Return the text with inline code and placeholders replaced by a letter."""
    return re.sub(r"`[^`\n]*`|\{[^}\n]*\}", "X", text)


def sentence_lengths(text: str) -> Iterator[int]:
    """Yield the number of words of each sentence; rows of tables have none."""
    prose = re.sub(r"(?m)^\s*\|.*$", "", text)
    for sentence in SENTENCE_END.split(prose):
        if (length := len(WORD.findall(sentence))) >= 3:
            yield length


def texts_of(kind: str) -> list[Text]:
    """Collect all texts of one kind in the project."""
    if kind == "docs":
        return [Text(path, 1, prose_of(path.read_text("utf-8"))) for path in files(DOCUMENTS)]
    texts = []
    for directory in SOURCES:
        for ending, split in SPLITTERS.items():
            for path in files([f"{directory}/**/*{ending}"]):
                parts = split(path.read_text("utf-8"))[kind]
                texts += [Text(path, line, words) for line, words in parts]
    if kind == "strings":  # `recipe keys` prints them
        path = ROOT / "python/zephyr_fast/recipes/recipe.schema.json"
        for line, text in enumerate(path.read_text("utf-8").splitlines(), 1):
            if found := re.search(r'"description": "(.*)",?$', text):
                texts.append(Text(path, line, found[1]))
    if kind == "comments":
        for path in files(CONFIGS):
            texts += [Text(path, line, words) for line, words in hash_comments(path.read_text())]
    return texts


def files(patterns: Iterable[str]) -> list[Path]:
    found = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(path for path in found if path.is_file() and path.stem != "tests")


def prose_of(markdown: str) -> str:
    """Return Markdown without code, addresses and comments, with its lines in their places."""
    for pattern in (
        r"(?ms)^ *(```|~~~).*?^ *\1",
        r"(?s)<!--.*?-->",
        r"`[^`\n]*`",
        r"(?<=\])\([^)\n]*\)",
        r"https?://\S+|<[^>\n]+>",
    ):
        markdown = re.sub(
            pattern, lambda hit: " X " + "\n" * hit[0].count("\n"), markdown, flags=re.DOTALL
        )
    return markdown


Parts = Mapping[str, list[tuple[int, str]]]
"""By kind, the texts of a file with their lines."""


def python_parts(source: str) -> Parts:
    """Split a Python file."""
    tree = ast.parse(source)
    described = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(one.value): one.value
        for node in ast.walk(tree)
        if isinstance(node, described)
        for one in node.body
        if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)
        if isinstance(one.value.value, str)
    }
    strings = [
        (node.lineno, text)
        for node in outer_strings(tree)
        if id(node) not in docstrings and is_sentence(text := literal(node))
    ]
    strings += [
        (node.lineno, ast.get_docstring(node) or "")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(map(is_command, node.decorator_list))
    ]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        "strings": strings,
        "docstrings": [(node.lineno, str(node.value)) for node in docstrings.values()],
        "comments": joined(
            [
                (token.start[0], token.string.lstrip("#! "))
                for token in tokens
                if token.type == tokenize.COMMENT
            ]
        ),
    }


def outer_strings(tree: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """Yield string literals, and f-strings as one; not the parts of these."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.JoinedStr) or (
            isinstance(child, ast.Constant) and isinstance(child.value, str)
        ):
            yield child
        else:
            yield from outer_strings(child)


def literal(node: ast.Constant | ast.JoinedStr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values)


def is_command(decorator: ast.expr) -> bool:
    """Whether a decorator is click's for a command, whose docstring is its help."""
    return re.search(r"\.(?:command|group)\(", ast.unparse(decorator)) is not None


RUST = re.compile(
    r"""(?P<doc>//[/!](?!/)[^\n]*) | (?P<comment>//[^\n]*) | /\*.*?\*/
    | b?r(?P<hashes>\#*)"(?P<raw>.*?)"(?P=hashes) | b?"(?P<string>(?:[^"\\]|\\.)*)"
    | '(?:[^'\\\n]|\\[^\n]+?)' | \w+""",
    re.DOTALL | re.VERBOSE,
)
"""The tokens of Rust that have text in them; the rest keeps quotes in words from being taken."""


def rust_parts(source: str) -> Parts:
    """Split a Rust file, up to its unit tests."""
    source = re.split(r"#\[cfg\(test\)\]\s*(?:pub )?mod \w+ \{", source, maxsplit=1)[0]
    parts: dict[str, list[tuple[int, str]]] = {"strings": [], "docstrings": [], "comments": []}
    for token in RUST.finditer(source):
        line = source.count("\n", 0, token.start()) + 1
        if (text := token["doc"]) is not None:
            parts["docstrings"].append((line, text.lstrip("/! ")))
        elif (text := token["comment"]) is not None:
            parts["comments"].append((line, text.lstrip("/ ")))
        else:
            text = token["raw"] or unescaped(token["string"] or "")
            if is_sentence(text):
                parts["strings"].append((line, text))
    docstrings, comments = (joined(parts[kind]) for kind in ("docstrings", "comments"))
    return {"strings": parts["strings"], "docstrings": docstrings, "comments": comments}


def unescaped(literal: str) -> str:
    """Return a literal of Rust without the escapes of quotes and line ends."""
    literal = re.sub(r"\\\n\s*", "", literal)
    return re.sub(r"\\([\"n])", lambda found: "\n" if found[1] == "n" else found[1], literal)


def joined(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return comments on consecutive lines as one text, since sentences run over them."""
    texts: list[tuple[int, str]] = []
    for line, text in lines:
        if texts and line == texts[-1][0] + texts[-1][1].count("\n") + 1:
            texts[-1] = (texts[-1][0], f"{texts[-1][1]}\n{text}")
        else:
            texts.append((line, text))
    return texts


def hash_comments(source: str) -> list[tuple[int, str]]:
    """Return the comments of a config, a recipe or the Makefile, but not commands in them."""
    lines = [
        (number, found[1])
        for number, line in enumerate(source.splitlines(), 1)
        if (found := re.search(r"(?:^|\s)#+ (\S.*)$", line))
    ]
    return joined(lines)


SPLITTERS: Mapping[str, Callable[[str], Parts]] = {".py": python_parts, ".rs": rust_parts}


def is_sentence(text: str) -> bool:
    """Whether a literal is prose: three words or more, and hardly anything else."""
    plain = re.sub(r"\{[^}]*\}", " X ", text)
    words = WORD.findall(plain)
    letters = sum(map(len, words))
    return (
        len(words) >= 3
        and letters > 0.55 * len(re.sub(r"\s", "", plain))
        and not re.search(r"[\\^]|\{%", text)
    )
