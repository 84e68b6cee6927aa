"""Addresses of clients, also behind proxies.

Pure. An IPv4 address mapped into IPv6 (`::ffff:192.0.2.1`) is the IPv4 address.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Networks = tuple[IPv4Network | IPv6Network, ...]
_Address = IPv4Address | IPv6Address

UNKNOWN: Final = "unknown"  # the address of a peer that has none, such as one on a UNIX socket
MAX_HOPS: Final = 32  # proxies of one request that are looked at
_MAPPED_PREFIX: Final = 96  # bits of ::ffff:0:0/96, the IPv4 addresses mapped into IPv6
# An address in X-Forwarded-For; some proxies add the port.
_HOP: Final = re.compile(
    r"(?P<ipv4>[0-9.]+)(?::[0-9]{1,5})?"
    r"|\[(?P<ipv6>[0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?"
    r"|(?P<bare>[0-9A-Fa-f:.]+)"
)


def parse_networks(text: str) -> Networks:
    """Return the addresses and networks of a comma-separated list.

    Raises:
        ValueError: an item is neither, or has bits beyond its prefix; the exception's text is the
            item.
    """
    networks = []
    for name in (name.strip() for name in text.split(",")):
        try:
            networks.append(_unmapped(ip_network(name)))
        except ValueError:
            raise ValueError(name) from None
    return tuple(networks)


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is None or network.prefixlen < _MAPPED_PREFIX:
        return network
    return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))


def client_address(peer: str, forwarded: str, trusted: Networks) -> str:
    """Return the address of the client that sent a request.

    `X-Forwarded-For` is read from the right: each proxy appends the address of its peer, while a
    client may send any text in front. The first address that is not a trusted proxy's is the
    client's. If an entry is no address, the result is the address of the proxy that wrote it.

    Args:
        peer: the host of the connection's other side; empty if it has none.
        forwarded: the values of `X-Forwarded-For`, joined by commas; empty without the header.
        trusted: the proxies.
    """
    if peer and not trusted and ":" not in peer:  # an IPv4 address, as the kernel writes it
        return peer
    address = _parse(peer.partition("%")[0])  # without the zone of a link-local address
    if address is None:
        return UNKNOWN
    hops = forwarded.rsplit(",", MAX_HOPS) if forwarded else []
    while hops and any(address in network for network in trusted):
        hop = _HOP.fullmatch(hops.pop().strip())
        parsed = _parse(hop["ipv4"] or hop["ipv6"] or hop["bare"]) if hop else None
        if parsed is None:
            break
        address = parsed
    return str(address)


def block(address: str) -> str:
    """Return the block of addresses that counts as one client.

    It is an IPv4 address itself, or the /64 network of an IPv6 address, since a provider gives each
    customer at least a /64.
    """
    if ":" not in address:
        return address
    return f"{IPv6Address(address).exploded[:19]}::/64"


def _parse(text: str) -> _Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
