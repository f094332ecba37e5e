"""The URL of a data set, taken apart: which are allowed, and which part of one may be shown.

https          anywhere
http           on this machine only (a tunnel, a test): what comes over plain http could have been replaced on the way, manifest included
hf, s3, gs     through their own libraries, which have their own ways to sign in
file           a directory of this machine

User info and query may be secrets. They are kept in memory for the requests that need them, and
are in nothing that is shown or written.
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
    """Where a data set lies. `host` has the port with it; of a file, it is empty."""

    scheme: str
    host: str
    path: str
    credentials: str = field(default="", repr=False)
    query: str = field(default="", repr=False)
    lacks_secrets: bool = False
    """Whether it was opened with secret parts that this process was not given."""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Takes a URL apart; InputError, which never shows its secret parts, where it is not one
        that we read.
        """
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
        """Whether requests need parts of the URL that are not shown."""
        return bool(self.credentials or self.query)

    @property
    def is_local_http(self) -> bool:
        """Whether this is a server on this machine, reached without encryption."""
        return self.scheme == "http"

    def file(self, name: str) -> "Address":
        """The address of a file of the data set."""
        return Address(self.scheme, self.host, f"{self.path}/{name}", self.credentials, self.query)

    def request_url(self) -> str:
        """What to ask an HTTP server for; with the query, without the user info. Not to be
        shown.
        """
        path = quote(self.path, safe="/%:@!$&'()*+,;=~-._")
        query = quote(self.query, safe="/%:@!$&'()*+,;=~-._?[]")
        return f"{self.scheme}://{self.host}{path or '/'}{f'?{query}' if query else ''}"

    def authorization(self) -> str | None:
        """The header that the user info stands for. Not to be shown."""
        if not self.credentials:
            return None
        return "Basic " + base64.b64encode(unquote(self.credentials).encode()).decode()

    def is_same_server(self, other: "Address") -> bool:
        """Whether both are served by one server, over the same protocol."""
        return (self.scheme, self.host.lower()) == (other.scheme, other.host.lower())


def refuse_cut_url(folder: object) -> None:
    """InputError for a URL that went through `Path`, which makes one slash of two: as a path it
    would be shown, secrets and all.
    """
    scheme, colon, _ = str(folder)[:40].partition(":/")
    if colon and scheme.lower() in SCHEMES and "://" not in str(folder)[: len(scheme) + 3]:
        raise InputError(
            f"a URL of `{scheme}` must be given as text, with `://`: `pathlib.Path` takes one of "
            f"its slashes away"
        )


def is_loopback(host: str) -> bool:
    """Whether a host, with or without port, names this machine itself."""
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
    """Whether an IP address is one of the internet: no private network, no link, not this
    machine.
    """
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
        raise InputError(f"this {scheme} URL cannot be taken apart; check its host") from None
    credentials, _, host = parts.netloc.rpartition("@")
    return host, parts.path, credentials, parts.query


def _check(address: Address, rest: str) -> None:
    if address.scheme not in ("http", "https") and (
        address.has_secrets or "#" in rest or "?" in rest
    ):
        raise InputError(
            f"`{address}`: a {address.scheme} URL has no user info, query or fragment here; "
            "give credentials in the way its own library reads them (environment, configuration "
            "file)"
        )
    if "::" in address.path or "::" in re.sub(r"^\[[^\]]*\]", "", address.host):
        raise InputError(
            f"`{address}`: chained URLs (`::`) are not supported; copy the data set to where it "
            f"can be read directly"
        )
    if address.scheme == "file":
        if address.host not in ("", "localhost") or not address.path.startswith("/"):
            raise InputError(
                "this file URL does not name a directory of this machine; write `file:///…` or the "
                "path itself"
            )
        return
    if not (_HOST if address.scheme in ("http", "https") else _BUCKET).fullmatch(address.host):
        # Not shown: with a `/` in a password, what looks like the host is the start of the secret.
        raise InputError(
            f"this {address.scheme} URL has no valid host or bucket; check it (a `/` or `@` in a "
            f"password is written %2F or %40)"
        )
    if address.scheme == "http" and not is_loopback(address.host):
        raise InputError(
            f"`{address}`: plain http is read from this machine only, since anyone on the way "
            f"could replace the data; use https"
        )
