"""Draws the import graph of Python or Rust sources, which file uses which names of which file;
and finds the texts in Rust.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple


class Arrow(NamedTuple):
    """`file` uses `names` of `target`; both are paths relative to the tree's root."""

    file: str
    names: tuple[str, ...]
    target: str


def python_arrows(root: Path, package: str) -> list[Arrow]:
    """The imports of a package's files from one another, wherever they stand.

    Imports within functions and under TYPE_CHECKING count, and so does a text that is nothing but
    the name of a module, because it is there to be imported.
    """
    files = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py*")
        if path.suffix in (".py", ".pyi")
    }
    return [arrow for file in sorted(files) for arrow in _python_arrows(root, package, file, files)]


def _python_arrows(root: Path, package: str, file: str, files: set[str]) -> Iterator[Arrow]:
    for node in ast.walk(ast.parse((root / file).read_text(encoding="utf-8"))):
        for module, name in _imported(node, package, file):
            target = module and _python_file(module, package, files)
            if name and (within := _python_file(f"{module}.{name}", package, files)):
                target = within
            if target and target != file:
                yield Arrow(file, (name or module,), target)


def _imported(node: ast.AST, package: str, file: str) -> Iterator[tuple[str, str | None]]:
    """The (module, name) pairs that a node imports; the name is None for a whole module."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, None) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        around = [package, *Path(file).parts][: -node.level or None] if node.level else []
        module = ".".join([*around, *([node.module] if node.module else [])])
        yield from ((module, alias.name) for alias in node.names)
    elif isinstance(node, ast.Constant) and re.fullmatch(rf"{package}(\.\w+)+", str(node.value)):
        yield str(node.value), None


def _python_file(module: str, package: str, files: set[str]) -> str | None:
    """The file that `module` is loaded from, if it is one of the package's."""
    first, *rest = module.split(".")
    if first != package:
        return None
    path = "/".join(rest)
    inside = f"{path}/__init__.py" if path else "__init__.py"
    return next((file for file in (inside, f"{path}.py", f"{path}.pyi") if file in files), None)


def rust_arrows(root: Path) -> list[Arrow]:
    """The paths of a crate's files into one another: `use crate::…`, `crate::…` in code, `super`.

    Unit tests are left out: they may set the scene with whatever is there.
    """
    modules = {
        _rust_module(path.relative_to(root)): path.relative_to(root).as_posix()
        for path in root.rglob("*.rs")
    }
    found = []
    for module, file in sorted(modules.items(), key=lambda pair: pair[1]):
        if module[-1:] == ("tests",):
            continue
        for path in _rust_paths((root / file).read_text(encoding="utf-8"), module):
            depth = next(depth for depth in range(len(path), -1, -1) if path[:depth] in modules)
            name, target = "::".join(path[depth:]) or "::".join(path) or "*", modules[path[:depth]]
            if target != file:
                found.append(Arrow(file, (name,), target))
    return found


def _rust_module(path: Path) -> tuple[str, ...]:
    """`a/b.rs` and `a/b/mod.rs` are module `a::b`; `lib.rs` is the crate itself."""
    parts = path.with_suffix("").parts
    return parts[:-1] if parts[-1] in ("mod", "lib") else parts


_NOT_CODE = re.compile(
    r"""//[^\n]* | /\*.*?\*/                        # comments
      | \bb?r(\#*)".*?"\1 | "(?:\\.|[^"\\])*"       # texts
      | '(?:\\u\{\w+\}|\\.|[^'\\])'                 # characters, but no lifetimes""",
    re.VERBOSE | re.DOTALL,
)


def rust_texts(source: str) -> list[str]:
    """The string literals of a Rust file, without those of its comments and its unit tests."""
    texts: list[str] = []

    def kept(found: re.Match[str]) -> str:
        if found[0].startswith(("//", "/*", "'")):
            return " "
        texts.append(found[0][found[0].index('"') + 1 : found[0].rindex('"')])
        return f" \0{len(texts) - 1}\0 "

    code = _without_tests(_NOT_CODE.sub(kept, source))
    return [texts[int(number)] for number in re.findall(r"\0(\d+)\0", code)]


def _rust_paths(text: str, module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """All paths from the crate's root that a file names, where it stands for `module`."""
    code = _without_tests(_NOT_CODE.sub(" ", text))
    code = re.sub(r"\bpub\s*\(\s*in\s[^)]*\)", "pub", code)  # says who may look, uses nothing
    trees = re.findall(r"\buse\s+((?:crate|super)\s*::[^;]+);", code)
    trees += re.findall(r"\b(?:crate|super)(?:\s*::\s*\w+)+", re.sub(r"\buse\s[^;]+;", "", code))
    for path in (path for tree in trees for path in _branches(tree)):
        ups = len(list(takewhile(lambda part: part == "super", path)))
        within = module[: len(module) - ups] if ups else ()
        rest = path[ups or 1 :]  # without `crate`, or each `super`
        yield (*within, *(part for part in rest if part not in ("self", "*")))


def _branches(tree: str) -> list[tuple[str, ...]]:
    """`a::{b, c::{D as E, F}}` as the paths (a, b), (a, c, D) and (a, c, F)."""
    head, brace, rest = tree.partition("{")
    stem = tuple(
        part.strip() for part in re.sub(r"\bas\s+\w+", "", head).split("::") if part.strip()
    )
    if not brace:
        return [stem]
    return [
        (*stem, *path) for branch in _split(rest[: rest.rindex("}")]) for path in _branches(branch)
    ]


def _split(text: str) -> list[str]:
    """Parts between the commas that stand in no inner braces."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def _without_tests(code: str) -> str:
    """The code without the items marked `#[cfg(test)]`, up to their semicolon or closing brace."""
    while found := re.search(r"#\[cfg\(test\)\]", code):
        end, depth = found.end(), 0
        while end < len(code):
            letter, end = code[end], end + 1
            depth += (letter in "{[(") - (letter in "}])")
            if depth == 0 and letter in ";}":
                break
        code = code[: found.start()] + code[end:]
    return code


def gathered(arrows: Sequence[Arrow]) -> list[Arrow]:
    """One arrow for each pair of files, with all the names that tie them."""
    names: dict[tuple[str, str], list[str]] = {}
    for arrow in arrows:
        names.setdefault((arrow.file, arrow.target), []).extend(arrow.names)
    return [
        Arrow(file, tuple(dict.fromkeys(found)), target) for (file, target), found in names.items()
    ]
