"""Opens and reuses the connections of calls.

A bounded number is opened at once, because a connection that is being opened takes 3 KB more than
an open one. An idle one on which something arrived is closed: a reply that nobody requested would
be taken for the reply to the next call, and from then on each call would get the reply of another.
"""

import asyncio
import select
from collections import defaultdict
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

OPENING_MAX = 1_000
"""Connections to one server that are opened at once."""


class Connector(aiohttp.TCPConnector):
    """A pool of connections."""

    def __init__(self, keepalive_seconds: float | None) -> None:
        """`keepalive_seconds` None: each connection is closed after its reply."""
        if keepalive_seconds is None:
            super().__init__(limit=0, force_close=True)
        else:
            super().__init__(limit=0, keepalive_timeout=keepalive_seconds)
        self._new: set[ResponseHandler | None] = set()
        self._opening: defaultdict[ConnectionKey, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(OPENING_MAX)
        )

    async def connect(
        self, req: aiohttp.ClientRequest, traces: "list[Trace]", timeout: aiohttp.ClientTimeout
    ) -> "Connection":
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol in self._new:
                self._new.discard(connection.protocol)
                return connection
            if not _has_arrived(connection):
                return connection
            connection.close()

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: "list[Trace]", timeout: aiohttp.ClientTimeout
    ) -> "ResponseHandler":
        async with self._opening[req.connection_key]:
            protocol = await super()._create_connection(req, traces, timeout)
        self._new.add(protocol)
        return protocol


def _has_arrived(connection: "Connection") -> bool:
    """Whether something arrived on an idle connection: its end, or a reply to no call."""
    if connection.protocol is None or connection.protocol.should_close:
        return True
    if connection.transport is None:
        return True
    poll = select.poll()
    poll.register(connection.transport.get_extra_info("socket"), select.POLLIN)
    return bool(poll.poll(0))
