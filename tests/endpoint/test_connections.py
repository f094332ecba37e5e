"""Connections that break, stall, drip or never come about, and replies out of order."""

import asyncio
import gzip
import json
import socket
import ssl
import subprocess
import time
import tracemalloc
from pathlib import Path

import aiohttp
import pytest

from asking import call, endpoint_at, run, texts
from faulty_server import GOOD, Action, Asked, answered, completion, raw, serving
from zephyr_fast.endpoint import connector
from zephyr_fast.endpoint.call import Outcome
from zephyr_fast.endpoint.http import BODY_BYTES_MAX, Lost, unpacked
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Plan, collect, replay

QUICK = {"retry_seconds": 0.01, "attempts": 3}


async def reset(_: Asked, writer: asyncio.StreamWriter) -> bool:
    """Resets the connection instead of closing it."""
    held = writer.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()
    return False


async def silence(_: Asked, writer: asyncio.StreamWriter) -> bool:
    """Closes without a word."""
    return False


async def short(_: Asked, writer: asyncio.StreamWriter) -> bool:
    """Promises more bytes than it sends."""
    writer.write(raw("200 OK", json.dumps(completion()).encode(), length=5_000))
    return False


async def cut_chunks(_: Asked, writer: asyncio.StreamWriter) -> bool:
    """Stops within a chunk."""
    writer.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"choices')
    return False


async def stall(_: Asked, writer: asyncio.StreamWriter) -> bool:
    """Sends the headers and no more."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    await asyncio.sleep(30)
    return False


async def drip(_: Asked, writer: asyncio.StreamWriter) -> bool:
    """Sends a byte every 20 ms, for as long as anybody reads."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(2_000):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)
    return False


async def not_http(_: Asked, writer: asyncio.StreamWriter) -> bool:
    """Answers in another protocol."""
    writer.write(b"220 mail.example ESMTP\r\n\r\n")
    return False


