"""Train the small tokenizer bundled with the sample rows. The same rows produce the same two files.

    python scripts/train_sample_tokenizer.py

The tokenizer is byte-level BPE with a vocabulary of 2,048. Ids 0, 1, 2 are `<unk>`, `<s>`,
`</s>`, as in Mistral. Role markers such as `<|user|>` are plain text, as in Zephyr. BPE learns
their pieces, because it reads the rendered rows.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

PACKAGE = Path(__file__).parents[1] / "python" / "zephyr_fast"
SAMPLE = PACKAGE / "sample"
VOCABULARY = 2048
# The context length of the tiny model.
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
            f"the sample rows produce {tokenizer.get_vocab_size()} tokens instead of "
            f"{VOCABULARY}; add more rows"
        )
    folder = SAMPLE / "tokenizer"
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = json.dumps(settings(), indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(config + "\n", encoding="utf-8")


def untrained() -> Tokenizer:
    """Return byte-level BPE without merges that puts `<s>` before a text and no token after it."""
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
    """Return the content of `tokenizer_config.json`: special tokens and the Zephyr template."""
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
    """Yield the rendered dialogues and completions of all readable rows, without `</s>`."""
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
    """Yield the lines that are JSON objects. A few lines of the sample are invalid on purpose."""
    # `splitlines` would also split at U+2028, which one row contains.
    for line in file.read_text(encoding="utf-8").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            yield row


if __name__ == "__main__":
    main()
