"""The call log under damage, locks and full disks; amounts that must be exact."""

import asyncio
import errno
import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from asking import call, endpoint_at, run, texts
from children import PYTHONPATH
from faulty_server import GOOD, Asked, answered, completion, serving
from zephyr_fast._core import InputError, IntegrityError, LockedError, StorageError
from zephyr_fast.endpoint.budget import Caps, Cost
from zephyr_fast.endpoint.call import Answer, Choice, request_of
from zephyr_fast.endpoint.client import Abandoned, Client
from zephyr_fast.endpoint.errors import BudgetError
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Settings

KEY = "ab" * 32


def answer(text: str) -> Answer:
    return Answer((Choice(text, "stop"),), "m", None, None)


def test_a_second_run_on_the_log_is_locked_out(tmp_path: Path) -> None:
    with CallLog(tmp_path / "log"):
        with pytest.raises(LockedError, match="another run is writing"):
            CallLog(tmp_path / "log")
        CallLog(tmp_path / "log", read_only=True).close()
    CallLog(tmp_path / "log").close()


def test_a_link_in_place_of_the_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError):
        CallLog(tmp_path / "log")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("junk", [b"junk\n", b"\n", b'{"answer":"' + b"0" * 64 + b'"}\n'])
def test_a_line_that_is_none_is_refused_by_its_number(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "log"
    with CallLog(path) as log:
        log.ended(KEY, 1, "t", Cost(1, 1), answer("x"), is_final=True)
    path.write_bytes(path.read_bytes() + junk)
    with pytest.raises(IntegrityError, match=r"`:2 is not a line"):
        CallLog(path)


def test_a_line_that_is_damaged_behind_its_head_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with CallLog(path) as log:
        log.sent(KEY, "t", Cost(1, 1))
        log.ended(KEY, 1, "t", Cost(1, 1), answer("x"), is_final=True)
    path.write_bytes(path.read_bytes().replace(b'"choices":[{', b'"choices":[[{'))
    with CallLog(path) as log, pytest.raises(IntegrityError, match=r"`:2 is damaged .+ line 2"):
        log.outcome(KEY)


def test_of_two_answers_the_first_counts_and_both_cost(tmp_path: Path) -> None:
    with CallLog(tmp_path / "log") as log:
        assert [log.sent(KEY, "t", Cost(50, 50)) for _ in range(2)] == [1, 2]
        for number, text in ((1, "first"), (2, "late")):
            log.ended(KEY, number, "t", Cost(10, 3), answer(text), is_final=True)
    with CallLog(tmp_path / "log") as log:
        outcome = log.outcome(KEY)
        assert isinstance(outcome, Answer) and outcome.text == "first"
        assert log.spent == (20, 6)


def test_a_call_that_was_sent_and_lost_keeps_its_reserve_for_good(tmp_path: Path) -> None:
    with CallLog(tmp_path / "log") as log:
        log.sent(KEY, "t", Cost(50, 7))
        assert log.spent == (50, 7)
    with CallLog(tmp_path / "log") as log:
        assert log.spent == (50, 7)
        assert log.sent(KEY, "t", Cost(50, 7)) == 2
        log.ended(KEY, 2, "t", Cost(10, 3), answer("x"), is_final=True)
        assert log.spent == (60, 10)


@pytest.mark.parametrize("text", ["ü 日本 \u2028", 'quote " back \\ \n', "\x00\x7f"])
def test_texts_come_back_as_they_were(tmp_path: Path, text: str) -> None:
    with CallLog(tmp_path / "log") as log:
        log.ended(KEY, 1, "t", Cost(0, 0), answer(text), is_final=True)
    with CallLog(tmp_path / "log") as log:
        assert log.outcome(KEY) == answer(text)


def test_a_full_disk_stops_the_run_and_what_was_written_stays(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from asking import call, endpoint_at, run\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "calls = [call(str(i)) for i in range(500)]\n"
        "report, _ = run(calls, endpoint_at(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(type(report.error).__name__, report.error.exit_code)\n"
    )
    path = f"{PYTHONPATH}{os.pathsep}{Path(__file__).parent}"
    with serving(GOOD) as server:
        ended = subprocess.run(
            [sys.executable, "-c", script, server.url, str(tmp_path / "log")],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert ended.stdout == f"StorageError {StorageError.exit_code}\n", ended.stderr
        sent = len(server.asked)
        assert sent < 500
        calls = [call(str(i)) for i in range(500)]
        report, outcomes = run(calls, endpoint_at(server.url), tmp_path / "log")
        assert texts(outcomes) == ["fine"] * 500
        assert report.counts.reused > 10, "the log of before counts"


@pytest.mark.parametrize("read_only", [False, True])
def test_a_pipe_is_no_log(tmp_path: Path, read_only: bool) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(InputError, match="not a regular file"):
        CallLog(tmp_path / "log", read_only=read_only)


def test_a_log_is_synced_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync, synced = os.fsync, []

    def watched(handle: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    path = tmp_path / "log"
    with CallLog(path) as log:
        assert synced == [str(tmp_path)]
        log.sent(KEY, "t", Cost(1, 1))
        for _ in range(2):
            log.sync()
        assert synced[1:] == [str(path)], "once for what was written"
        log.sent(KEY, "t", Cost(1, 1))
    CallLog(path).close()
    assert synced[1:] == [str(path)] * 2


def test_a_call_that_gets_a_reserve_when_the_run_ends_gives_it_back(tmp_path: Path) -> None:
    async def stopped(log: CallLog) -> Client:
        client = Client({}, log, Cost(None, 50), None)
        client.stop()
        with pytest.raises(Abandoned, match="stopped"):
            await client._reserve(Cost(0, 50))
        return client

    with CallLog(tmp_path / "log") as log:
        budget = asyncio.run(stopped(log)).budget
    assert budget.reserved_calls == 0 and budget.reserve(Cost(0, 50))


def test_a_cost_of_20_digits_is_read_back(tmp_path: Path) -> None:
    dear = Cost(10**19, 10**18)
    with CallLog(tmp_path / "log") as log:
        number = log.sent(KEY, "t", dear)
        log.ended(KEY, number, "t", dear, answer("x"), is_final=True)
    with CallLog(tmp_path / "log") as log:
        assert log.spent == dear and log.outcome(KEY) == answer("x")


@pytest.mark.parametrize(("name", "cost"), [("t", 10**30), ("a b", 1)])
def test_a_line_that_could_not_be_read_back_is_not_written(
    tmp_path: Path, name: str, cost: int
) -> None:
    with CallLog(tmp_path / "log") as log:
        with pytest.raises(InputError, match="cannot be read back"):
            log.sent(KEY, name, Cost(cost, 1))
        assert log.spent == (0, 0)
    assert (tmp_path / "log").read_bytes() == b""


def test_a_disk_without_locks_is_an_error_of_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(StorageError, match=r"cannot lock .+: no locks available"):
        CallLog(tmp_path / "log")
    assert len(os.listdir("/proc/self/fd")) == before, "closed"
    CallLog(tmp_path / "log", read_only=True).close()


HALF_A_LINE = """
import asyncio, json, resource, sys
from pathlib import Path
from asking import call, endpoint_at, run
from faulty_server import completion
from zephyr_fast.endpoint.plans import Settings
from zephyr_fast.endpoint.reader import Reply

log, failed = Path(sys.argv[1]), asyncio.Event()

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

class FullForAMoment:
    asked = 0

    async def post(self, request, endpoint, deadline):
        self.asked += 1
        if "long" in request.call.messages[0].content:
            while self.asked < 4:
                await asyncio.sleep(0)
            limit(log.stat().st_size + 100)
            # The reply is written before the loop's next turn.
            asyncio.get_running_loop().call_soon(limit, resource.RLIM_INFINITY)
            asyncio.get_running_loop().call_soon(failed.set)
            return Reply(200, json.dumps(completion("long" * 1_000)).encode())
        await failed.wait()
        return Reply(200, json.dumps(completion()).encode())

    async def models(self, endpoint):
        return []

settings = Settings(source=FullForAMoment())
calls = [call(text) for text in ("one", "long", "two", "three")]
report, outcomes = run(calls, endpoint_at("http://127.0.0.1:9"), log, settings)
print(type(report.error).__name__, [outcome and outcome.text for outcome in outcomes])
"""


def test_half_a_line_is_removed_before_calls_in_flight_are_written(tmp_path: Path) -> None:
    path = f"{PYTHONPATH}{os.pathsep}{Path(__file__).parent}"
    ended = subprocess.run(
        [sys.executable, "-c", HALF_A_LINE, str(tmp_path / "log")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert ended.stdout == "StorageError ['fine', None, 'fine', 'fine']\n", ended.stderr
    with CallLog(tmp_path / "log") as log:
        reserve = request_of(call("long"), endpoint_at("http://x")).tokens_max
        assert len(log) == 3 and log.spent.tokens == 3 * 15 + reserve


def test_half_a_line_that_cannot_be_removed_is_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "broken disk")

    def half(handle: int, text: memoryview) -> int:
        monkeypatch.setattr(os, "write", fails)
        return write(handle, text[:20])

    write = os.write
    with CallLog(tmp_path / "log") as log:
        log.sent(KEY, "t", Cost(50, 7))
        monkeypatch.setattr(os, "write", half)
        monkeypatch.setattr(os, "ftruncate", fails)
        with pytest.raises(StorageError, match="broken disk"):
            log.sent(KEY, "t", Cost(50, 7))
        monkeypatch.undo()
        with pytest.raises(StorageError, match="ends in half a line"):
            log.sent(KEY, "t", Cost(50, 7))
    with CallLog(tmp_path / "log") as log:
        assert log.spent == (50, 7) and log.sent(KEY, "t", Cost(50, 7)) == 2


def test_few_open_files_lower_the_concurrency(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_flight = peak = 0

    async def count(asked: Asked, writer: object) -> bool:
        import asyncio

        nonlocal in_flight, peak
        in_flight += 1
        peak = max(peak, in_flight)
        await asyncio.sleep(0.02)
        in_flight -= 1
        assert isinstance(writer, asyncio.StreamWriter)
        writer.write(GOOD)
        return True

    # The server's ends of the connections are files of this process too, beside those open before.
    with serving(count) as server:
        resource.setrlimit(resource.RLIMIT_NOFILE, (84, hard))
        try:
            calls = [call(str(i)) for i in range(300)]
            _, outcomes = run(calls, endpoint_at(server.url, concurrency=200), tmp_path / "log")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert texts(outcomes) == ["fine"] * 300 and peak <= 20


def test_the_budget_is_never_passed_and_is_used_up(tmp_path: Path) -> None:
    endpoint_costs = 10 * 1_000 + 5 * 2_000
    reserve = request_of(call("000"), endpoint_at("http://x")).input_tokens_max * 1_000 + 40_000
    cap = endpoint_costs * 50 + reserve  # room for 50 calls and one more reserve
    with serving(GOOD) as server:
        endpoint = endpoint_at(server.url)
        settings = Settings(caps=Caps(usd=cap / 1e9))
        calls = [call(f"{i:03}") for i in range(200)]
        report, _ = run(calls, endpoint, tmp_path / "log", settings)
        assert isinstance(report.error, BudgetError) and report.error.exit_code == 10
        assert len(server.asked) == 51 and report.spent.nanousd == 51 * endpoint_costs
        report, _ = run(calls, endpoint, tmp_path / "log", settings)
        assert isinstance(report.error, BudgetError) and len(server.asked) == 51
        higher = Settings(caps=Caps(usd=1.0))
        report, outcomes = run(calls, endpoint, tmp_path / "log", higher)
        assert texts(outcomes) == ["fine"] * 200 and len(server.asked) == 200


def test_a_budget_in_usd_needs_prices(tmp_path: Path) -> None:
    endpoint = endpoint_at("http://127.0.0.1:9", nanousd_per_input_token=None)
    with pytest.raises(InputError, match="`teacher` has no prices"):
        run([call()], endpoint, tmp_path / "log", Settings(caps=Caps(usd=1)))


def test_reserves_cover_what_a_tokenizer_can_make_of_a_prompt() -> None:
    text = "日本語 \u00e9 emoji 😀 " * 10
    request = request_of(call(text, n=3), endpoint_at("http://x"))
    assert request.input_tokens_max >= len(text.encode())
    assert request.output_tokens_max == 60


def test_keys_tell_calls_apart_by_everything_that_decides_the_answer() -> None:
    base = endpoint_at("http://a/v1")
    keys = [
        request_of(call(**changes), endpoint).key
        for changes, endpoint in [
            ({}, base),
            ({"temperature": 1.0}, base),
            ({"seed": 1}, base),
            ({"sample": 1}, base),
            ({"max_tokens": 21}, base),
            ({"n": 2}, base),
            ({}, endpoint_at("http://a/v1", model="other")),
            ({}, endpoint_at("http://a/v1", name="judge")),
            ({}, endpoint_at("http://a/v1", body={"top_k": 5})),
        ]
    ]
    assert len(set(keys)) == len(keys)
    assert request_of(call(), endpoint_at("http://b:8000/v1")).key == keys[0], "wherever it runs"


def test_an_answer_in_the_log_needs_no_server(tmp_path: Path) -> None:
    with serving(answered(completion("once"))) as server:
        endpoint = endpoint_at(server.url)
        run([call()], endpoint, tmp_path / "log")
    report, outcomes = run([call()], endpoint, tmp_path / "log")
    assert texts(outcomes) == ["once"] and report.counts.reused == 1
