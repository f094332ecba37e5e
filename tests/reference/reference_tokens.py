"""Text and tokens as `transformers` and HF `tokenizers` make them, and labels by looking at
every character.
"""

import json
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

Messages = list[dict[str, str]]


class Tokens:
    """A tokenizer's folder, read with nothing of ours."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.inner = Tokenizer.from_file(str(folder / "tokenizer.json"))
        named = {name: config[name] for name in ("bos_token", "eos_token", "unk_token")}
        self.outer = PreTrainedTokenizerFast(
            tokenizer_object=self.inner, chat_template=config["chat_template"], **named
        )
        self.eos: str = config["eos_token"]
        self.special = sorted(
            token.content
            for token in self.inner.get_added_tokens_decoder().values()
            if token.special
        )

    def render(self, messages: Messages, *, ask: bool = False) -> str:
        text = self.outer.apply_chat_template(messages, tokenize=False, add_generation_prompt=ask)
        assert isinstance(text, str)
        return text

    def ids(self, text: str) -> list[int]:
        """BOS in front, exactly once."""
        ids: list[int] = self.inner.encode(text).ids
        bos = self.outer.bos_token_id
        assert ids[0] == bos and ids[1:2] != [bos]
        return ids

    def sample(self, messages: Messages) -> tuple[list[int], list[int]]:
        """Ids, and labels: every token that holds a character of an assistant's text or of the
        EOS behind it.
        """
        text = self.render(messages)
        is_trained = [False] * len(text)
        for place, message in enumerate(messages):
            if message["role"] == "assistant" and message.get("trained", True):
                until = self.render(messages[: place + 1])
                said = message["content"] + self.eos
                assert until == text[: len(until)] and until.endswith(said + "\n")
                end = len(until) - 1
                is_trained[end - len(said) : end] = [True] * len(said)
        coded = self.inner.encode(text)
        assert coded.ids[0] == self.outer.bos_token_id
        labels = [
            id if any(is_trained[start:end]) else -100
            for id, (start, end) in zip(coded.ids, coded.offsets, strict=True)
        ]
        return coded.ids, labels

    def cut_sample(self, messages: Messages, seq_len: int) -> tuple[list[int], list[int], int]:
        """The sample, ended behind the last assistant turn that fits, else by token; and how
        many tokens that lost.
        """
        ids, labels = self.sample(messages)
        if len(ids) <= seq_len:
            return ids, labels, 0
        for end in range(len(messages) - 1, 0, -1):
            if messages[end - 1]["role"] == "assistant":
                shorter = self.sample(messages[:end])
                if len(shorter[0]) <= seq_len:
                    return *shorter, len(ids) - len(shorter[0])
        return ids[:seq_len], labels[:seq_len], len(ids) - seq_len

    def pair(
        self, context: Messages, chosen: str, rejected: str, max_length: int
    ) -> tuple[dict[str, list[int]], int] | str:
        """The ids of a pair, answers cut at the end, and how many tokens that lost; or the
        reason why there are none.
        """
        prompt = self.ids(self.render(context, ask=True))
        if len(prompt) >= max_length:
            return "prompt_too_long"
        row, lost = {"prompt_ids": prompt}, 0
        for name, answer in (("chosen_ids", chosen), ("rejected_ids", rejected)):
            whole = self.ids(self.render([*context, {"role": "assistant", "content": answer}]))
            if whole[: len(prompt)] != prompt:
                return "prompt_not_prefix"
            row[name] = whole[len(prompt) : max_length]
            lost += max(0, len(whole) - max_length)
        return row, lost
