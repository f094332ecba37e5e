"""Serve causal language models from local directories, with an OpenAI-compatible chat API.

    python scripts/model_server.py --model teacher=smollm2 --model student=sft --port 8765

For trials and tests on a CPU: requests that arrive together are generated as one batch. It
supports what many small servers ignore: `n`, `seed`, `logprobs` with `top_logprobs`, `temperature`,
`top_p`, `stop` and `max_tokens`. It listens on 127.0.0.1 only. Names with the same directory share
one model.
"""

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from aiohttp import web
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH_MAX = 32
WAIT_SECONDS = 0.03
TEXT_TOKENS_MAX = 4_096


@dataclass
class Text:
    """One text that is being generated."""

    ids: list[int]
    fields: dict[str, Any]
    random: torch.Generator
    new: list[int] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish: str | None = None


class Model:
    """One model, which generates batch after batch."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ends = self.model.generation_config.eos_token_id
        self.ends = set(ends if isinstance(ends, list) else [ends, self.tokenizer.eos_token_id])
        self.waiting: asyncio.Queue[tuple[list[Text], asyncio.Future[None]]] = asyncio.Queue()

    def sequences(self, fields: dict[str, Any]) -> list[Text]:
        """The texts that a request asks to generate."""
        ids = self.tokenizer.apply_chat_template(
            fields["messages"], add_generation_prompt=True, return_dict=False
        )
        seed = fields.get("seed")
        if seed is None:
            seed = int.from_bytes(os.urandom(6), "big")
        return [
            Text(list(ids), fields, torch.Generator().manual_seed(seed + number))
            for number in range(fields.get("n") or 1)
        ]

    async def serve(self) -> None:
        """Generates what is waiting, as much at once as fits."""
        while True:
            batch = [await self.waiting.get()]
            await asyncio.sleep(WAIT_SECONDS)
            while not self.waiting.empty() and sum(len(one) for one, _ in batch) < BATCH_MAX:
                batch.append(self.waiting.get_nowait())
            texts = [one for group, _ in batch for one in group]
            try:
                await asyncio.to_thread(self.generate, texts)
            except Exception as error:
                for _, done in batch:
                    done.set_exception(error)
                continue
            for _, done in batch:
                done.set_result(None)

    @torch.inference_mode()
    def generate(self, batch: Sequence[Text]) -> None:
        """Adds tokens to all texts until each has ended."""
        longest = max(len(one.ids) for one in batch)
        pad = next(iter(self.ends))
        ids = torch.tensor([[pad] * (longest - len(one.ids)) + one.ids for one in batch])
        mask = torch.tensor([[0] * (longest - len(one.ids)) + [1] * len(one.ids) for one in batch])
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        past = None
        while True:
            out = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=past,
                use_cache=True,
                logits_to_keep=1,
            )
            past = out.past_key_values
            logits = out.logits[:, -1].float()
            drawn = [
                pad if one.finish else self.next_token(one, logits[row])
                for row, one in enumerate(batch)
            ]
            if all(one.finish for one in batch):
                return
            ids = torch.tensor(drawn)[:, None]
            mask = torch.cat([mask, torch.ones(len(batch), 1, dtype=mask.dtype)], dim=1)
            positions = positions[:, -1:] + 1

    def next_token(self, one: Text, logits: torch.Tensor) -> int:
        """Draws a token, and notes whether the text ends with it."""
        token = draw(logits, one.fields, one.random)
        if token in self.ends and one.new:
            one.finish = "stop"
            return token
        one.new.append(token)
        if one.fields.get("logprobs"):
            one.logprobs.append(self.described(logits, token, one.fields.get("top_logprobs") or 1))
        text = self.tokenizer.decode(one.new[-16:])
        if any(stop in text for stop in one.fields.get("stop") or ()):
            one.finish = "stop"
        elif len(one.new) >= min(one.fields.get("max_tokens", self.limit), self.limit):
            one.finish = "length"
        return token

    def described(self, logits: torch.Tensor, token: int, count: int) -> dict[str, Any]:
        """A token with its log-prob, and the likeliest ones."""
        logprobs = torch.log_softmax(logits, dim=0)
        best = logprobs.topk(count)
        return {
            "token": self.tokenizer.decode([token]),
            "logprob": float(logprobs[token]),
            "top_logprobs": [
                {"token": self.tokenizer.decode([int(index)]), "logprob": float(value)}
                for value, index in zip(best.values, best.indices, strict=True)
            ],
        }

    def choice(self, index: int, one: Text) -> dict[str, Any]:
        """A finished text as the API has it."""
        text = self.tokenizer.decode(one.new, skip_special_tokens=True)
        for stop in one.fields.get("stop") or ():
            text = text.split(stop)[0]
        choice: dict[str, Any] = {
            "index": index,
            "message": {"role": "assistant", "content": text},
            "finish_reason": one.finish,
        }
        if one.logprobs:
            choice["logprobs"] = {"content": one.logprobs}
        return choice


def draw(logits: torch.Tensor, fields: dict[str, Any], random: torch.Generator) -> int:
    """A token: the likeliest at temperature 0, otherwise drawn from the nucleus `top_p`."""
    temperature = fields.get("temperature", 1.0)
    if not temperature:
        return int(logits.argmax())
    chances, tokens = torch.softmax(logits / temperature, dim=0).sort(descending=True)
    top_p = fields.get("top_p") or 1.0
    chances[(chances.cumsum(dim=0) - chances) >= top_p] = 0
    return int(tokens[torch.multinomial(chances, 1, generator=random)])


def application(models: dict[str, Model]) -> web.Application:
    """The server's routes."""

    async def complete(request: web.Request) -> web.Response:
        fields = await request.json()
        model = models.get(fields.get("model"))
        if model is None:
            known = ", ".join(models)
            error = {"message": f"no model `{fields.get('model')}`; known: {known}"}
            return web.json_response({"error": error}, status=404)
        texts = model.sequences(fields)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await model.waiting.put((texts, done))
        await done
        output = sum(len(one.new) for one in texts)
        usage = {"prompt_tokens": len(texts[0].ids), "completion_tokens": output}
        choices = [model.choice(index, one) for index, one in enumerate(texts)]
        return web.json_response({"model": fields["model"], "choices": choices, "usage": usage})

    async def listed(request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in models]})

    async def start(app: web.Application) -> None:
        for number, model in enumerate(dict.fromkeys(models.values())):
            app[web.AppKey(f"model {number}", asyncio.Task)] = asyncio.create_task(model.serve())

    app = web.Application()
    app.on_startup.append(start)
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/v1/models", listed)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", action="append", required=True, metavar="NAME=DIR", help="a model; repeatable"
    )
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument(
        "--max-tokens", type=int, default=TEXT_TOKENS_MAX, help="limit for every text"
    )
    parser.add_argument(
        "--until-eof", action="store_true", help="end when standard input does, as its owner ended"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.until_eof:
        threading.Thread(target=end_with_input, daemon=True).start()
    loaded: dict[Path, Model] = {}
    models = {}
    for given in options.model:
        name, _, folder = given.partition("=")
        path = Path(folder).resolve()
        if path not in loaded:
            loaded[path] = Model(path, options.max_tokens)
        models[name] = loaded[path]
    web.run_app(application(models), host="127.0.0.1", port=options.port)


def end_with_input() -> None:
    """End the process once standard input is closed."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
