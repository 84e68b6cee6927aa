"""Listening sockets, limits of file descriptors, and a connection's progress in the kernel.

State: none, except for an `AcceptProtocol` while its connection is being accepted.
"""

import asyncio
import errno
import resource
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Final, cast

from aiohttp import web

from hub.delivery.client import Transport
from hub.errors import SettingError
from hub.logs import events
from hub.settings import Settings

ListenSockets = list[socket.socket]

# Connections that the kernel queues for accept(): many, for a storm of reconnects.
BACKLOG: Final = 4096
# Bytes of kernel buffer for a client (SO_SNDBUF, which Linux doubles). Without a limit it grows
# to 4 MB, which the bounds of the send queue would not count.
SEND_BUFFER: Final = 131_072
# Descriptors that are reserved for REST, probes, Redis and files: WebSockets and streams do not use
# them. At most half of all descriptors are reserved.
RESERVE: Final = 256
# A part of the reserve, 1/OWN_SHARE, is not for incoming connections at all, so that the server can
# always connect to Redis again. Connections to METRICS_PORT may use half of that part, so that an
# operator can see that descriptors are used up: 1/METRICS_SHARE is left.
OWN_SHARE: Final = 8
METRICS_SHARE: Final = 16
# struct tcp_info of Linux: tcpi_unacked (packets), tcpi_bytes_acked, tcpi_notsent_bytes.
_TCP_INFO: Final = struct.Struct("=24xI92xQ16xI")

_AT_ONCE: Final = struct.pack("ii", 1, 0)  # struct linger: on, for 0 seconds


def listen(host: str, port: int) -> ListenSockets:
    """Return a listening socket for every address of `host` that this machine has.

    Raises:
        OSError: an address is in use, or this machine has no address of `host`.
        UnicodeError: `host` is not a valid host name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: ListenSockets = []
    refused: OSError | None = None
    for family, _, _, _, address in found:
        try:
            sockets.append(_listener(family, address))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for sock in sockets:
                    sock.close()
                raise
            refused = error  # for example ::1 for localhost, in a container without IPv6
    if refused is not None and not sockets:
        raise refused
    return sockets


def spread(sockets: ListenSockets, parts: int) -> list[ListenSockets]:
    """Open more sockets with the same addresses, one set for each further part.

    The kernel spreads connections evenly over the parts (SO_REUSEPORT). `sockets` were opened
    without that option, so no other server has these addresses.

    Returns:
        The parts; `sockets` are the first one.

    Raises:
        OSError: there are not enough file descriptors.
    """
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    more = [
        [_listener(sock.family, sock.getsockname(), shared=True) for sock in sockets]
        for _ in range(parts - 1)
    ]
    return [sockets, *more]


def _listener(family: int, address: Any, *, shared: bool = False) -> socket.socket:
    any_ipv6 = family == socket.AF_INET6 and address[0] == "::"
    sock = socket.create_server(
        address,
        family=family,
        backlog=BACKLOG,
        reuse_port=shared,
        dualstack_ipv6=any_ipv6 and socket.has_dualstack_ipv6(),
    )
    # Accepted sockets inherit it.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return sock


# --- Descriptors ----------------------------------------------------------------------------------


def raise_descriptors() -> tuple[int, int]:
    """Raise the soft limit of file descriptors to the hard one.

    Returns:
        The soft limit before and after.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):  # macOS accepts less than its hard limit
        return soft, soft
    return soft, hard


def fit_descriptors(settings: Settings, descriptors: int, workers: int = 1) -> Settings:
    """Return the settings with a MAX_CONNECTIONS that the number of descriptors allows.

    Args:
        settings: of the server.
        descriptors: the number of them that each process may have.
        workers: the number of processes that share the connections.

    Raises:
        SettingError: MAX_CONNECTIONS is set to more.
    """
    most = (descriptors - _reserve(descriptors)) * workers
    if settings.max_connections > most:
        each = f" in each of {workers} workers" if workers > 1 else ""
        allowed = (
            f"at most {most} are allowed with {descriptors} file descriptors (ulimit -n){each}"
        )
        raise SettingError("MAX_CONNECTIONS", str(settings.max_connections), allowed)
    return replace(settings, max_connections=settings.max_connections or most)


