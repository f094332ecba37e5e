"""Chat templates: the engine's text must be, byte for byte, what transformers renders, or the template is refused by name."""

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from zephyr_fast import RecipeError, _core

trl = pytest.importorskip("trl")
chat = pytest.importorskip("transformers.utils.chat_template_utils")

PACKAGE = Path(_core.__file__).parent
SHARED = Path(__file__).parents[1] / ".." / "shared" / "data" / "tokenizers"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
SEED = 20_231_016
DIALOGUES = 100

Messages = list[dict[str, str]]

# What cannot be equal, and why. A template that leaves or joins this list is noticed here.
DATED = "it calls `strftime_now`"
REFUSED: dict[str, str] = {}

PIECES = [
    "", " ", "\n", "\n\n", "  lead", "trail \t\n", "word", "Two words.", "{{ braces }}", "{% if x %}", "{# note #}", "{'role': 'user'}",
    "Grüße", "日本語", "👩‍👩‍👧", "\u202emirrored\u202c", "e\u0301", "line\u2028separator", "a\r\nb", "\x1c\x1d\x1f", "\x85", "\xa0", "\u200b", "\ufeff",
    "<think>\nhm\n</think>\n\nyes", "</think>", "<think>", "<tool_response>x</tool_response>", "\\n \\u0041", '"quoted"', "'s", "a|b", "%s %d",
    "<|im_end|>", "[INST]", "ſtraße İ ΑΣ", "\x00\x07", "x" * 300,
]  # fmt: skip


def text(draw: random.Random) -> str:
    return "".join(draw.choice(PIECES) for _ in range(draw.choice([0, 1, 1, 2, 3, 5])))


def dialogue(draw: random.Random) -> Messages:
    """Well-formed most of the time, as templates want them; now and then anything goes."""
    roles = ["user", "assistant"] * draw.randint(1, 4)
    if draw.random() < 0.3:
        roles.insert(0, "system")
    if draw.random() < 0.2:
        roles.append("user")
    if draw.random() < 0.2:
        roles[draw.randrange(len(roles))] = draw.choice(["tool", "system", "user", "assistant", "ipython"])
    if draw.random() < 0.1:
        roles[-1:] = ["assistant", "tool", "tool", "assistant"]
    return [{"role": role, "content": text(draw)} for role in roles]


def templates() -> Iterator[tuple[str, str]]:
    yield "zephyr", (PACKAGE / "templates" / "zephyr.jinja").read_text()
    for path in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        yield path.stem, path.read_text(encoding="utf-8")
    for folder in sorted(SHARED.glob("*")) if SHARED.exists() else []:
        file, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
        if file.exists():
            yield f"hub:{folder.name}", file.read_text(encoding="utf-8")
        elif config.exists() and (found := json.loads(config.read_text()).get("chat_template")):
            yield f"hub:{folder.name}", found


TEMPLATES = dict(templates())


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample tokenizer with every special token named."""
    folder = tmp_path_factory.mktemp("tokenizer")
    shutil.copy(PACKAGE / "sample" / "tokenizer" / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(SPECIAL))
    return folder


def expected(template: str, messages: Messages, prompt: bool) -> tuple[str | None, list[tuple[int, int]]]:
    """What transformers renders, and its generation ranges; None where it refuses."""
    try:
        texts, ranges = chat.render_jinja_template(
            [messages], chat_template=template, return_assistant_tokens_mask=True, add_generation_prompt=prompt, **SPECIAL
        )
    except Exception:
        return None, []
    return texts[0], ranges[0]


def engine(tokenizer: Path, folder: Path, name: str, template: str, dialogues: list[Messages], prompt: bool) -> list[dict]:
    file = folder / f"{re.sub('[^a-z0-9_.-]', '_', name)}.jinja"
    file.write_bytes(template.encode())
    return json.loads(_core.render(tokenizer, str(file), json.dumps(dialogues), prompt))


@pytest.mark.parametrize("prompt", [False, True], ids=["whole", "prompt"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_text_is_what_transformers_renders(name: str, prompt: bool, tokenizer: Path, tmp_path: Path) -> None:
    template = TEMPLATES[name]
    draw = random.Random(f"{SEED} {name}")
    dialogues = [dialogue(draw) for _ in range(DIALOGUES)]
    print(f"seed: {SEED} {name}")
    if name in REFUSED:
        with pytest.raises(RecipeError, match=re.escape(REFUSED[name])):
            engine(tokenizer, tmp_path, name, template, dialogues, prompt)
        return
    for messages, got in zip(dialogues, engine(tokenizer, tmp_path, name, template, dialogues, prompt), strict=True):
        text, _ = expected(template, messages, prompt)
        if got.get("reason") == "mask":
            continue
        assert got.get("text") == text, (messages, got)
