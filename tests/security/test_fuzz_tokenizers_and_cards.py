"""Tokenizers put together at random from hostile parts, and data cards of hostile names, for as
long as `ZEPHYR_FAST_FUZZ_SECONDS` says.

Each ends in a typed error, in ids or in a row that is set aside; no process dies. A card keeps
its front matter and its tables. `ZEPHYR_FAST_SEED` replays a printed seed.
"""

import json
import os
import random
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from children import PYTHONPATH
from scrambled import place
from zephyr_fast import InternalError, ZephyrError, _core

SECONDS = float(os.environ.get("ZEPHYR_FAST_FUZZ_SECONDS", "2"))
SEED = int(os.environ.get("ZEPHYR_FAST_SEED", random.randrange(10**6)))
CASES_MIN = 40
MEMORY_BYTES = 4 << 30
SAMPLE = Path(_core.__file__).parent / "sample" / "tokenizer"
TEXTS = [
    "",
    "a",
    "word " * 30,
    "aaaaaaaaaaaaaaaa b",
    "x" * 3_000,
    "日本語 é e\u0301 \u2581 👩‍👩‍👧",
    "1+1=2\n\n\t</s> <s>",
    "\0\x1b[2J\u202e",
]
PATTERNS = [
    "a",
    "",
    " ",
    ".",
    ".*",
    "(a|a)*$",
    "(x+x+)+y",
    r"\s+(?!\S)|\s+",
    r"\p{L}+",
    r"(?<=a)b",
    r".*.*.*§|.",
    r"\G",
    "^",
    "$",
    "x*",
]
BROKEN_PATTERNS = ["(", "[", "a{1000}{1000}", "\\"]
CONTENTS = ["", "a", "▁", "aa", "a" * 1_000, "y" * 100_000, "\0", "日"]
BEHAVIORS = [
    "Removed",
    "Isolated",
    "MergedWithPrevious",
    "MergedWithNext",
    "Contiguous",
    "Nonsense",
]


def cases() -> Iterator[random.Random]:
    """One generator of chance per case, each from its own seed."""
    end, number = time.monotonic() + SECONDS, 0
    print(f"seed {SEED}")
    while time.monotonic() < end or number < CASES_MIN:
        yield random.Random(f"{SEED} {number}")
        number += 1
    print(f"{number} cases")


def pattern(chance: random.Random) -> dict[str, str]:
    return {
        chance.choice(["String", "Regex", "Regex"]): chance.choice(
            BROKEN_PATTERNS if chance.random() < 0.03 else PATTERNS
        )
    }


def normalizer(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.choice(
        [
            "Replace",
            "Replace",
            "Prepend",
            "Strip",
            "Sequence",
            "NFC",
            "NFKC",
            "NFD",
            "Lowercase",
            *["Precompiled"] * (chance.random() < 0.1),
            "Nothing",
        ]
    )
    parts = {
        "Replace": {"pattern": pattern(chance), "content": chance.choice(CONTENTS)},
        "Prepend": {"prepend": chance.choice(CONTENTS)},
        "Strip": {"strip_left": chance.random() < 0.5, "strip_right": True},
        "Precompiled": {
            "precompiled_charsmap": chance.choice(["", "AAAA", "BAAAAAAAAABhAA==", "/////w=="])
        },
    }.get(kind, {})
    if kind == "Sequence":
        steps = chance.choice([0, 1, 2, 3, 9, 9, 70]) if depth < 2 else 0
        parts = {"normalizers": [normalizer(chance, depth + 1) for _ in range(steps)]}
    return None if kind == "Nothing" else {"type": kind} | parts


def pre_tokenizer(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.choice(
        [
            "Split",
            "Split",
            "Sequence",
            "ByteLevel",
            "Metaspace",
            "Whitespace",
            "Digits",
            "Punctuation",
            "Nothing",
        ]
    )
    parts = {
        "Split": {
            "pattern": pattern(chance),
            "behavior": chance.choice(BEHAVIORS[:-1] * 9 + BEHAVIORS),
            "invert": chance.random() < 0.3,
        },
        "ByteLevel": {
            "add_prefix_space": chance.random() < 0.5,
            "trim_offsets": True,
            "use_regex": chance.random() < 0.5,
        },
        "Metaspace": {
            "replacement": chance.choice(["▁", "x"]),
            "prepend_scheme": chance.choice(["always", "first", "never"]),
            "split": True,
        },
        "Digits": {"individual_digits": True},
        "Punctuation": {"behavior": chance.choice(BEHAVIORS[:-1])},
    }.get(kind, {})
    if kind == "Sequence":
        parts = {
            "pretokenizers": [
                pre_tokenizer(chance, depth + 1)
                for _ in range(chance.choice([0, 1, 2, 2, 3, 3, 70]) if depth < 2 else 0)
            ]
        }
    return None if kind == "Nothing" else {"type": kind} | parts


def model(chance: random.Random, given: Any) -> Any:
    words = {"[UNK]": 0, "a": 1, "##a": 2, "▁": 3, "x" * chance.choice([1, 900, 2_000]): 4}
    longest = chance.choice([1, 100, 10**9])
    return chance.choice(
        [
            *[given] * 20,
            {
                "type": "WordPiece",
                "unk_token": "[UNK]",
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": longest,
                "vocab": words,
            },
            {
                "type": "Unigram",
                "unk_id": chance.choice([0, 99, None]),
                "vocab": [[word, -1.0] for word in words],
                "byte_fallback": False,
            },
            {"type": "WordLevel", "unk_token": chance.choice(["[UNK]", "none"]), "vocab": words},
            {
                "type": "BPE",
                "vocab": words,
                "merges": chance.choice([[], [["a", "a"]], ["a ##a"], [[]]]),
            },
            {"type": "BPE", "vocab": {}, "merges": []},
        ]
    )


def scramble(value: Any, chance: random.Random) -> None:
    """Somewhere in it, something of another kind or size."""
    value, key = place(value, chance)
    value[key] = chance.choice(
        [0, -1, 2**31, 2**64, 1e308, "", "x" * 5_000, None, [], {}, [[]], True]
    )


# Cases that are always tried with each text: each end is reached on a slow machine, too.
FIRST: list[dict[str, Any]] = [
    {},
    {"normalizer": {"type": "Replace", "pattern": {"Regex": "(?=.)"}, "content": "y" * 100_000}},
    {"normalizer": {"type": "Replace", "pattern": {"Regex": "("}, "content": ""}},
    {
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": "(x+x+)+y"},
            "behavior": "Isolated",
            "invert": False,
        }
    },
]


def fuzz_tokenizers(folder: Path) -> None:
    # A process that takes more dies, and so the test fails.
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    given = json.loads((SAMPLE / "tokenizer.json").read_text())
    recipe = (
        '[truecase]\nenabled = false\n[template]\nname = "zephyr"\n'
        '[tokenize]\ncontrol_tokens = "allow"\n'
    )
    ends: Counter[str] = Counter()
    for number, chance in enumerate(cases()):
        made = given | {
            "normalizer": normalizer(chance),
            "pre_tokenizer": pre_tokenizer(chance),
            "model": model(chance, given["model"]),
        }
        if number < len(FIRST):
            made = given | FIRST[number]
        elif chance.random() < 0.1:
            made = json.loads(json.dumps(made))
            scramble(
                made[chance.choice(["model", "post_processor", "decoder", "added_tokens"])], chance
            )
        (folder / "tokenizer.json").write_text(json.dumps(made))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"bos_token": "<s>", "eos_token": "</s>"})
        )
        for text in TEXTS if number < len(FIRST) else chance.sample(TEXTS, 3):
            row = json.dumps(
                {
                    "messages": [
                        {"role": "user", "content": text},
                        {"role": "assistant", "content": text or "yes"},
                    ]
                }
            )
            try:
                said = json.loads(_core.explain("prep", (recipe, "fuzz", []), folder, row.encode()))
                ends[str(said.get("reason") or said["outcome"])] += 1
            except ZephyrError as error:
                ends[type(error).__name__] += 1
                assert not isinstance(error, InternalError), (
                    f"ZEPHYR_FAST_SEED={SEED}, case {number}: {error}"
                )
    print(dict(ends))
    assert ends["written"] and ends["tokenizer"] and ends["InputError"], ends


