"""Parses and compares the origins that may send requests, and the hosts of requests.

Pure. An origin is a scheme, a host and a port (RFC 6454 section 4). Hosts are compared in lower
case, without the final dot of an absolute name, and IPv6 addresses in their short form.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final, NamedTuple

_DEFAULT_PORT: Final = {"http": 80, "https": 443}
_AUTHORITY: Final = re.compile(
    r"(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{0,5}))?"
)


class _Authority(NamedTuple):
    """A host and port, as in a URL or a `Host` header."""

    host: str
    port: int | None  # None for the default of the scheme


class Origin(NamedTuple):
    """An origin, always with a port."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Origins:
    """A set of allowed origins."""

    every: bool = False  # whether every origin is allowed
    same: bool = False  # whether the host and port of the request are allowed, with any scheme
    listed: frozenset[Origin] = frozenset()  # single origins
    parents: frozenset[Origin] = frozenset()  # origins whose sub-domains are allowed

    def allow(self, origin: str, host: str) -> bool:
        """Return whether a request with these `Origin` and `Host` headers is allowed."""
        if self.every:
            return True
        parsed = _parse_origin(origin)
        if parsed is None:
            return False
        return (
            parsed in self.listed
            or (self.same and _is_same(parsed, host))
            or any(_is_below(parsed, parent) for parent in self.parents)
        )


EVERY_ORIGIN: Final = Origins(every=True)


def parse_origins(text: str) -> Origins:
    """Parse a comma-separated list of origins.

    An item is `*`, `same`, an origin, or `SCHEME://*.HOST[:PORT]` for the sub-domains of a host.

    Raises:
        ValueError: an item is none of these; the text of the exception is the item.
    """
    names = [name.strip() for name in text.lower().split(",")]
    listed: set[Origin] = set()
    parents: set[Origin] = set()
    for name in names:
        if name in ("*", "same"):
            continue
        origin = _parse_origin(name.rstrip("/").replace("://*.", "://", 1))
        if origin is None:
            raise ValueError(name)
        (parents if "://*." in name else listed).add(origin)
    return Origins("*" in names, "same" in names, frozenset(listed), frozenset(parents))


def parse_hosts(text: str) -> frozenset[str]:
    """Parse a comma-separated list of host names.

    Raises:
        ValueError: an item is not a host name, or has a port; the text of the exception is the
            item.
    """
    hosts: set[str] = set()
    for name in (name.strip() for name in text.split(",")):
        host = host_name(name)
        if host is None or name.rpartition("]")[2].count(":"):
            raise ValueError(name)
        hosts.add(host)
    return frozenset(hosts)


def host_name(host: str) -> str | None:
    """Return the host name in a `Host` header, without port; None if the header is malformed."""
    authority = _parse_authority(host)
    return None if authority is None else authority.host


def _parse_origin(text: str) -> Origin | None:
    scheme, _, rest = text.partition("://")
    default = _DEFAULT_PORT.get(scheme.lower())
    authority = _parse_authority(rest)
    if default is None or authority is None:
        return None
    return Origin(scheme.lower(), authority.host, authority.port or default)


def _parse_authority(text: str) -> _Authority | None:
    found = _AUTHORITY.fullmatch(text.lower()) if text.isascii() else None
    if found is None:
        return None
    host = found["host"].removesuffix(".")
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65_536:
        return None
    if host.startswith("["):
        try:
            host = f"[{IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            return None
    return _Authority(host, port)


def _is_same(origin: Origin, host: str) -> bool:
    authority = _parse_authority(host)
    return (
        authority is not None
        and authority.host == origin.host
        and (authority.port or _DEFAULT_PORT[origin.scheme]) == origin.port
    )


def _is_below(origin: Origin, parent: Origin) -> bool:
    return (
        origin.scheme == parent.scheme
        and origin.port == parent.port
        and origin.host.endswith(f".{parent.host}")
    )
