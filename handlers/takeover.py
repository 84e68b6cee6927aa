"""Take over a connection from aiohttp. Only this module uses private names of aiohttp.

aiohttp keeps two tasks and a parser for each connection, also while it is idle. A connection with
a protocol of ours needs none of them. It works with aiohttp 3.14.5, which requirements.lock pins;
tests/handlers/test_takeover.py fails if an upgrade breaks it.
"""

import asyncio
from typing import NoReturn

from aiohttp import web

# `unmask(mask, data)` unmasks `data` in place, in C (RFC 6455 section 5.3).
from aiohttp._websocket.helpers import websocket_mask as unmask

__all__ = ["close_idle", "take_over", "unmask"]


def close_idle(server: web.Server) -> None:
    """Close the connections of a server that have no request in progress."""
    for connection in server.connections:
        waiter = connection._waiter
        if waiter is not None and not waiter.done():
            connection.force_close()


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
    # This frees aiohttp's task, its parser and its entry in the server's connections. Without a
    # transport it cannot close the socket.
    was.transport = None
    was.connection_lost(None)
    protocol.connection_made(transport)
    transport.resume_reading()  # aiohttp has paused it if much has arrived after the request
    if tail:
        protocol.data_received(tail)
    raise asyncio.CancelledError