def test_hostile_tokenizers_end_in_ids_in_rows_set_aside_or_in_typed_errors(tmp_path: Path) -> None:
    around = os.environ | {
        "PYTHONPATH": PYTHONPATH,
        "ZEPHYR_FAST_SEED": str(SEED),
        "PYTHONFAULTHANDLER": "1",
    }
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)],
        capture_output=True,
        text=True,
        env=around,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, (
        f"ZEPHYR_FAST_SEED={SEED}: {done.stdout[-500:]} {done.stderr[-3000:]}"
    )


PIECES = [
    "a",
    "|",
    "\n",
    "\r\n",
    "# ",
    "---\n",
    "`",
    "``",
    "<script>",
    "![x](http://evil)",
    "*",
    "_",
    "\x1b[2J",
    "\u202e",
    "\u2028",
    ": ",
    "- ",
    "日",
    "\\",
    "]",
    "\0",
]


def test_a_name_never_breaks_the_data_card(tmp_path: Path) -> None:
    row = {
        "messages": [
            {"role": "user", "content": "Why is it so?"},
            {"role": "assistant", "content": "It just is."},
        ]
    }
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "set.jsonl").write_text(json.dumps({"q": "nothing of the kind"}) + "\n")
    plain = card(tmp_path, "plain", "plain")
    for number, chance in enumerate(cases()):
        names = ["".join(chance.choices(PIECES, k=chance.randint(1, 12))) for _ in range(2)]
        try:
            found = card(tmp_path, *names)
        except ZephyrError as error:
            assert not isinstance(error, InternalError), (
                f"ZEPHYR_FAST_SEED={SEED}, case {number}: {error}"
            )
            continue
        where = f"ZEPHYR_FAST_SEED={SEED}, case {number}: {names!r}\n{found}"
        assert yaml.safe_load(found.split("---\n")[1]) == yaml.safe_load(plain.split("---\n")[1]), (
            where
        )
        assert found.count("\n") == plain.count("\n"), where
        for line, expected in zip(found.split("\n"), plain.split("\n"), strict=True):
            outside = re.sub(r"`[^`]*`", "", line)
            assert line.replace("\n", "").isprintable() or line == "", where
            assert line.startswith("#") == expected.startswith("#"), where
            assert (
                line.count("|") == expected.count("|")
                and "<" not in outside
                and "](" not in outside
            ), where


def card(folder: Path, recipe_name: str, set_name: str) -> str:
    name, path = json.dumps(set_name), json.dumps(str(folder / "set.jsonl"))
    against = f'[{{name = {name}, path = {path}, field = "q"}}]'
    overrides = [("decontaminate.against", against)]
    _core.run(
        "prep",
        ("", recipe_name, overrides),
        [folder / "rows.jsonl"],
        SAMPLE,
        folder / "out",
        overwrite=True,
    )
    return (folder / "out" / "README.md").read_text(encoding="utf-8")


if __name__ == "__main__":
    fuzz_tokenizers(Path(sys.argv[1]))
