"""A raw server on loopback that answers requests as a script says: well, badly, late or never.

It writes bytes to sockets itself, since no HTTP library would send what it must send. A script is
a list of actions, one for each request in the order of arrival; the last one is repeated. It runs
in a thread of its own.
"""

import asyncio
import json
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


def kill_once(
    start: Callable[[], "subprocess.Popen[Any]"], server: "FaultyServer", after: int
) -> None:
    """Runs a child until the server has been asked so often once more, then kills it."""
    target = len(server.asked) + after
    child = start()
    try:
        while len(server.asked) < target and child.poll() is None:
            time.sleep(0.001)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def fields(self) -> dict[str, Any]:
        """The JSON body."""
        fields: dict[str, Any] = json.loads(self.body)
        return fields


Action = bytes | Callable[["Asked", asyncio.StreamWriter], Awaitable[bool]]
"""Bytes of a whole reply, or a function that writes it and says whether to keep the connection."""


class FaultyServer:
    """Serves a script. `asked` has every POST in order; `model_lists` counts GETs of the models,
    which get `models`.
    """

    def __init__(self, script: Sequence[Action], tls: ssl.SSLContext | None = None) -> None:
        self.script = list(script)
        self.asked: list[Asked] = []
        self.model_lists = 0
        self.models: object = {"data": [{"id": "small-chat"}, {"id": "large-chat"}]}
        self.port = 0
        self._tls = tls
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._done: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Returns once the server listens."""
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        """Closes every connection."""
        assert self._done is not None
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _serve(self) -> None:
        self._done = asyncio.Event()
        server = await asyncio.start_server(
            self._connection, "127.0.0.1", 0, backlog=4096, ssl=self._tls
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._done.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        try:
            while asked := await _read(reader, number):
                if not await self._reply(asked, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _reply(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        if asked.method == "GET":
            self.model_lists += 1
            action: Action = answered(self.models)
        else:
            action = self.script[min(len(self.asked), len(self.script) - 1)]
            self.asked.append(asked)
        if isinstance(action, bytes):
            writer.write(action)
            await writer.drain()
            return True
        return await action(asked, writer)


async def _read(reader: asyncio.StreamReader, connection: int) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict(line.lower().split(": ", 1) for line in lines if line)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    # Names are lower case; of the values, the key's case matters.
    for line in lines:
        if line.lower().startswith("authorization: "):
            headers["authorization"] = line.split(": ", 1)[1]
    return Asked(method, path, headers, body, connection)


@contextmanager
def serving(*script: Action, tls: ssl.SSLContext | None = None) -> Iterator[FaultyServer]:
    """A server while the block runs."""
    server = FaultyServer(script, tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def raw(status: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A reply with any status line, body and headers."""
    lines = [f"HTTP/1.1 {status}", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answered(fields: object, *headers: str, status: str = "200 OK") -> bytes:
    """A reply with a JSON body."""
    return raw(status, json.dumps(fields).encode(), "Content-Type: application/json", *headers)


def refused(status: str, message: str = "no", *headers: str, **fields: str) -> bytes:
    """An error as OpenAI's servers write it."""
    return answered({"error": {"message": message, **fields}}, *headers, status=status)


def completion(
    *texts: str | None, finish: str = "stop", model: str = "large-chat", **changes: Any
) -> dict[str, Any]:
    """The fields of a good answer, with changes."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        for i, text in enumerate(texts or ("fine",))
    ]
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return {"model": model, "choices": choices, "usage": usage} | changes


GOOD = answered(completion())
