"""A model in a local directory as a source of replies, by transformers. Its calls are logged too,
so a rerun continues. The model's name has the digest of its weights: other weights are asked again.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from zephyr_fast._core import InputError
from zephyr_fast.endpoint.call import Call, Failure, Request
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.http import Lost
from zephyr_fast.endpoint.reader import Reply
from zephyr_fast.endpoint.reasons import Reason
from zephyr_fast.evaluate.asking import Answerer
from zephyr_fast.printed import shown
from zephyr_fast.train.chat import load
from zephyr_fast.train.ref_logprobs.weights import weights_digest
from zephyr_fast.train.trust import check_folder

_SECONDS_MAX = 10_000_000.0
NAME = "local-model"


class LocalModel:
    """Generates one reply at a time. Implements the client's `Source`."""

    def __init__(self, path: Path) -> None:
        """Load a model. Raises InputError, also for a tokenizer without a chat template."""
        check_folder(str(path))
        if not path.is_dir():
            raise InputError(f"`{shown(path)}` is not a directory")
        self._tokenizer, self._model = load(str(path))
        self._lock = asyncio.Lock()

    async def post(self, request: Request, endpoint: Endpoint, deadline: float) -> Reply:
        """Generate the reply to a request."""
        async with self._lock:
            return await asyncio.to_thread(self._generated, request, endpoint)

    async def models(self, endpoint: Endpoint) -> list[str]:
        """Return the name of the model."""
        return [endpoint.model]

    def _generated(self, request: Request, endpoint: Endpoint) -> Reply:
        import torch

        call = request.call
        ids = self._encoded(call).to(self._model.device)
        prompt = ids.shape[1]
        positions = getattr(self._model.config, "max_position_embeddings", None)
        room = call.max_tokens if positions is None else min(call.max_tokens, positions - prompt)
        if room < 1:
            detail = f"the prompt has {prompt:,} tokens, and the model has {positions:,} positions"
            raise Lost(Failure(Reason.TOO_LONG, detail))
        torch.manual_seed(int(request.key[:12], 16))
        sampling: dict[str, Any] = {"do_sample": False}
        if call.temperature:
            sampling = {
                "do_sample": True,
                "temperature": call.temperature,
                "top_p": 1.0,
                "top_k": 0,
            }
        with torch.inference_mode():
            output = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=room,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
                **sampling,
            )[0, prompt:]
        text = self._tokenizer.decode(output, skip_special_tokens=True).strip()
        return _reply(endpoint.model, text, prompt, len(output), self._ended(output.tolist()))

    def _encoded(self, call: Call) -> Any:
        """The prompt's ids. InputError if the chat template refuses the messages."""
        from jinja2 import TemplateError

        messages = [{"role": one.role, "content": one.content} for one in call.messages]
        try:
            ids = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )["input_ids"]
        except TemplateError as error:
            roles = ", ".join(one.role for one in call.messages)
            raise InputError(
                f"the model's chat template fails on messages of {roles}: {shown(error, 300)}"
            ) from None
        if not ids.shape[1]:
            raise InputError("the model's chat template makes nothing of the messages")
        return ids

    def _ended(self, ids: list[int]) -> bool:
        """Whether the model ended its text."""
        ends = self._model.generation_config.eos_token_id
        return ids[-1:] == [ends] if isinstance(ends, int) else ids[-1] in (ends or ())


def _reply(model: str, text: str, prompt: int, output: int, ended: bool) -> Reply:
    choice = {
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop" if ended else "length",
    }
    usage = {"prompt_tokens": prompt, "completion_tokens": output}
    return Reply(200, json.dumps({"model": model, "choices": [choice], "usage": usage}).encode())


def local_answerer(path: Path, model: str | None) -> Answerer:
    """Return the model of a directory, by its own name or a given one. Raises InputError."""
    source = LocalModel(path)
    weights, config = weights_digest(str(path))
    endpoint = Endpoint(
        NAME,
        "http://127.0.0.1",
        f"{path.resolve().name}@{weights[:12]}{config[:4]}",
        concurrency=1,
        deadline_seconds=_SECONDS_MAX,
        attempt_seconds=_SECONDS_MAX,
    )
    return Answerer(endpoint, model or path.resolve().name, source)
