"""Parses the URL of a dataset: which URLs are allowed, and which parts may be printed.

https          anywhere
http           on this machine only (a tunnel, a test), because plain http allows anyone on the
               way to replace the data, including the manifest
hf, s3, gs     through their own libraries, which handle authentication
file           a directory on this machine

User info and query may be secrets. They are kept in memory for requests, and are never printed or
written.
"""

import base64
import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from zephyr_fast._core import InputError
from zephyr_fast.printed import shown

SCHEMES = ("https", "http", "hf", "s3", "gs", "file")

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_BUCKET = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Address:
    """The location of a dataset. `host` includes the port, and is empty for a file."""

    scheme: str
    host: str
    path: str
    credentials: str = field(default="", repr=False)
    query: str = field(default="", repr=False)
    lacks_secrets: bool = False
    """Whether it was opened with secrets that this process does not have."""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse a URL. InputError, without its secrets, if it is invalid or not supported."""
        scheme, _, rest = text.partition("://")
        scheme = scheme.lower()
        if scheme not in SCHEMES:
            raise InputError(
                f"cannot read `{shown(scheme, 40)}://…`: supported are paths and "
                f"{', '.join(f'{one}://' for one in SCHEMES)}"
            )
        if any(ord(one) < 0x20 or 0x7F <= ord(one) < 0xA0 for one in rest):
            raise InputError(f"this {scheme} URL has control characters; check how it was copied")
        host, path, credentials, query = _parts(scheme, rest)
        address = cls(scheme, host, path.rstrip("/"), credentials, query)
        _check(address, rest)
        return address

    def __str__(self) -> str:
        return shown(f"{self.scheme}://{self.host}{self.path}", 500)

    @property
    def has_secrets(self) -> bool:
        """Whether requests need parts of the URL that must not be printed."""
        return bool(self.credentials or self.query)

    @property
    def is_local_http(self) -> bool:
        """Whether this is a server on this machine, reached without encryption."""
        return self.scheme == "http"

    def file(self, name: str) -> "Address":
        """Return the address of a file of the dataset."""
        return Address(self.scheme, self.host, f"{self.path}/{name}", self.credentials, self.query)

    def request_url(self) -> str:
        """Return the URL of an HTTP request, with the query and without the user info. It must not
        be printed.
        """
        path = quote(self.path, safe="/%:@!$&'()*+,;=~-._")
        query = quote(self.query, safe="/%:@!$&'()*+,;=~-._?[]")
        return f"{self.scheme}://{self.host}{path or '/'}{f'?{query}' if query else ''}"

    def authorization(self) -> str | None:
        """Return the header for the user info. It must not be printed."""
        if not self.credentials:
            return None
        return "Basic " + base64.b64encode(unquote(self.credentials).encode()).decode()

    def is_same_server(self, other: "Address") -> bool:
        """Whether both are on the same server, over the same protocol."""
        return (self.scheme, self.host.lower()) == (other.scheme, other.host.lower())


def refuse_cut_url(folder: object) -> None:
    """InputError for a URL that was converted by `Path`, which collapses its slashes. Otherwise it
    would be printed as a path, including its secrets.
    """
    scheme, colon, _ = str(folder)[:40].partition(":/")
    if colon and scheme.lower() in SCHEMES and "://" not in str(folder)[: len(scheme) + 3]:
        raise InputError(
            f"a `{scheme}` URL must be passed as text, with `://`, because `pathlib.Path` removes "
            "one of its slashes"
        )


def is_loopback(host: str) -> bool:
    """Whether a host, with or without port, is this machine."""
    name = re.sub(r":[0-9]+$", "", host).strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def is_inner(host: str) -> bool:
    """Whether a host, with or without port, is this machine or an IP address of a private
    network.
    """
    name = re.sub(r":[0-9]+$", "", host).strip("[]")
    return is_loopback(host) or (
        re.fullmatch(r"[0-9.]+|.*:.*", name) is not None and not is_public(name)
    )


def is_public(ip: str) -> bool:
    """Whether an IP address is public: not private, link-local or this machine."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_global and not address.is_multicast


def _parts(scheme: str, rest: str) -> tuple[str, str, str, str]:
    try:
        parts = urlsplit(f"{scheme}://{rest}")
    except ValueError:
        raise InputError(f"this {scheme} URL is invalid; check its host") from None
    credentials, _, host = parts.netloc.rpartition("@")
    return host, parts.path, credentials, parts.query


def _check(address: Address, rest: str) -> None:
    if address.scheme not in ("http", "https") and (
        address.has_secrets or "#" in rest or "?" in rest
    ):
        raise InputError(
            f"`{address}`: user info, query and fragment are not supported in {address.scheme} "
            "URLs; configure credentials for its library (environment, configuration file)"
        )
    if "::" in address.path or "::" in re.sub(r"^\[[^\]]*\]", "", address.host):
        raise InputError(
            f"`{address}`: chained URLs (`::`) are not supported; copy the dataset to a location "
            "that can be read directly"
        )
    if address.scheme == "file":
        if address.host not in ("", "localhost") or not address.path.startswith("/"):
            raise InputError(
                "this file URL is not a directory on this machine; write `file:///…` or pass the "
                "path"
            )
        return
    if not (_HOST if address.scheme in ("http", "https") else _BUCKET).fullmatch(address.host):
        # The host is not printed: with a `/` in a password, it is the start of the secret.
        raise InputError(
            f"this {address.scheme} URL has no valid host or bucket; check it (a `/` or `@` in a "
            "password is written %2F or %40)"
        )
    if address.scheme == "http" and not is_loopback(address.host):
        raise InputError(
            f"`{address}`: plain http is supported on this machine only, because anyone on the way "
            "could replace the data; use https"
        )
