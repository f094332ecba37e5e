"""Chat with a saved model or adapter: its own chat template, and the tokens at which it stops."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, TextStreamer

from zephyr_fast._core import InputError
from zephyr_fast.printed import shown
from zephyr_fast.train.model import base_of_adapter
from zephyr_fast.train.trust import check_kernels, never_ask, refused, refused_model


@dataclass(frozen=True)
class Answer:
    """An answer. `is_ended` is False if the model did not stop before `tokens` were generated."""

    text: str
    tokens: int
    is_ended: bool


class Chat:
    """A dialogue with a model.

    Args:
        name: Directory or Hub id of a model, or of an adapter over its base model.
        system: System message, if any.
        tokens_max: Maximum tokens of an answer.
        temperature: Sampling temperature; with 0, the most likely token is always taken.
        seed: Seed of the sampling.

    Raises:
        InputError: If the model cannot be loaded or has no chat template.
    """

    def __init__(
        self,
        name: str,
        *,
        system: str | None = None,
        tokens_max: int = 512,
        temperature: float = 0.7,
        seed: int = 0,
    ) -> None:
        self._tokenizer, self._model = load(name)
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self._messages = list(self._system)
        self._tokens_max = tokens_max
        self._sampling: dict[str, Any] = {"do_sample": temperature > 0}
        if temperature > 0:
            self._sampling["temperature"] = temperature
        torch.manual_seed(seed)

    def forget(self) -> None:
        """Start a new dialogue."""
        self._messages = list(self._system)

    def answer(self, text: str, write: Callable[[str], None]) -> Answer:
        """Return the model's answer to a user message.

        Args:
            text: The message. It and the answer become part of the dialogue.
            write: Called with each new part of the answer.

        Raises:
            InputError: If the dialogue is too long for the model, or the template rejects it.
        """
        messages = [*self._messages, {"role": "user", "content": text}]
        with refused("the chat template"):
            ids = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )["input_ids"].to(self._model.device)
        with torch.inference_mode():
            output = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self._room(ids.shape[1]),
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
                streamer=_Streamer(self._tokenizer, write),
                **self._sampling,
            )[0, ids.shape[1] :].tolist()
        found = self._tokenizer.decode(output, skip_special_tokens=True).strip()
        self._messages = [*messages, {"role": "assistant", "content": found}]
        ends = self._model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return Answer(found, len(output), output[-1] in ends)

    def _room(self, prompt: int) -> int:
        """Return the tokens that an answer may have."""
        positions = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if not isinstance(positions, int):
            return self._tokens_max
        if prompt >= positions:
            raise InputError(
                f"the dialogue has {prompt:,} tokens, but the model supports only {positions:,}"
            )
        return min(self._tokens_max, positions - prompt)


class _Streamer(TextStreamer):  # type: ignore[misc]  # transformers is untyped
    """Passes on the text of the answer, word by word."""

    def __init__(self, tokenizer: Any, write: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._write = write

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self._write(text)


def load(name: str) -> tuple[Any, Any]:
    """Load the tokenizer and the model, or the adapter over its base model, on a GPU if any.

    Raises:
        InputError: If they cannot be loaded, or the tokenizer has no chat template.
    """
    is_adapter = base_of_adapter(name) is not None
    never_ask()
    with refused(f"the tokenizer of `{shown(name)}`"):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if not tokenizer.chat_template:
        raise InputError(
            f"the tokenizer of `{shown(name)}` has no chat template; add a "
            "`chat_template.jinja` to the directory"
        )
    with refused_model(f"the model `{shown(name)}`"):
        model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=False)
    check_kernels(model.config, name)
    if is_adapter:  # transformers takes the generation config of the base model
        with refused(f"the generation config of `{shown(name)}`"):
            model.generation_config = GenerationConfig.from_pretrained(name)
    return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
