"""Measures the client of model endpoints: processor time of a call, memory of calls in flight, and
the scan of a log at the start of a rerun.

    python scripts/benchmarks/endpoints.py [--calls 3000] [--in-flight 10000] [--answers 100000]

The server is a separate process on this machine and answers with 200 words. Calls in flight wait
until all of them have arrived. Only the processor time of the client is measured: sockets, JSON,
keys, budget and both lines of the log.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Generator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

from measuring import parser_of
from zephyr_fast.endpoint.budget import Cost
from zephyr_fast.endpoint.call import Answer, Call, Choice, Message, Outcome, Usage
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import collect

WORDS = "word " * 200


def serve(port: Connection, hold_for: int) -> None:
    """Answers at once, or, with `hold_for`, once so many requests are here."""
    body = json.dumps(
        {
            "model": "m",
            "choices": [{"message": {"content": WORDS}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 40, "completion_tokens": 200},
        }
    ).encode()
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def main() -> None:
        arrived, all_here = 0, asyncio.Event()

        async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal arrived
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    await reader.readexactly(length)
                    arrived += 1
                    if arrived >= hold_for:
                        all_here.set()
                    await all_here.wait()
                    writer.write(reply)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=20_000)
        port.send(server.sockets[0].getsockname()[1])
        await asyncio.sleep(3_600)

    asyncio.run(main())


def plan(number: int) -> Generator[Sequence[Call], Sequence[Outcome], None]:
    """One call with a prompt of about 150 words."""
    yield [Call("m", (Message("user", f"{number} " + "word " * 150),), 256)]


def measured(calls: int, in_flight: int, hold: bool) -> tuple[float, float, float]:
    """Processor milliseconds of a call, wall seconds, and the peak of resident MB."""
    context = get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there, calls if hold else 0), daemon=True)
    server.start()
    endpoint = Endpoint("m", f"http://127.0.0.1:{here.recv()}/v1", "m", concurrency=in_flight)
    with TemporaryDirectory() as folder, CallLog(Path(folder) / "calls.jsonl") as log:
        cpu, wall = time.process_time(), time.perf_counter()
        report = collect((plan(number) for number in range(calls)), {"m": endpoint}, log)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        report.raise_if_open()
        assert report.counts.answered == calls, report.counts
        again = collect((plan(number) for number in range(calls)), {"m": endpoint}, log)
        assert again.counts.attempts == 0, again.counts
    server.kill()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024 / 1e6
    return 1_000 * cpu / calls, wall, peak


def scan(answers: int) -> tuple[float, float, int]:
    """Wall and processor seconds to open a log of so many answers, and its bytes."""
    answer = Answer((Choice(WORDS * 2, "stop"),), "m", None, Usage(40, 400))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "calls.jsonl"
        with CallLog(path) as log:
            for number in range(answers):
                key = f"{number:064x}"
                attempt = log.sent(key, "m", Cost(1, 1))
                log.ended(key, attempt, "m", Cost(1, 440), answer, is_final=True)
        cpu, wall = time.process_time(), time.perf_counter()
        with CallLog(path) as log:
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            assert len(log) == answers
        return wall, cpu, path.stat().st_size


def main() -> None:
    """Run each measurement in a separate process, so that its peak memory is not shared."""
    parser = parser_of(__doc__)
    parser.add_argument("--calls", type=int, default=3_000)
    parser.add_argument("--in-flight", type=int, default=10_000)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--part", help="one measurement, in this process")
    asked = parser.parse_args()
    if asked.part is None:
        for part in ("calls", "flight", "scan"):
            words = [sys.executable, __file__, *sys.argv[1:], "--part", part]
            os.spawnv(os.P_WAIT, sys.executable, words)
    elif asked.part == "calls":
        cpu, wall, _ = measured(asked.calls, 64, hold=False)
        print(f"{asked.calls:,} calls, 64 in flight: {cpu:.2f} ms CPU a call, {wall:.1f} s")
    elif asked.part == "flight":
        cpu, wall, peak = measured(asked.in_flight, asked.in_flight, hold=True)
        print(f"{asked.in_flight:,} in flight: {peak:.0f} MB at most, {cpu:.2f} ms CPU a call")
    else:
        wall, cpu, size = scan(asked.answers)
        took = f"{wall:.2f} s, {cpu:.2f} s CPU"
        print(f"scan of {asked.answers:,} answers ({size / 1e6:.0f} MB): {took}")


if __name__ == "__main__":
    main()