BROKEN: dict[str, Action] = {
    "reset": reset,
    "closed without a reply": silence,
    "body shorter than its length": short,
    "chunk cut": cut_chunks,
    "a byte at a time": drip,
    "no HTTP": not_http,
    "headers of 20 kB": raw("200 OK", b"{}", "X-Long: " + "x" * 20_000),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_reply_is_retried(tmp_path: Path, broken: Action) -> None:
    with serving(broken, GOOD) as server:
        # Only one reply is slow by itself, so only that one ends by the clock.
        seconds = 5.0 if broken is drip else 600.0
        endpoint = endpoint_at(server.url, **QUICK, attempt_seconds=seconds)
        report, outcomes = run([call()], endpoint, tmp_path / "log")
        assert texts(outcomes) == ["fine"] and len(server.asked) == 2
    # The lost attempt may have been billed, so its reserve stays spent.
    assert report.spent.tokens == 15 + len("hello") + len("user") + 16 + 20


def test_a_reply_that_stalls_is_given_up_long_before_the_attempt_is(tmp_path: Path) -> None:
    with serving(stall, GOOD) as server:
        endpoint = endpoint_at(server.url, **QUICK, stall_seconds=3.0, deadline_seconds=600.0)
        _, outcomes = run([call()], endpoint, tmp_path / "log")
        assert texts(outcomes) == ["fine"] and len(server.asked) == 2


def test_a_compressed_bomb_is_never_unpacked_in_memory() -> None:
    bomb = gzip.compress(bytes(200_000_000), 1)
    tracemalloc.start()
    try:
        with pytest.raises(Lost):
            unpacked(bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 * BODY_BYTES_MAX
    finally:
        tracemalloc.stop()


def test_the_deadline_bounds_a_call_with_all_its_retries(tmp_path: Path) -> None:
    with serving(drip) as server:
        endpoint = endpoint_at(server.url, attempts=100, retry_seconds=0.01, deadline_seconds=1.0)
        report, outcomes = run([call()], endpoint, tmp_path / "log")
    assert outcomes == [None] and report.counts.left_open == {"deadline": 1}


def test_a_server_that_refuses_connections_is_switched_off(tmp_path: Path) -> None:
    with socket.socket() as held:  # bound and not listening: nobody else gets the port
        held.bind(("127.0.0.1", 0))
        endpoint = endpoint_at(f"http://127.0.0.1:{held.getsockname()[1]}/v1", **QUICK)
        report, _ = run([call(str(i)) for i in range(40)], endpoint, tmp_path / "log")
    assert report.off["teacher"].reason == "unreachable"
    assert report.spent == (0, 0), "what was not sent costs nothing"


def test_connections_are_opened_a_bounded_number_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening, most = 0, 0
    opened = aiohttp.TCPConnector._create_connection

    async def counted(*words: object) -> object:
        nonlocal opening, most
        opening += 1
        most = max(most, opening)
        try:
            return await opened(*words)  # type: ignore[arg-type]
        finally:
            opening -= 1

    async def together(_: Asked, writer: asyncio.StreamWriter) -> bool:
        while len(server.asked) < 20:  # so that no connection is used twice
            await asyncio.sleep(0.001)
        writer.write(GOOD)
        return True

    monkeypatch.setattr(aiohttp.TCPConnector, "_create_connection", counted)
    monkeypatch.setattr(connector, "OPENING_MAX", 3)
    with serving(together) as server:
        endpoint = endpoint_at(server.url, concurrency=20)
        _, outcomes = run([call(str(i)) for i in range(20)], endpoint, tmp_path / "log")
    assert texts(outcomes) == ["fine"] * 20 and most == 3


def test_an_idle_connection_that_was_closed_costs_no_attempt(tmp_path: Path) -> None:
    async def close_after(_: Asked, writer: asyncio.StreamWriter) -> bool:
        writer.write(GOOD)
        await writer.drain()
        return False

    with serving(close_after) as server:
        endpoint = endpoint_at(server.url, attempts=1, concurrency=1)
        report, outcomes = run([call(str(i)) for i in range(50)], endpoint, tmp_path / "log")
    assert texts(outcomes) == ["fine"] * 50, report.counts


def test_the_retry_after_a_closed_connection_takes_no_other_idle_one(tmp_path: Path) -> None:
    """Four idle connections are there, and the server closes each as it is used again."""
    arrived: list[int] = []

    async def once_each(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        if asked.connection in arrived:
            return False
        arrived.append(asked.connection)
        while len(arrived) < 4:  # all at once, so that none uses the connection of another
            await asyncio.sleep(0.001)
        writer.write(GOOD)
        await writer.drain()
        return True

    def plan() -> Plan[list[Outcome]]:
        first = yield [call(str(number)) for number in range(4)]
        return [*first, *(yield [call("last")])]

    with serving(once_each) as server, CallLog(tmp_path / "log") as log:
        endpoints = {"teacher": endpoint_at(server.url, attempts=1)}
        report = collect([plan()], endpoints, log)
        (outcomes,) = replay([plan()], endpoints, log)
        connections = [asked.connection for asked in server.asked]
    assert texts(outcomes or []) == ["fine"] * 5, report.counts
    assert len(connections) == 6 and connections[4] in connections[:4] and len(arrived) == 5


@pytest.mark.parametrize("is_blocked", [False, True])
def test_a_reply_that_nobody_asked_for_is_never_the_answer_to_a_call(
    tmp_path: Path, is_blocked: bool
) -> None:
    """The late reply is read while the connection is idle, or only when it is used again."""

    async def twice(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        text = asked.fields["messages"][0]["content"]
        writer.write(answered(completion(f"to {text}")))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(answered(completion(f"late, to {text}")))
        return True

    def plan(waits: bool = True) -> Plan[list[Outcome]]:
        found: list[Outcome] = []
        for number in range(3):
            if waits and number and is_blocked:
                time.sleep(0.3)
            found += yield [call(str(number))]
            if waits and not is_blocked:
                yield [call(endpoint="other", sample=number)]
        return found

    async def slow(_: Asked, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.3)
        writer.write(GOOD)
        return True

    with serving(twice) as server, serving(slow) as other, CallLog(tmp_path / "log") as log:
        urls = {"teacher": server.url, "other": other.url}
        endpoints = {name: endpoint_at(url, name=name, **QUICK) for name, url in urls.items()}
        collect([plan()], endpoints, log)
        (outcomes,) = replay([plan(waits=False)], endpoints, log)
    assert texts(outcomes or []) == ["to 0", "to 1", "to 2"]


def test_a_certificate_that_nobody_signed_switches_the_endpoint_off(tmp_path: Path) -> None:
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    made = subprocess.run(
        [*words.split(), "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip("no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with serving(GOOD, tls=context) as server:
        endpoint = endpoint_at(server.url.replace("http:", "https:"), **QUICK)
        report, _ = run([call()], endpoint, tmp_path / "log")
        assert server.asked == []
    assert report.off["teacher"].reason == "tls"


def test_answers_that_come_out_of_order_go_to_their_own_calls(tmp_path: Path) -> None:
    async def last_first(asked: Asked, writer: asyncio.StreamWriter) -> bool:
        text = asked.fields["messages"][0]["content"]
        await asyncio.sleep(0.2 if text == "0" else 0.002 * (20 - int(text)))
        writer.write(answered(completion(f"to {text}")))
        return True

    with serving(last_first) as server:
        calls = [call(str(i)) for i in range(20)]
        _, outcomes = run(calls, endpoint_at(server.url, concurrency=20), tmp_path / "log")
    assert texts(outcomes) == [f"to {i}" for i in range(20)]


def test_equal_calls_are_sent_once_and_samples_of_one_call_each(tmp_path: Path) -> None:
    async def slowly(_: Asked, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.05)
        writer.write(GOOD)
        return True

    calls = [call("same")] * 8 + [call("same", sample=1)]
    with serving(slowly) as server:
        report, outcomes = run(calls, endpoint_at(server.url), tmp_path / "log")
        assert texts(outcomes) == ["fine"] * 9 and len(server.asked) == 2
    assert report.counts.answered == 2
