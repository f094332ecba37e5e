"""Detects the features that an endpoint really supports, with a few short calls.

Many servers answer a request with status 200 and ignore parts of it. Each feature is therefore
detected from the reply, never from the status.
"""

import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from zephyr_fast.endpoint.call import Answer, Call, Failure, Message, Outcome
from zephyr_fast.endpoint.endpoints import Endpoint
from zephyr_fast.endpoint.forecast import Forecast, forecast
from zephyr_fast.endpoint.log import CallLog
from zephyr_fast.endpoint.plans import Report, Settings, collect, replay
from zephyr_fast.endpoint.reasons import Reason

Verdict = Literal["yes", "no", "unclear"]

_WRITE = (Message("user", "Write two sentences about a place that you make up."),)
_TOKENS = 24

SECONDS_MAX = 120.0
"""Maximum seconds of a check of one feature, with all retries. An answer of a few words takes less,
also from a slow server. `attempt_seconds` of an endpoint can only make it shorter.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether an endpoint supports a feature, and how that was detected."""

    feature: str
    verdict: Verdict
    detail: str


_Probe = Generator[Sequence[Call], Sequence[Outcome], Finding]


def check(endpoint: Endpoint) -> list[Finding]:
    """Return the features of the endpoint. Sends 15 short calls. A failed one does not stop the
    others, unless the endpoint does not answer at all.
    """
    findings: list[Finding] = []
    for feature in _PROBES:
        finding, answers = _checked(feature, endpoint)
        findings.append(finding)
        if len(findings) == 1 and not answers:
            detail = "not checked, because the endpoint does not answer"
            return [finding, *(Finding(other, "unclear", detail) for other in [*_PROBES][1:])]
    return findings


def cost(endpoint: Endpoint) -> Forecast:
    """Return the cost of `check`."""
    plans = (probe(endpoint) for probe in _PROBES.values())
    return forecast(plans, {endpoint.name: endpoint})[0]


def _checked(feature: str, endpoint: Endpoint) -> tuple[Finding, bool]:
    """Check a feature, and return whether the model wrote anything, if only an empty text. Each
    feature has a separate run, because an ignored field would switch the endpoint off.
    """
    seconds = min(endpoint.attempt_seconds, SECONDS_MAX)
    brief = replace(endpoint, attempts=min(endpoint.attempts, 3), deadline_seconds=seconds)
    endpoints = {endpoint.name: brief}
    probe = _PROBES[feature]
    with (
        tempfile.TemporaryDirectory() as folder,
        CallLog(Path(folder) / "calls.jsonl") as log,
    ):
        report = collect([probe(brief)], endpoints, log, Settings(accept_failures=True))
        (finding,) = replay([probe(brief)], endpoints, log)
    answers = report.counts.answered > 0 or any(
        Reason(reason).is_final for reason in report.counts.failed
    )
    return finding or Finding(feature, "no", _trouble(report, seconds)), answers


def _trouble(report: Report, seconds: float) -> str:
    if report.error is not None:
        return str(report.error)
    for failure in report.off.values():
        return f"{failure.reason.value}: {failure.detail}"
    if Reason.DEADLINE.value in report.counts.left_open:
        return f"it asks to wait for more than {seconds:.0f} s"
    return ", ".join(report.counts.left_open) or "no answer"


def _answers(endpoint: Endpoint) -> _Probe:
    (outcome,) = yield [Call(endpoint.name, _WRITE, _TOKENS)]
    if isinstance(outcome, Failure):
        return Finding("answers", "no", _why(outcome))
    named = outcome.model or "no model"
    detail = f"the reply names {named}"
    return Finding("answers", "yes" if outcome.model == endpoint.model else "unclear", detail)


def _usage(endpoint: Endpoint) -> _Probe:
    (outcome,) = yield [Call(endpoint.name, _WRITE, _TOKENS, sample=1)]
    if isinstance(outcome, Failure):
        return Finding("usage", "unclear", _why(outcome))
    if outcome.usage is None:
        return Finding("usage", "no", "calls count as the most that they can take")
    usage = outcome.usage
    detail = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
    return Finding("usage", "yes", detail)


