"""Take over a connection from aiohttp. Only this module uses private names of aiohttp.

aiohttp keeps two tasks and a parser for each connection, also while it is idle. A connection with
a protocol of ours needs none of them. It works with aiohttp 3.14.5, which requirements.lock pins;
tests/handlers/test_takeover.py fails if an upgrade breaks it.
"""

import asyncio
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Final, NoReturn

from aiohttp import StreamReader, web

# `unmask(mask, data)` unmasks `data` in place, in C (RFC 6455 section 5.3).
from aiohttp._websocket.helpers import websocket_mask as unmask
from aiohttp.web_protocol import RequestHandler

# The protocol that has taken over the connection of a request.
TAKEN_OVER: Final = web.RequestKey("taken_over", asyncio.Protocol)

__all__ = [
    "TAKEN_OVER",
    "close_idle",
    "close_longest_idle",
    "http_protocol",
    "late_heads",
    "take_over",
    "unmask",
]


class _TimedHeads(RequestHandler):
    """aiohttp's protocol of a connection, which also knows since when a head has been arriving.

    Bytes that arrive while no body does, and that complete no head, are a part of one. A part that
    arrives in one read with the end of the request before it is noticed with the next part. Until
    then the connection counts as idle, for which it has aiohttp's keepalive_timeout.
    """

    __slots__ = ("_body", "head_since")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._body: StreamReader | None = None  # of the newest request
        self.head_since: float | None = self._loop.time()  # None while no head is arriving
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        in_body = self._body is not None and not self._body.is_eof()
        heads = self._request_count
        super().data_received(data)
        if self._request_count != heads:
            self.head_since = None
            self._body = self._messages[-1][1] if self._messages else None
        elif in_body or self._upgraded:
            self.head_since = None
        elif data and self.head_since is None:
            self.head_since = self._loop.time()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer malformed HTTP. aiohttp quotes it, in the log too, and it may have a token."""
        if message is None or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=status, text="The request is not valid HTTP")
        response.force_close()
        return response


def http_protocol(server: web.Server) -> asyncio.Protocol:
    """Return the protocol of a new HTTP connection of a server."""
    return _TimedHeads(server, loop=server._loop, **server._kwargs)


def late_heads(servers: Iterable[web.Server], since: float) -> list[asyncio.Transport]:
    """Return the connections on which the head of a request has been arriving since a time.

    Those with a request in progress are not among them.
    """
    return [
        it.transport
        for server in servers
        for it in _idle(server)
        if it.transport is not None and it.head_since is not None and it.head_since <= since
    ]


def close_idle(server: web.Server) -> None:
    """Close the connections of a server that have no request in progress."""
    for connection in _idle(server):
        connection.force_close()


def close_longest_idle(server: web.Server) -> None:
    """Close the eighth of the idle connections whose last request was the longest ago.

    One that has sent no request is idle since it connected. An eighth, so that a call for each new
    connection does not cost a scan of all connections each time.
    """
    idle = sorted(_idle(server), key=lambda it: it._next_keepalive_close_time)
    for connection in idle[: len(idle) // 8 + 1]:
        connection.force_close()


def _idle(server: web.Server) -> Iterator[_TimedHeads]:
    for connection in server.connections:
        assert isinstance(connection, _TimedHeads)
        waiter = connection._waiter
        if waiter is not None and not waiter.done():
            yield connection


def take_over(request: web.Request, response: bytes, protocol: asyncio.Protocol) -> NoReturn:
    """Write `response` to a request's connection and make `protocol` the connection's protocol.

    Call `protocol.connection_made`, then `data_received` with the bytes after the request, if any.
    Neither is called if the client has disconnected.

    Raises:
        CancelledError: always; it ends aiohttp's task for the request without another response.
    """
    transport = request.transport
    if transport is None:
        raise asyncio.CancelledError
    was = request.protocol
    tail = was._message_tail
    transport.write(response)
    transport.set_protocol(protocol)
    request[TAKEN_OVER] = protocol
    # This frees aiohttp's task, its parser and its entry in the server's connections. Without a
    # transport it cannot close the socket.
    was.transport = None
    was.connection_lost(None)
    transport.resume_reading()  # aiohttp has paused it if much has arrived after the request
    protocol.connection_made(transport)  # which may pause it again
    if tail:
        protocol.data_received(tail)
    raise asyncio.CancelledError
