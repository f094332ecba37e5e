"""Names, texts and values of others on their way to a terminal: shown, never sent; bounded;
without credentials; in any encoding.
"""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from shell import SAMPLE, command, refusal, shell
from zephyr_fast.printed import CHARACTERS_MAX, brief, shown, without_secrets

HOSTILE_NAMES = [
    "a[/x]b",
    "out[v1]",
    "[link=file:///etc]x[/link]",
    "[bold]",
    "[/b]",
    ":smile:",
    "a\x1b]0;pwned\x07b",
    "a\x1b[2Jb",
    "a\u202eb",
    "a\u2066b",
    "a\x9bb",
    "a\nb",
    "a\rb",
    "a\u2028b",
    "日本",
]


def is_shown(text: str) -> bool:
    """Whether a terminal would print every character as itself."""
    return all(char == "\n" or char.isprintable() for char in text)


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_a_folder_is_named_as_it_is_and_sends_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir(parents=True)
    for out in (tmp_path / name / "d", tmp_path / name / "d"):  # made, then found up to date
        done = shell("prep", *SAMPLE, "--out", out, COLUMNS="1000")
        assert done.returncode == 0, done.stderr
        assert f"{shown(tmp_path / name)}/d/: manifest.json" in done.stdout
        assert is_shown(done.stdout) and is_shown(done.stderr)
    assert shown(out) in done.stderr and shown(out) in shell("verify", out).stdout


