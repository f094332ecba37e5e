"""Compare the ids that transformers gives to texts with those that the shards were built with.

The ids of shards are those of `tokenizer.json`. transformers rebuilds some tokenizers from their
parts, and the result can give other ids. A model that is served with them gets prompts in a form
that it was not trained on, and nothing fails.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL_MAX = 16
"""Maximum number of special tokens that are tried. Some tokenizers have hundreds."""

AROUND = ("Hi{}\nHi", "Hi{} a", "{}Hi", "{}\n{}", "Hi {} \n")
"""Texts with a special token, as templates write it between messages."""

PLAIN = ("Hello, world!", " Hello", "a  b\n\n\tc", "1234567", "Grüße, 日本 👩‍👧", "it's I'm")

KINDS = (
    "2 ½ cups", "x² y ² H₂O", "① ② a③b Ⅷ", "٣ ٤ a٣b", "१ २ क३ख", "５ ６ a７b", "𝟙 𝟚 三",
    "¿Qué? — “so” … «a»", "$5 €6 7% #8 a_b=c[0];//", "🙂 a🙂b ❤️ 🇩🇪", "مرحبا، שלום؟",
    "e\u0301 \u0301a कि กี่ 각", "a\u00a0b\u2003c\u200bd\u3000e", "a\r\n \tb", "don’t DON'T",
    "aB ǅ ß İ ﬁ Å",
)  # fmt: skip
"""Kinds of characters that the parts of a tokenizer treat apart, at the start of a word and inside:
numbers of other scripts (transformers drops the step `Digits` of some files), punctuation, emoji,
right-to-left and combining characters, spaces, letters with two cases or several forms.
"""


def differs_from_file(tokenizer: "PreTrainedTokenizerBase", content: bytes) -> str | None:
    """Return an example of a text to which a tokenizer gives other ids than a `tokenizer.json`.

    None if all texts that are tried get the same ids.
    """
    from tokenizers import Tokenizer

    exact = Tokenizer.from_buffer(content)
    exact.no_truncation()
    exact.no_padding()
    return _difference(
        tokenizer,
        _encoder(tokenizer),
        lambda text: list(exact.encode(text, None, False, False).ids),
    )


def differs(tokenizer: "PreTrainedTokenizerBase", shards: "PreTrainedTokenizerBase") -> str | None:
    """Return an example of a text to which a tokenizer gives other ids than that of the shards.

    None if all texts that are tried get the same ids.
    """
    return _difference(shards, _encoder(tokenizer), _encoder(shards))


def _difference(
    tokenizer: "PreTrainedTokenizerBase",
    given: Callable[[str], list[int]],
    expected: Callable[[str], list[int]],
) -> str | None:
    for text in _texts(tokenizer):
        ids, other = expected(text), given(text)
        if ids != other:
            return f"{text!r} gets {other} instead of {ids}"
    return None


def _texts(tokenizer: "PreTrainedTokenizerBase") -> Iterator[str]:
    given = [tokenizer.eos_token, tokenizer.bos_token, *tokenizer.all_special_tokens]
    special = [token for token in dict.fromkeys(given) if token]
    yield from (text.replace("{}", token) for token in special[:SPECIAL_MAX] for text in AROUND)
    yield from (*PLAIN, *KINDS)


def _encoder(tokenizer: "PreTrainedTokenizerBase") -> Callable[[str], list[int]]:
    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    return ids
