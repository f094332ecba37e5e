"""Record the terminal output that the README shows, by running its commands on the bundled rows.

    # update the output blocks of README.md and the picture docs/quickstart.svg
    python scripts/record_terminal.py

Commands run in a temporary directory, in a terminal of fixed width, so every run gives the same
text. `tests/house/test_readme.py` runs them again and compares.
"""

import argparse
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "quickstart.svg"
COLUMNS = 92
PROMPT = "$ "

MARK = "<!-- run by tests/house/test_readme.py -->"
BLOCK = re.compile(rf"({re.escape(MARK)}\n```(\w+)\n)(.*?)(```)", re.DOTALL)

SCENES = (
    "zephyr-fast prep ultrachat --input sample --seq-len 512 --out shards/",
    "zephyr-fast verify shards/",
    "printf X | dd of=shards/train-00000.arrow bs=1 seek=100000 conv=notrunc status=none",
    "zephyr-fast verify shards/",
)
"""The commands of the picture. The third one overwrites one byte, which the fourth one finds."""

SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" \
xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""rich's own layout with local fonts only: its default format loads them from the network."""


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with tempfile.TemporaryDirectory() as directory:
        PICTURE.write_text(drawn(recorded(SCENES, Path(directory))), encoding="utf-8")
    with tempfile.TemporaryDirectory() as directory:
        README.write_text(renewed(README.read_text(encoding="utf-8"), Path(directory)), "utf-8")


def renewed(readme: str, directory: Path) -> str:
    """Return the README with the output of its `console` and `python` blocks recorded again.

    Blocks run in their order, all in `directory`. `sh` blocks, which train, are left out.
    """
    printed = ""

    def renew(found: re.Match[str]) -> str:
        nonlocal printed
        head, language, text, tail = found.groups()
        if language == "console":
            text = transcript(recorded(commands_of(text), directory))
        elif language == "python":
            printed = plain(run_in_terminal([sys.executable, "-c", text], directory))
        elif language == "text":
            text = printed
        return head + text + tail

    return BLOCK.sub(renew, readme)


def commands_of(console: str) -> list[str]:
    """Return the commands of a `console` block: the lines that start with a prompt."""
    return [line[len(PROMPT) :] for line in console.splitlines() if line.startswith(PROMPT)]


def recorded(commands: Iterable[str], directory: Path) -> list[tuple[str, str]]:
    """Run shell commands in a directory and return each with its output, ANSI codes included."""
    return [(command, run_in_terminal(["bash", "-c", command], directory)) for command in commands]


def transcript(records: Iterable[tuple[str, str]]) -> str:
    """Return the text of a `console` block: prompts, commands and plain output."""
    return "".join(f"{PROMPT}{command}\n{plain(output)}" for command, output in records)


def plain(output: str) -> str:
    """Return the output without ANSI codes and trailing blanks."""
    lines = Text.from_ansi(output).plain.splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def drawn(records: Iterable[tuple[str, str]]) -> str:
    """Return a picture of commands and their output as SVG."""
    console = Console(
        record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    for command, output in records:
        console.print(Text.assemble((PROMPT, "bold green"), (command, "bold")))
        if output:
            console.print(Text.from_ansi(output), highlight=False)
    return console.export_svg(title="zephyr-fast", code_format=SVG, unique_id="terminal")


def run_in_terminal(command: list[str], directory: Path) -> str:
    """Run a command with a terminal of COLUMNS columns as its stdout and return its output.

    What it wrote to stderr, a pipe, comes last. The exit code is not checked: `verify` fails
    on purpose.
    """
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    terminal = {"COLUMNS": str(COLUMNS), "LINES": "60", "TERM": "xterm-256color"}
    environment = os.environ | terminal | {"PATH": here, "HF_HUB_OFFLINE": "1"}
    reading, writing = pty.openpty()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=errors,
        )
        os.close(writing)
        output = read_all(reading)
        process.wait()
        errors.seek(0)
        output += errors.read()
    return output.decode("utf-8").replace("\r\n", "\n")


def read_all(terminal: int) -> bytes:
    """Read from a terminal until its other end is closed, which Linux reports as EIO."""
    output = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:
            part = b""
        if not part:
            os.close(terminal)
            return output
        output += part


if __name__ == "__main__":
    main()
