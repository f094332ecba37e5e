"""An HTTP server on loopback that answers as a test tells it to, and remembers what it was
asked.
"""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zephyr_fast.dataset.remote import AHEAD

Answer = bytes | Callable[[http.server.BaseHTTPRequestHandler], None]


class HostileServer(http.server.ThreadingHTTPServer):
    """Answers with the files of `files`, by their path; a function writes its whole answer
    itself. `asked`: paths with query, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.headers_seen: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def serve_folder(self, folder: Path, under: str = "/set") -> str:
        """Serves the files of a folder as they are now; gives its URL."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.files[f"{under}/{path.relative_to(folder)}"] = path.read_bytes()
        return f"{self.url}{under}"

    def handle_error(self, *_: object) -> None:
        """A client that hangs up in the middle is what many tests want."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: HostileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.headers_seen.append(dict(self.headers.items()))
        answer = self.server.files.get(self.path.partition("?")[0])
        if answer is None:
            self.send_error(404)
        elif callable(answer):
            self.close_connection = True
            answer(self)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Silent."""


def redirect(target: str, code: int = 302) -> Answer:
    """An answer that leads elsewhere."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def endless(first: bytes = b"", bytes_max: int = 1 << 31) -> Answer:
    """An answer in chunks without a length, which goes on for 2 GiB unless the client hangs up."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        block, sent = first or b" " * (1 << 20), 0
        while sent < bytes_max:
            handler.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
            sent += len(block)
            block = b" " * (1 << 20)

    return answer


def slow(handler: http.server.BaseHTTPRequestHandler) -> None:
    """One byte a moment, for ever: no time limit on silence ends it."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 20))
    handler.end_headers()
    waiting = threading.Event()
    while True:
        handler.wfile.write(b" ")
        handler.wfile.flush()
        waiting.wait(0.1)


def wait_for_downloads() -> None:
    """Returns when nothing is fetched ahead any more."""
    for thread in threading.enumerate():
        if thread.name == AHEAD:
            thread.join(60)
            assert not thread.is_alive()


@contextmanager
def serving() -> Iterator[HostileServer]:
    """A running server."""
    with HostileServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
