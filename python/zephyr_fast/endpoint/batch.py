"""Writes and reads the files of a Batch API.

    export    writes open calls as JSONL, each with a `sent` line and its reserve in the log
    results   reads the provider's result and error files into the log
    release   reopens the calls of a file that was never uploaded

A plan whose later calls depend on earlier answers takes one export and one import per step.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from zephyr_fast._core import InputError, IntegrityError, StorageError
from zephyr_fast.endpoint.budget import Budget, Caps, Cost
from zephyr_fast.endpoint.call import Answer, Failure, Outcome, Request, canonical
from zephyr_fast.endpoint.client import budget_error, cost_of
from zephyr_fast.endpoint.endpoints import Endpoint, Endpoints
from zephyr_fast.endpoint.log import CallLog, sync_directory
from zephyr_fast.endpoint.plans import Plan, driven
from zephyr_fast.endpoint.reader import DETAIL_CHARACTERS_MAX, Reply, read
from zephyr_fast.endpoint.reasons import Reason
from zephyr_fast.printed import shown
from zephyr_fast.untrusted.bounded import open_regular, parse_json

T = TypeVar("T")

CALLS_MAX = 50_000
FILE_BYTES_MAX = 200_000_000
"""Limits of a batch file, the strictest of the providers in use. Calls that do not fit go into the
next export.
"""

LINE_BYTES_MAX = 16 << 20

_WRITING = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True)
class Imported:
    """Counts of an import: new answers, failures by whether they are final, keys that belong to no
    call of the plans, and lines that were not needed because their call has an outcome or is open.
    """

    answered: int
    failed: int
    left_open: int
    unknown: int
    ignored: int


def export(
    plans: Iterable[Plan[T]],
    endpoints: Endpoints,
    name: str,
    log: CallLog,
    path: Path,
    caps: Caps | None = None,
) -> int:
    """Write the calls to endpoint `name` that have no outcome into a new file, and return their
    number.

    If there are no such calls, no file is written. An interrupted export is completed by the next
    export to the same file.

    Raises InputError if the file exists or its name has unusual characters. Raises BudgetError, and
    writes no file, if the calls could cost more than the caps allow.
    """
    if not _NAME.fullmatch(path.name):
        raise InputError(
            f"cannot export to `{shown(path)}`: the file's name goes into the log, so it may have "
            "only letters, digits, `.`, `_` and `-`, at most 200"
        )
    if path.exists():
        raise InputError(f"`{shown(path)}` exists; export to a new file")
    draft = path.with_name(path.name + ".draft")
    if path.name in log.batched.values():
        return _finished(draft, path, log)
    endpoint = endpoints[name]
    requests = _open_requests(plans, endpoints, endpoint, log)
    cap = (caps or Caps()).checked({name: endpoint})
    budget = Budget(cap, log.spent)
    reserves = {request.key: _reserve(request, endpoint) for request in requests}
    for reserve in reserves.values():
        if not budget.reserve(reserve):
            raise budget_error(budget, reserve)
    if not requests:
        return 0
    _write(draft, map(_exported, requests))
    # The log is written before the file gets its name: calls in a file that the log does not know
    # could be paid for twice.
    for request in requests:
        log.sent(request.key, name, reserves[request.key], batch=path.name)
    log.sync()
    _rename(draft, path)
    return len(requests)


def _finished(draft: Path, path: Path, log: CallLog) -> int:
    """Complete an interrupted export: write the calls that the log assigns to the file."""
    try:
        with open_regular(draft, follows=False) as file:
            held = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        raise InputError(
            f"`{shown(path.name)}` was exported before and its calls wait for results; export to "
            "a new file, or release this one if it was never uploaded"
        ) from None
    except OSError as error:
        raise StorageError(f"cannot read `{shown(draft)}`: {error.strerror}") from error
    keys = {key for key, batch in log.batched.items() if batch == path.name}
    logged = [line for line in held if _key_of(line) in keys]
    if len(logged) < len(keys):
        raise IntegrityError(f"`{shown(draft)}` is damaged; release `{path.name}`, then export")
    kept = path.with_name(path.name + ".kept")
    _write(kept, logged)
    _rename(kept, draft)
    _rename(draft, path)
    return len(logged)


def _key_of(line: bytes) -> str:
    try:
        return str(json.loads(line)["custom_id"])
    except (ValueError, TypeError, KeyError):
        return ""


def _open_requests(
    plans: Iterable[Plan[T]], endpoints: Endpoints, endpoint: Endpoint, log: CallLog
) -> list[Request]:
    found: dict[str, Request] = {}
    size = 0

    def look(request: Request) -> Outcome | None:
        nonlocal size
        outcome = log.outcome(request.key)
        wanted = request.call.endpoint == endpoint.name and request.key not in log.batched
        if outcome is None and wanted and request.key not in found:
            size += len(_exported(request))
            if len(found) < CALLS_MAX and size <= FILE_BYTES_MAX:
                found[request.key] = request
        return outcome

    for plan in plans:
        driven(plan, endpoints, look)
        if len(found) >= CALLS_MAX or size > FILE_BYTES_MAX:
            break
    return list(found.values())


def _exported(request: Request) -> bytes:
    fields = {
        "custom_id": request.key,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": json.loads(request.body),
    }
    return canonical(fields) + b"\n"


def _reserve(request: Request, endpoint: Endpoint) -> Cost:
    nanousd = endpoint.nanousd(request.input_tokens_max, request.output_tokens_max)
    return Cost(nanousd, request.tokens_max)


def _write(path: Path, lines: Iterable[bytes]) -> None:
    try:
        with os.fdopen(os.open(path, _WRITING, 0o666), "wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path)
    except OSError as error:
        raise StorageError(f"cannot write `{shown(path)}`: {error.strerror}") from error


def _rename(draft: Path, path: Path) -> None:
    try:
        draft.rename(path)
        sync_directory(path)
    except OSError as error:
        raise StorageError(f"cannot write `{shown(path)}`: {error.strerror}") from error


def results(
    plans: Iterable[Plan[T]], endpoints: Endpoints, log: CallLog, paths: Iterable[Path]
) -> Imported:
    """Write the outcomes of a provider's result and error files into the log.

    Results may come in any order. Calls that failed or expired are open again. Calls that no file
    mentions stay in their batch. An answer is used even if its call is not in a batch, for example
    because it was released, since it was paid for.
    """
    found, lines = _best(paths)
    waiting, counts = set(found), {"answered": 0, "failed": 0, "left_open": 0}

    def look(request: Request) -> Outcome | None:
        known, is_waiting = log.outcome(request.key), request.key in waiting
        waiting.discard(request.key)
        if known is not None or not is_waiting:
            return known
        endpoint = endpoints[request.call.endpoint]
        outcome = _outcome(request, endpoint, found[request.key])
        kind = _kind(outcome)
        if kind == "left_open" and request.key not in log.batched:
            return None
        _write_outcome(request, endpoint, outcome, log)
        counts[kind] += 1
        return None if kind == "left_open" else outcome

    for plan in plans:
        driven(plan, endpoints, look)
    log.sync()
    ignored = lines - sum(counts.values()) - len(waiting)
    return Imported(**counts, unknown=len(waiting), ignored=ignored)


def _best(paths: Iterable[Path]) -> tuple[dict[str, dict[str, Any]], int]:
    """Return the first answer to each call, or its first error if it has no answer, and the number
    of lines.
    """
    found: dict[str, dict[str, Any]] = {}
    lines = 0
    for path in paths:
        for key, fields in _results(path):
            lines += 1
            if key not in found or (_status(fields) == 200 != _status(found[key])):
                found[key] = fields
    return found, lines


def _status(fields: dict[str, Any]) -> int | None:
    response = fields.get("response")
    status = response.get("status_code") if isinstance(response, dict) else None
    return status if type(status) is int else None


def _kind(outcome: Outcome) -> str:
    if isinstance(outcome, Answer):
        return "answered"
    return "failed" if outcome.reason.is_final else "left_open"


def _write_outcome(request: Request, endpoint: Endpoint, outcome: Outcome, log: CallLog) -> None:
    number = log.last_attempt(request.key)
    if request.key not in log.batched:
        number += 1  # cost reserved by another attempt stays spent
    cost = cost_of(outcome, endpoint, _reserve(request, endpoint))
    final = _kind(outcome) != "left_open"
    log.ended(request.key, number, endpoint.name, cost, outcome, is_final=final)


def _outcome(request: Request, endpoint: Endpoint, fields: dict[str, Any]) -> Outcome:
    status, error = _status(fields), fields.get("error")
    if status is not None:
        body = json.dumps(fields["response"].get("body")).encode()
        return read(request, endpoint, Reply(status, body))
    if fields.get("response"):  # without a status, so it may have been billed
        detail = f"a result without a `status_code`: {json.dumps(fields['response'])}"
        detail = endpoint.without_key(detail)[:DETAIL_CHARACTERS_MAX]
        return Failure(Reason.BAD_RESPONSE, detail, may_be_billed=True)
    code = error.get("code") if isinstance(error, dict) else None
    reason = Reason.EXPIRED if code == "batch_expired" else Reason.SERVER_ERROR
    return Failure(reason, endpoint.without_key(str(error))[:DETAIL_CHARACTERS_MAX])


def _results(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with open_regular(path) as file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                yield _result(line, f"`{shown(path)}`:{number}")
    except OSError as error:
        raise InputError(f"cannot read `{shown(path)}`: {error.strerror}") from error


def _result(line: bytes, where: str) -> tuple[str, dict[str, Any]]:
    try:
        fields = parse_json(line.decode()) if len(line) <= LINE_BYTES_MAX else None
    except ValueError:
        fields = None
    if not isinstance(fields, dict) or not isinstance(fields.get("custom_id"), str):
        raise InputError(f"{where} is not a line of a batch result")
    return fields["custom_id"], fields


def release(log: CallLog, name: str) -> int:
    """Reopen the calls that were exported to file `name`, which was never uploaded, and return
    their number. Their reserved cost becomes available again.
    """
    keys = [key for key, batch in log.batched.items() if batch == name]
    for key in keys:
        failure = Failure(Reason.CANCELLED, f"the batch {name} was released")
        log.ended(key, log.last_attempt(key), "released", Cost(0, 0), failure, is_final=False)
    log.sync()
    return len(keys)