def _max_tokens(endpoint: Endpoint) -> _Probe:
    (outcome,) = yield [Call(endpoint.name, _WRITE, 4)]
    if isinstance(outcome, Failure):
        return Finding("max_tokens", "unclear", _why(outcome))
    if outcome.usage is not None and outcome.usage.output_tokens > 4:
        return Finding("max_tokens", "no", f"{outcome.usage.output_tokens} tokens instead of 4")
    cut = outcome.choices[0].is_cut
    detail = f"finish_reason: {outcome.choices[0].finish}"
    return Finding("max_tokens", "yes" if cut else "unclear", detail)


def _system(endpoint: Endpoint) -> _Probe:
    messages = (Message("system", "You answer in one word."), *_WRITE)
    (outcome,) = yield [Call(endpoint.name, messages, _TOKENS)]
    if isinstance(outcome, Failure):
        return Finding("system role", "no", _why(outcome))
    return Finding("system role", "yes", "accepted")


def _n(endpoint: Endpoint) -> _Probe:
    (outcome,) = yield [Call(endpoint.name, _WRITE, _TOKENS, temperature=1.0, n=2)]
    if isinstance(outcome, Failure):
        return Finding("n", "no", _why(outcome))
    return Finding("n", "yes", f"{len(outcome.choices)} choices")


def _logprobs(endpoint: Endpoint) -> _Probe:
    (outcome,) = yield [Call(endpoint.name, _WRITE, 2, top_logprobs=5)]
    if isinstance(outcome, Failure):
        return Finding("logprobs", "no", _why(outcome))
    places = {len(token.top) for token in outcome.choices[0].logprobs or ()}
    return Finding("logprobs", "yes", f"{min(places, default=0)} tokens in each place")


def _sampling(endpoint: Endpoint) -> _Probe:
    calls = [
        Call(endpoint.name, _WRITE, _TOKENS, temperature=1.0, top_p=1.0, sample=sample)
        for sample in range(3)
    ]
    outcomes = yield calls
    texts = [outcome.text for outcome in outcomes if isinstance(outcome, Answer)]
    if len(texts) < len(calls):
        return Finding("sampling", "unclear", _first_failure(outcomes))
    if len(set(texts)) == 1:
        return Finding("sampling", "no", "three answers at temperature 1 were equal")
    return Finding("sampling", "yes", f"{len(set(texts))} different answers of 3 at temperature 1")


def _seed(endpoint: Endpoint) -> _Probe:
    outcomes = yield [
        Call(endpoint.name, _WRITE, _TOKENS, temperature=1.0, seed=seed, sample=sample)
        for seed, sample in ((1, 0), (1, 1), (2, 0), (3, 0))
    ]
    texts = [outcome.text for outcome in outcomes if isinstance(outcome, Answer)]
    if len(texts) < len(outcomes):
        return Finding("seed", "unclear", _first_failure(outcomes))
    if texts[0] != texts[1]:
        return Finding("seed", "no", "one seed gave two different answers")
    if len(set(texts)) == 1:
        return Finding("seed", "unclear", "three seeds gave one answer")
    return Finding("seed", "yes", "equal seeds repeat, different seeds differ")


def _json(endpoint: Endpoint) -> _Probe:
    prompt = "Reply with a JSON object that has the key `answer`."
    call = Call(endpoint.name, (Message("user", prompt),), 64, json_object=True)
    plain = Call(endpoint.name, _WRITE, 64, json_object=True, temperature=0.0)
    asked, not_asked = yield [call, plain]
    failures = [one for one in (asked, not_asked) if isinstance(one, Failure)]
    if not failures:
        return Finding("JSON", "yes", "a JSON object even if the prompt does not mention one")
    return Finding("JSON", "no" if len(failures) == 2 else "unclear", _why(failures[0]))


def _first_failure(outcomes: Sequence[Outcome]) -> str:
    return next(_why(outcome) for outcome in outcomes if isinstance(outcome, Failure))


def _why(failure: Failure) -> str:
    if failure.reason is Reason.DEADLINE:
        return f"no answer in time; {failure.detail[:200]}"
    return f"{failure.reason.value}: {failure.detail[:200]}"


_PROBES = {
    "answers": _answers,
    "usage": _usage,
    "max_tokens": _max_tokens,
    "system role": _system,
    "n": _n,
    "logprobs": _logprobs,
    "sampling": _sampling,
    "seed": _seed,
    "JSON": _json,
}
