"""Trains the small tokenizer that ships with the sample rows. The same rows give the same two
files, byte for byte.

    python scripts/train_sample_tokenizer.py

Byte-level BPE with a vocabulary of 2,048. Ids 0, 1, 2 are `<unk>`, `<s>`, `</s>`, as Mistral
numbers them. Role markers such as `<|user|>` are plain text, as in Zephyr: BPE learns their
pieces, because it reads the rows as the template writes them.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

PACKAGE = Path(__file__).parents[1] / "python" / "zephyr_fast"
SAMPLE = PACKAGE / "sample"
VOCABULARY = 2048
# The context of the tiny model's training windows.
TOKENS_MAX = 512
UNKNOWN, BEGIN, END = SPECIALS = ("<unk>", "<s>", "</s>")


def main() -> None:
    tokenizer = untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        # Every byte has a token, so no text is unknown.
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[
            AddedToken(special, special=True, normalized=False) for special in SPECIALS
        ],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(
            f"the sample rows give {tokenizer.get_vocab_size()} tokens, not {VOCABULARY}: they are "
            f"too few"
        )
    folder = SAMPLE / "tokenizer"
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.dumps(settings(), indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(config + "\n", encoding="utf-8")


def untrained() -> Tokenizer:
    """Byte-level BPE without merges, which puts `<s>` in front of a text and nothing behind it."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A",
        pair=f"{BEGIN} $A {BEGIN} $B",
        special_tokens=[(BEGIN, SPECIALS.index(BEGIN))],
    )
    return tokenizer


def settings() -> dict[str, object]:
    """What transformers reads beside `tokenizer.json`: the special tokens by their part, and the
    Zephyr template.
    """
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "unk_token": UNKNOWN,
        "pad_token": END,
        "model_max_length": TOKENS_MAX,
        "clean_up_tokenization_spaces": False,
        "chat_template": (PACKAGE / "templates" / "zephyr.jinja")
        .read_text(encoding="utf-8")
        .removesuffix("\n"),
    }


def texts() -> Iterator[str]:
    """Dialogues and answers of all readable sample rows, as the template writes them but without
    `</s>`.
    """
    for row in rows(SAMPLE / "ultrachat.jsonl"):
        if isinstance(row.get("data"), list):
            speakers = ("user", "assistant") * len(cast("list[str]", row["data"]))
            yield "".join(
                said(role, text)
                for role, text in zip(speakers, cast("list[str]", row["data"]), strict=False)
            )
    for row in rows(SAMPLE / "ultrafeedback.jsonl"):
        prompt = said("user", cast("str", row["instruction"]))
        for completion in cast("list[dict[str, str]]", row["completions"]):
            yield prompt + said("assistant", completion["response"])


def said(role: str, text: str) -> str:
    return f"<|{role}|>\n{text}\n"


def rows(file: Path) -> Iterator[dict[str, object]]:
    """The JSON objects among the lines. The sample holds a few lines that are none, on purpose."""
    # `splitlines` would also cut at the U+2028 that one row holds.
    for line in file.read_text(encoding="utf-8").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            yield row


if __name__ == "__main__":
    main()