def _reserve(descriptors: int) -> int:
    """Return the number of descriptors that WebSockets and streams may not use."""
    return min(RESERVE, descriptors // 2)


class AcceptProtocol(asyncio.Protocol):
    """The first protocol of a connection, which gives it to HTTP if descriptors are left.

    The kernel gives a new connection the lowest free descriptor, so the number of the descriptor
    says how many are in use. While half of the reserve is in use, each new connection closes idle
    ones.
    """

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.Protocol],
        close_idle: Callable[[], None],
        descriptors: int,
        share: int,
    ) -> None:
        """Create the protocol of the listening sockets.

        Args:
            make_protocol: returns a new HTTP protocol.
            close_idle: closes the HTTP connections that have been idle for longest.
            descriptors: maximum number of descriptors of the process.
            share: the fraction 1/share of the reserve is not for these connections.
        """
        self._make_protocol = make_protocol
        self._close_idle = close_idle
        reserve = _reserve(descriptors)
        self._crowded = descriptors - reserve // 2
        self._end = descriptors - reserve // share  # the first descriptor that is refused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        descriptor = transport.get_extra_info("socket").fileno()
        if descriptor >= self._crowded:
            self._close_idle()
            if descriptor >= self._end:
                events.NO_DESCRIPTORS.log()
                transport.abort()
                return
            events.FEW_DESCRIPTORS.log()
        protocol = self._make_protocol()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


class Listeners:
    """Accepts connections while descriptors are left.

    State: an asyncio server for each socket, and a task for each that ends with its connections.
    """

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.Protocol],
        close_idle: Callable[[], None],
        share: int,
    ) -> None:
        """Accept nothing yet.

        Args:
            make_protocol: makes the HTTP protocol of a connection.
            close_idle: closes the HTTP connections that have been idle for longest.
            share: the fraction 1/share of the reserve of descriptors is not for these connections.
        """
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._first = partial(AcceptProtocol, make_protocol, close_idle, descriptors, share)
        self._servers: dict[socket.socket, asyncio.Server] = {}
        self._left: set[asyncio.Task[None]] = set()

    async def open(self, sock: socket.socket) -> None:
        """Accept the connections of a socket that listens."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._first, sock=sock, backlog=BACKLOG)
        self._servers[sock] = server
        # uvloop waits for a listener's connections only if wait_closed() is called before close().
        left = loop.create_task(server.wait_closed())
        self._left.add(left)
        left.add_done_callback(self._left.discard)
        await asyncio.sleep(0)

    def close(self, sock: socket.socket) -> None:
        """Accept no more connections of a socket, and close it."""
        self._servers.pop(sock).close()

    def close_all(self) -> None:
        """Close the sockets that are open."""
        for sock in list(self._servers):
            self.close(sock)

    async def drain(self, seconds: float) -> None:
        """Accept the connections in the backlogs for at most `seconds`, then close the sockets."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        for sock in list(self._servers):
            poll = select.poll()
            poll.register(sock.fileno(), select.POLLIN)
            while poll.poll(0) and loop.time() < end:  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(0)  # the loop accepts one connection in each tick
            self.close(sock)

    async def left(self) -> None:
        """Wait until the connections of all closed sockets have ended."""
        if self._left:
            await asyncio.wait(self._left)


def http_transports(servers: Iterable[web.Server]) -> list[asyncio.Transport]:
    """Return the open connections that belong to aiohttp, and not to a client of the hub."""
    connections = [it for server in servers for it in server.connections]
    return [it.transport for it in connections if it.transport is not None]


# --- Progress of a connection in the kernel -------------------------------------------------------


def progress(transport: Transport) -> tuple[int, bool]:
    """Return the bytes that the peer's TCP has acknowledged, and whether more are outstanding.

    On other systems than Linux the first number is an estimate, of which only the changes count.
    """
    buffered = transport.get_write_buffer_size()
    if sys.platform == "linux":
        sock = cast(asyncio.Transport, transport).get_extra_info("socket")
        if sock.fileno() >= 0:  # else the socket is closed
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            unacknowledged, acknowledged, unsent = _TCP_INFO.unpack(info)
            return acknowledged, bool(unacknowledged or unsent or buffered)
    return -buffered, bool(buffered)  # it grows as the transport's buffer shrinks


def discard(transport: Transport) -> None:
    """Make the kernel drop the unacknowledged bytes when the socket is closed, and send a RST."""
    sock = cast(asyncio.Transport, transport).get_extra_info("socket")
    if sock.fileno() >= 0:  # else the socket is closed
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
