"""Sends one POST with deadlines, a size limit and no redirects. Errors become failures."""

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from zephyr_fast._core import __version__
from zephyr_fast.endpoint.call import Failure, Request
from zephyr_fast.endpoint.connector import Connector
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.reader import DETAIL_CHARACTERS_MAX, Reply
from zephyr_fast.endpoint.reasons import Reason
from zephyr_fast.printed import without_secrets

BODY_BYTES_MAX = 4 << 20
"""Maximum decompressed size of a reply. 32 answers of 4,096 tokens with 20 log-probs each are
smaller.
"""

CONNECT_SECONDS = 10.0

# Servers close idle connections, uvicorn after 5 s. A request on a connection that is about to be
# closed is lost, so idle connections are closed earlier.
_IDLE_SECONDS = 4.0

_MODELS_SHOWN = 20


class Lost(Exception):
    """A request without a usable reply."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Http:
    """Sends requests over a pool of connections. An asynchronous context manager.

    A request whose connection was lost is sent again over a new connection: the idle ones may all
    be about to be closed.
    """

    def __init__(self) -> None:
        self._pool: aiohttp.ClientSession | None = None
        self._unpooled: aiohttp.ClientSession | None = None
        self._disconnected: set[str] = set()
        self._addresses: dict[tuple[str, str], tuple[URL, CIMultiDict[str]]] = {}

    async def __aenter__(self) -> Self:
        self._pool = _session(Connector(_IDLE_SECONDS))
        self._unpooled = _session(Connector(None))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        for session in (self._pool, self._unpooled):
            if session is not None:
                await session.close()

    async def post(self, request: Request, endpoint: Endpoint, deadline: float) -> Reply:
        """The server's reply, by a time of the loop's clock. Lost if there is none."""
        session = self._unpooled if request.key in self._disconnected else self._pool
        self._disconnected.discard(request.key)
        path = "/chat/completions"
        try:
            return await self._reply(session, "POST", path, endpoint, request.body, deadline)
        except Lost as lost:
            if lost.failure.reason is Reason.DISCONNECTED:
                self._disconnected.add(request.key)
            raise

    async def models(self, endpoint: Endpoint) -> list[str]:
        """Return the names of the server's models, or no names if it does not list them."""
        from zephyr_fast.untrusted.bounded import parse_json

        try:
            deadline = asyncio.get_running_loop().time() + CONNECT_SECONDS
            reply = await self._reply(self._pool, "GET", "/models", endpoint, None, deadline)
            content = parse_json(reply.body) if reply.status == 200 else {}
        except (Lost, ValueError):
            return []
        listed = content.get("data") if isinstance(content, dict) else None
        listed = listed if isinstance(listed, list) else []
        names = [one.get("id") for one in listed if isinstance(one, dict)]
        known = [endpoint.without_key(name) for name in names if isinstance(name, str)]
        return [name[:100] for name in known[:_MODELS_SHOWN]]

    async def _reply(
        self,
        session: aiohttp.ClientSession | None,
        method: str,
        path: str,
        endpoint: Endpoint,
        body: bytes | None,
        deadline: float,
    ) -> Reply:
        assert session is not None, "entered first"
        url, headers = self._address(endpoint, path)
        until = min(deadline, asyncio.get_running_loop().time() + endpoint.attempt_seconds)
        try:
            async with asyncio.timeout_at(until):
                response = await session.request(
                    method, url, data=body, headers=headers, allow_redirects=False
                )
                async with response:
                    content = await _body(response, endpoint)
                    after = _retry_after(response.headers)
                    return Reply(response.status, content, after)
        except Lost:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _lost(error, endpoint) from None  # its context would hold the headers

    def _address(self, endpoint: Endpoint, path: str) -> tuple[URL, CIMultiDict[str]]:
        """Return URL and headers, which are shared by thousands of calls."""
        known = self._addresses.get((endpoint.name, path))
        if known is None:
            known = URL(endpoint.url + path), _headers(endpoint)
            self._addresses[endpoint.name, path] = known
        return known


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,  # unpacked below, within a bound
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
    )


def _headers(endpoint: Endpoint) -> CIMultiDict[str]:
    headers = CIMultiDict(
        {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"zephyr-fast/{__version__}",
        }
    )
    if endpoint.key is not None:
        headers["Authorization"] = f"Bearer {endpoint.key.reveal()}"
    return headers


async def _body(response: aiohttp.ClientResponse, endpoint: Endpoint) -> bytes:
    named = response.headers.get("Content-Encoding", "identity")
    encoding = named.lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise _broken(f"the reply is encoded as {endpoint.without_key(named)[:40]}")
    pieces: list[bytes] = []
    size = 0
    while piece := await _piece(response, endpoint.stall_seconds):
        size += len(piece)
        if size > BODY_BYTES_MAX:
            raise _too_large()
        pieces.append(piece)
    content = b"".join(pieces)
    return content if encoding == "identity" else unpacked(content)


async def _piece(response: aiohttp.ClientResponse, stall_seconds: float) -> bytes:
    """Return the next bytes of a body, or none at its end."""
    held = response.content.read_nowait()
    if held or response.content.is_eof():  # most bodies arrive at once and need no timer
        return held
    async with asyncio.timeout(stall_seconds):
        return await response.content.readany()


def unpacked(content: bytes) -> bytes:
    """Return the content of a gzip or zlib body, at most `BODY_BYTES_MAX`, or raise Lost."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # detects gzip or zlib
    try:
        plain = unpacker.decompress(content, BODY_BYTES_MAX + 1)
    except zlib.error as error:
        raise _broken(f"the reply cannot be unpacked: {error}") from None
    if len(plain) > BODY_BYTES_MAX:
        raise _too_large()
    if not unpacker.eof:
        raise _broken("the reply's compressed body is cut")
    return plain


def _too_large() -> Lost:
    detail = f"the reply has more than {BODY_BYTES_MAX:,} bytes"
    return Lost(Failure(Reason.TOO_LARGE, detail, may_be_billed=True))


def _broken(detail: str) -> Lost:
    return Lost(Failure(Reason.BAD_RESPONSE, detail, may_be_billed=True))


def _lost(error: Exception, endpoint: Endpoint) -> Lost:
    reason, was_sent = _why(error)
    text = without_secrets(endpoint.without_key(str(error)))[:DETAIL_CHARACTERS_MAX]
    detail = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return Lost(Failure(reason, detail, may_be_billed=was_sent))


def _why(error: Exception) -> tuple[Reason, bool]:
    """Return the reason of an exception, and whether the server may have read the request."""
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Reason.TLS, False
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Reason.UNREACHABLE, False
    if isinstance(error, TimeoutError):
        return Reason.TIMEOUT, True
    if isinstance(error, aiohttp.ClientOSError) and "Can not write request body" in str(error):
        return Reason.DISCONNECTED, False
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | OSError):
        return Reason.DISCONNECTED, True
    if isinstance(error, aiohttp.ClientPayloadError):
        return Reason.DISCONNECTED, True
    return Reason.BAD_RESPONSE, True  # a status line or headers that are not HTTP


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds of a `Retry-After` header, which contains a number or a date.

    A date counts from the reply's own `Date`, so it does not matter whether this machine's clock
    is right. After a time in the past, there is no wait.
    """
    text = headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        later = _date(text)
        if later is None:
            return None
        seconds = (later - (_date(headers.get("Date", "")) or datetime.now(UTC))).total_seconds()
    return seconds if seconds > 0 else None  # also false for NaN


def _date(text: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(text)
        return when.replace(tzinfo=when.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