@pytest.mark.parametrize("name", [name for name in HOSTILE_NAMES if "=" not in name], ids=ascii)
def test_an_evaluation_set_is_named_as_it_is_and_is_no_markup(name: str, tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text(
        json.dumps({"q": "What is the colour of a whale that nobody has ever seen?"}) + "\n"
    )
    done = shell(
        "prep",
        *SAMPLE,
        "--out",
        tmp_path / "out",
        "--decontaminate",
        f"{name}={tmp_path}/e.jsonl:q",
        COLUMNS="1000",
    )
    assert done.returncode == 0, done.stderr
    assert f"{shown(name)}: 0 of 1 instances" in done.stdout and is_shown(done.stdout)
    card = (tmp_path / "out" / "README.md").read_text()
    assert is_shown(card) and ":smile:" not in card.replace("`:smile:`", "")
    rows = [line for line in card.splitlines() if line.endswith("| 1 | 0 | 0.0 % | 0 | 0 |")]
    assert len(rows) == 1 and rows[0].count("|") == 7


def test_markup_in_names_stays_out_of_the_card(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text(
        json.dumps({"q": "What is the colour of a whale that nobody has ever seen?"}) + "\n"
    )
    hostile = "a|b\n# <script>alert(1)</script>\n![x](http://evil/p.png)\n---\nconfigs: 1"
    (tmp_path / hostile.replace("/", "")).write_text("seed = 3\n")
    words = ("--decontaminate", f"{hostile}={tmp_path}/e.jsonl:q", "--out", tmp_path / "out")
    done = subprocess.run(
        command("prep", hostile.replace("/", ""), *SAMPLE, *words)[0],
        cwd=tmp_path,
        env=command()[1],
        check=False,
    )
    assert done.returncode == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "<script>" not in card and "![x]" not in card and card.count("\n---\n") == 1
    assert [line for line in card.splitlines() if line.startswith("#")] == [
        line for line in card.splitlines() if line.startswith("# `a")
    ]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_no_encoding_ends_a_run_that_is_done(encoding: str, tmp_path: Path) -> None:
    for name in ("日本", "é", b"\xff".decode("utf-8", "surrogateescape")):
        done = subprocess.run(
            command("prep", *SAMPLE, "--out", tmp_path / name)[0],
            env=command(PYTHONIOENCODING=encoding)[1],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        done = subprocess.run(
            command("verify", tmp_path / name / "no")[0],
            env=command(PYTHONIOENCODING=encoding)[1],
            capture_output=True,
            check=False,
        )
        assert (
            done.returncode == 4
            and done.stderr.startswith(b"error: ")
            and done.stderr.count(b"\n") == 1
        )
    words = (
        "--decontaminate",
        f"日\U0001f600={tmp_path}/e.jsonl:q",
        "--out",
        tmp_path / "j",
        "--json",
    )
    (tmp_path / "e.jsonl").write_text(
        '{"q": "What is the colour of a whale that nobody has ever seen?"}\n'
    )
    done = subprocess.run(
        command("prep", *SAMPLE, *words)[0],
        env=command(PYTHONIOENCODING=encoding)[1],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (
        json.loads(done.stdout.decode(encoding))["decontamination"]["sets"][0]["name"]
        == "日\U0001f600"
    )


def test_json_on_a_terminal_sends_nothing_and_is_still_json(tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text(
        '{"q": "What is the colour of a whale that nobody has ever seen?"}\n'
    )
    line, environment = command(
        "prep",
        *SAMPLE,
        "--out",
        tmp_path / "out",
        "--decontaminate",
        f"a\x9b\x7f\u202eb={tmp_path}/e.jsonl:q",
        "--json",
    )
    main, terminal = pty.openpty()
    running = subprocess.Popen(line, env=environment, stdout=terminal, stderr=subprocess.DEVNULL)
    os.close(terminal)
    printed = b""
    while True:
        try:
            part = os.read(main, 1 << 16)
        except OSError:  # its other end is closed
            break
        if not part:
            break
        printed += part
    os.close(main)
    assert running.wait() == 0
    text = printed.decode().replace("\r\n", "\n")
    assert is_shown(text)
    assert json.loads(text)["decontamination"]["sets"][0]["name"] == "a\x9b\x7f\u202eb"


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ('"\\u001b]0;pwned\\u0007"', 4),
        ('"\\u202e\\u009b31m\\u2028x"', 4),
        ('{"a": "' + "0" * 1_000_000 + '"}', 4),
    ],
    ids=["escape", "bidi", "long"],
)
def test_a_manifest_sends_nothing_to_the_terminal(schema: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(f'{{"schema": {schema}}}')
    told = refusal(code, "estimate", tmp_path, "--config", "tiny-sft")
    assert is_shown(told) and len(told) < CHARACTERS_MAX + 20
    done = shell("verify", tmp_path)
    assert is_shown(done.stderr) and 1 < len(done.stderr) < CHARACTERS_MAX + 20


@pytest.mark.parametrize(
    "words",
    [
        ("prep", "--max-memory", "\x1b]0;pwned\x07", "--out", "x"),
        ("prep", "--\x1b[2J"),
        ("\x1b[2J",),
        ("estimate", "x", "--config", "y", "--gpus", "\x9b1m"),
        ("prep", *SAMPLE, "--out", "x", "--set", "\x1b[2J=1"),
        ("prep", *SAMPLE, "--out", "x", "--set", "\x1b[2J"),
        ("prep", *SAMPLE, "--out", "x", "--decontaminate", "\x1b[2J"),
        ("prep", "\x1b[2J", *SAMPLE, "--out", "x"),
        ("prep", "--input", "\x1b[2J", "--out", "x"),
        ("prep", *SAMPLE, "--tokenizer", "\x1b[2J", "--out", "x"),
        ("estimate", "\x1b[2J", "--config", "\x1b[2J"),
        ("verify", "\x1b[2J"),
    ],
    ids=ascii,
)
def test_what_is_typed_comes_back_escaped(words: tuple[str, ...], tmp_path: Path) -> None:
    line, environment = command(*words)
    done = subprocess.run(
        line, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode in (2, 4) and "rror: " in done.stderr
    assert is_shown(done.stderr + done.stdout) and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot read https://user:s3cr3tpass@host/a/b: no", "cannot read https://host/a/b: no"),
        ("`https://user@host/a?X-Amz-Signature=abc#x`", "`https://host/a`"),
        ("s3://AKIA:se/cr/et@bucket/key", "s3://bucket/key"),
        ("http://127.0.0.1:8080/a@main/b", "http://127.0.0.1:8080/a@main/b"),
        ("http://[::1]:80/a?token=x", "http://[::1]:80/a"),
        ("hf://datasets/a/b@main/c", "hf://datasets/a/b@main/c"),
        (
            "HTTP/1.1 401: Authorization: Bearer abcdefghijk",
            "HTTP/1.1 401: Authorization: Bearer …",
        ),
        ("token hf_abcdefghijklmnop is wrong", "token hf_… is wrong"),
        ("password='hunter2hunter2'", "password='…'"),
        ("no token somewhere in there", "no token somewhere in there"),
    ],
)
def test_no_credential_is_printed(text: str, told: str) -> None:
    assert without_secrets(text) == told


def test_a_url_with_credentials_is_cut_wherever_it_is_typed(tmp_path: Path) -> None:
    url = "https://user:s3cr3tpass@127.0.0.1:9/x?sig=s3cr3tsig"
    for words in (
        ("prep", "--input", url, "--out", tmp_path / "o"),
        ("prep", *SAMPLE, "--tokenizer", url, "--out", tmp_path / "o"),
        ("prep", url, *SAMPLE, "--out", tmp_path / "o"),
        ("estimate", url, "--config", "tiny-sft"),
        ("estimate", tmp_path, "--config", url),
        ("verify", url),
    ):
        done = shell(*words)
        assert done.returncode in (2, 4) and "s3cr3t" not in done.stderr + done.stdout


def test_a_line_is_bounded_and_keeps_its_end() -> None:
    line = shown("a" * 10_000_000 + "; type it again")
    assert len(line) <= CHARACTERS_MAX + 3 and line.endswith("; type it again")
    assert len(shown("\U000e0001" * 10_000_000)) < 11 * CHARACTERS_MAX
    assert brief(10**5_000) == "a value of type int" and len(brief(["x" * 10**6])) < 100


def test_a_closed_stdout_and_a_command_without_words_end_without_a_traceback(
    tmp_path: Path,
) -> None:
    line, environment = command("prep", *SAMPLE, "--out", tmp_path / "out")
    for words in ([], ["--json"]):
        closed = subprocess.run(
            ["sh", "-c", 'exec "$@" >&-', "sh", *line, *words],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert closed.returncode == 0 and "Traceback" not in closed.stderr
    done = shell()
    assert done.returncode in (0, 2) and "\n  binarize " in done.stderr + done.stdout
