"""Reads a file of a dataset from its address, with a limit on its size and no secrets in errors.

HTTP is read with the standard library instead of fsspec's aiohttp. Each redirect is checked
before it is followed, an endless body is not buffered, and Ctrl-C ends a wait at once. hf, s3 and
gs need their own libraries, which do not follow URLs from a server's response.
"""

import http.client
import os
import socket
import ssl
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

from zephyr_fast._core import InputError
from zephyr_fast.dataset.address import Address, is_inner, is_loopback, is_public
from zephyr_fast.printed import shown, without_secrets

CHUNK = 8 << 20
"""Bytes per read."""

REDIRECTS_MAX = 5

SILENCE_SECONDS_MAX = 60
"""Maximum time without any data from a server. A slow server has no time limit, and Ctrl-C ends
the download.
"""


def read(address: Address, bytes_max: int) -> Iterator[bytes]:
    """Yield the file's bytes in chunks, at most `bytes_max` + 1 bytes in total. The extra byte
    shows that a file is too long.

    Raises InputError.
    """
    left = bytes_max + 1
    try:
        with _open(address) as file:
            while left and (chunk := file.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk
    except InputError:
        raise
    except Exception as error:  # each library has its own errors
        reason = _reason(error)
    else:
        return
    # Raised outside of `except`, because a traceback would print the cause. Libraries put entire
    # URLs, including signatures, into their errors.
    raise InputError(f"cannot read `{address}`: {reason}")


def _open(address: Address) -> Any:
    if address.scheme in ("http", "https"):
        return _open_http(address)
    if address.scheme == "file":
        return _open_file(Path(address.path))
    import fsspec

    # By protocol, not by URL, because fsspec's URLs may chain file systems that run code.
    return fsspec.filesystem(address.scheme).open(f"{address.host}{address.path}", "rb")


def _open_file(path: Path) -> IO[bytes]:
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(0, "it is not a regular file")
    return file


def _open_http(first: Address) -> Any:
    """Return the response of the last server, after all redirects."""
    address = first
    for _ in range(REDIRECTS_MAX + 1):
        request = urllib.request.Request(
            address.request_url(),
            headers={"User-Agent": "zephyr-fast", "Accept-Encoding": "identity"},
        )
        if (authorization := first.authorization()) and address.is_same_server(first):
            request.add_header("Authorization", authorization)
        try:
            return _opener(address, first).open(request, timeout=SILENCE_SECONDS_MAX)
        except urllib.error.HTTPError as error:
            code, target = error.code, error.headers.get("Location")
            error.close()  # its body is never read
        if code not in (301, 302, 303, 307, 308) or target is None:
            raise InputError(
                f"cannot read `{first}`: the server responded with {code} "
                f"{http.client.responses.get(code, '')}".rstrip()
            )
        address = _redirected(first, address, target)
    raise InputError(f"cannot read `{first}`: the server redirects more than {REDIRECTS_MAX} times")


def _redirected(first: Address, now: Address, target: str) -> Address:
    """Return the target of a redirect. Allowed are the same server, and public servers over https.
    Otherwise a server could make this machine send requests to its private network.
    """
    try:
        there = Address.parse(urljoin(now.request_url(), target))
    except (InputError, ValueError):
        raise InputError(
            f"cannot read `{first}`: the server redirects to an unsupported address"
        ) from None
    if not there.is_same_server(first) and (there.scheme != "https" or is_inner(there.host)):
        raise InputError(
            f"cannot read `{first}`: the server redirects to `{there}`, which is not followed; if "
            "you trust it, open that URL"
        )
    return there


def _opener(address: Address, first: Address) -> urllib.request.OpenerDirector:
    """Return an opener that verifies certificates and does not follow redirects, open files or
    authenticate. It uses proxies only for other machines.
    """
    opener = urllib.request.OpenerDirector()
    handlers: list[urllib.request.BaseHandler] = [_Http(address, first), _Https(address, first)]
    if not address.is_local_http:
        handlers.append(urllib.request.ProxyHandler())
    for handler in [
        *handlers,
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ]:
        opener.add_handler(handler)
    return opener


class _Http(urllib.request.HTTPHandler):
    def __init__(self, address: Address, first: Address) -> None:
        super().__init__()
        self._address, self._first = address, first

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(
            partial(_connection, http.client.HTTPConnection, self._address, self._first), request
        )


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, address: Address, first: Address) -> None:
        super().__init__()
        self._address, self._first = address, first

    def https_open(self, request: urllib.request.Request) -> Any:
        connection = partial(_connection, http.client.HTTPSConnection, self._address, self._first)
        return self.do_open(connection, request, context=ssl.create_default_context())


def _connection(kind: Any, address: Address, first: Address, host: str, **options: Any) -> Any:
    """Return a connection that checks the IP addresses of its server before it connects. A proxy's
    addresses are not checked.
    """
    connection = kind(host, **options)
    if host == address.host:
        connection._create_connection = partial(_connected, address, first)
    return connection


def _connected(
    address: Address, first: Address, server: tuple[str, int], timeout: float, source: Any = None
) -> socket.socket:
    ips = list(
        dict.fromkeys(
            str(found[4][0]) for found in socket.getaddrinfo(*server, type=socket.SOCK_STREAM)
        )
    )
    for ip in ips:
        if address.is_local_http and not is_loopback(ip):
            raise OSError(0, "the host is not this machine; use https")
        if not address.is_same_server(first) and not is_public(ip):
            raise OSError(
                0,
                f"the server redirects to `{address}`, which is in a private network; if you trust "
                "it, open that URL",
            )
    problem = OSError(0, "the host has no address")
    for ip in ips:
        try:
            return socket.create_connection((ip, server[1]), timeout, source)
        except OSError as error:
            problem = error
    raise problem


def _reason(error: Exception) -> str:
    """Return the reason of an error in one line, without the secrets of any URL."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        error = error.reason
    if isinstance(error, http.client.HTTPException):
        return f"the server's response is not valid HTTP ({type(error).__name__})"
    if isinstance(error, TimeoutError):
        return f"the server sent no data for {SILENCE_SECONDS_MAX} s"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return shown(without_secrets(" ".join(text.split())), 500) or type(error).__name__
