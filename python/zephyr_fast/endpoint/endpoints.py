"""Reads the TOML file that names servers, models, limits and prices.

[endpoints.teacher]
url = "https://server.example/v1"       # without /chat/completions
model = "large-chat"
key_env = "TEACHER_KEY"                 # or key_file = "path"
requests_per_minute = 500
tokens_per_minute = 200000
concurrency = 64
usd_per_million_input = 2.5
usd_per_million_output = 10.0
"""

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zephyr_fast._core import InputError
from zephyr_fast.endpoint import secret
from zephyr_fast.endpoint.secret import Secret
from zephyr_fast.printed import brief, shown, without_secrets
from zephyr_fast.untrusted.bounded import read_bytes

FILE_BYTES_MAX = 1 << 20

_MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens")
_NOT_IN_BODY = frozenset(
    (*_MAX_TOKENS_FIELDS, "model", "messages", "n", "best_of", "stream", "logprobs", "top_logprobs")
)
"""Fields that affect the cost of a call or the form of its reply. Only the call itself sets them.
"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model behind one server.

    `deadline_seconds` limits a call including its retries, from its first attempt.
    `attempt_seconds` limits one attempt, and `stall_seconds` the wait for the next bytes of a reply
    that has begun. `retry_seconds` is the wait before the first retry, and doubles with each retry.
    Prices are in nano-USD per token, so sums are exact, or None if unknown. `body` holds additional
    fields of every request to this endpoint.
    """

    name: str
    url: str
    model: str
    family: str = ""
    key: Secret | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int = 16
    attempts: int = 6
    deadline_seconds: float = 1_800.0
    attempt_seconds: float = 600.0
    stall_seconds: float = 60.0
    retry_seconds: float = 1.0
    nanousd_per_input_token: int | None = None
    nanousd_per_output_token: int | None = None
    max_tokens_field: str = "max_tokens"
    strict_model: bool = False
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_prices(self) -> bool:
        """Whether a budget in USD can be enforced for this endpoint."""
        return self.nanousd_per_input_token is not None

    def without_key(self, text: str) -> str:
        """Return a text of the server without the API key. Truncate it only afterwards, because
        half a key at the end of a truncated text would not be found.
        """
        return self.key.hidden_in(text) if self.key else text

    def nanousd(self, input_tokens: int, output_tokens: int) -> int:
        """Return the cost of these tokens, or 0 without prices."""
        return input_tokens * (self.nanousd_per_input_token or 0) + output_tokens * (
            self.nanousd_per_output_token or 0
        )


Endpoints = Mapping[str, Endpoint]

_TEXTS = ("url", "model", "family", "key_env", "key_file", "max_tokens_field")
_COUNTS = ("requests_per_minute", "tokens_per_minute", "concurrency", "attempts")
_SECONDS = ("deadline_seconds", "attempt_seconds", "stall_seconds", "retry_seconds")
_PRICES = {
    "usd_per_million_input": "nanousd_per_input_token",
    "usd_per_million_output": "nanousd_per_output_token",
}
_KNOWN = (*_TEXTS, *_COUNTS, *_SECONDS, *_PRICES, "strict_model", "body")


def load(path: Path) -> dict[str, Endpoint]:
    """Return the endpoints of a file by name. InputError names file, endpoint and key."""
    try:
        table = tomllib.loads(read_bytes(path, FILE_BYTES_MAX).decode())
    except OSError as error:
        raise InputError(f"cannot read `{shown(path)}`: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"`{shown(path)}`: {shown(error)}") from None
    found = table.pop("endpoints", None)
    if table:
        raise InputError(f"`{shown(path)}`: unknown key `{shown(min(table))}`; known: endpoints")
    if not isinstance(found, dict) or not found:
        raise InputError(f"`{shown(path)}` has no `[endpoints.NAME]` table")
    return {name: _endpoint(path, name, given) for name, given in found.items()}


def _endpoint(path: Path, name: str, given: object) -> Endpoint:
    where = f"`{shown(path)}`: endpoint `{shown(name)}`"
    if not _NAME.fullmatch(name):
        raise InputError(f"{where}: a name has letters, digits, `.`, `_` and `-`, at most 64")
    if not isinstance(given, dict):
        raise InputError(f"{where} is not a table")
    if unknown := sorted(given.keys() - set(_KNOWN)):
        known = ", ".join(sorted(_KNOWN))
        raise InputError(f"{where}: unknown key `{shown(unknown[0])}`; known: {known}")
    for key in ("url", "model"):
        if not given.get(key):
            raise InputError(f"{where} has no `{key}`")
    values = {key: _checked(where, key, value) for key, value in given.items()}
    api_key = _key(where, path, values)
    prices = {target: values.pop(name) for name, target in _PRICES.items() if name in values}
    if len(prices) == 1:
        raise InputError(f"{where} needs both prices, or none")
    return Endpoint(name=name, key=api_key, **values, **prices)


def _checked(where: str, key: str, value: Any) -> Any:
    if key in _TEXTS:
        if not isinstance(value, str) or not value:
            # The value is not repeated: it could be a key.
            raise InputError(f"{where}: `{key}` is a text, not of type {type(value).__name__}")
        if key == "max_tokens_field" and value not in _MAX_TOKENS_FIELDS:
            raise InputError(f"{where}: `{key}` is one of {', '.join(_MAX_TOKENS_FIELDS)}")
        return _url(where, value) if key == "url" else value
    if key in _COUNTS:
        if type(value) is not int or not 1 <= value <= 10**12:
            raise InputError(f"{where}: `{key}` is a whole number of at least 1")
        return value
    if key in _SECONDS or key in _PRICES:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0 or value > 10**9:
            raise InputError(f"{where}: `{key}` is a number, not {brief(value)}")
        if key in _SECONDS and value == 0:
            raise InputError(f"{where}: `{key}` is more than 0")
        return _nanousd(where, key, value) if key in _PRICES else float(value)
    kind = {"strict_model": bool, "body": dict}[key]
    if type(value) is not kind:
        raise InputError(f"{where}: `{key}` is not {brief(value)}")
    if isinstance(value, dict) and (set_here := sorted(_NOT_IN_BODY & value.keys())):
        raise InputError(f"{where}: `body` may not set `{set_here[0]}`, which each call sets")
    return value


def _nanousd(where: str, key: str, usd_per_million: float) -> int:
    nanousd = round(usd_per_million * 1_000)
    if abs(nanousd - usd_per_million * 1_000) > 1e-6:
        raise InputError(f"{where}: `{key}` has at most three decimals")
    return nanousd


def _url(where: str, url: str) -> str:
    if not url.isprintable() or " " in url:
        raise InputError(f"{where}: `url` has spaces or characters that cannot be printed")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InputError(f"{where}: `url` cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{where}: `url` begins with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        bare = shown(without_secrets(url))
        raise InputError(f"{where}: `url` has no user, query or fragment ({bare}); use `key_env`")
    return url.rstrip("/").removesuffix("/chat/completions")


def _key(where: str, path: Path, values: dict[str, Any]) -> Secret | None:
    variable, file = values.pop("key_env", None), values.pop("key_file", None)
    if variable and file:
        raise InputError(f"{where} has both `key_env` and `key_file`")
    if (variable or file) and not _hides_keys(values["url"]):
        raise InputError(
            f"{where}: a key is not sent over http://, where others can read it; use https:// or "
            "an address of this machine"
        )
    try:
        if variable:
            return secret.from_environment(variable)
        return secret.from_file(path.parent / file) if file else None
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _hides_keys(url: str) -> bool:
    """Whether requests cannot be read on the way: they use TLS, or never leave this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def described(endpoint: Endpoint) -> dict[str, Any]:
    """Return the endpoint as JSON, with only the existence and the source of the API key."""
    values = {known.name: getattr(endpoint, known.name) for known in fields(endpoint)}
    source = endpoint.key.source if endpoint.key else None
    return values | {"key": source is not None, "key_source": source, "body": dict(endpoint.body)}
