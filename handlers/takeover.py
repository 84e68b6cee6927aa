"""Taking a connection from aiohttp for good: all that is private of aiohttp is in here.

Why: a connection that stays aiohttp's keeps two tasks and a parser while it is silent; one that is
ours keeps none. Tried with aiohttp 3.14.5, which requirements.lock pins;
tests/handlers/test_takeover.py fails loudly where an upgrade breaks it.
"""

import asyncio
from typing import NoReturn

from aiohttp import web

# Unmasks in place, in C: `unmask(mask, data)` (RFC 6455 section 5.3).
from aiohttp._websocket.helpers import websocket_mask as unmask

__all__ = ["close_idle", "take_over", "unmask"]


def close_idle(server: web.Server) -> None:
    """Close the connections of a server on which no request has begun, or none is left."""
    for connection in server.connections:
        waiter = connection._waiter
        if waiter is not None and not waiter.done():
            connection.force_close()


def take_over(request: web.Request, response: bytes, protocol: asyncio.Protocol) -> NoReturn:
    """Begin to answer a request with `response` and make `protocol` the connection's owner.

    `protocol.connection_made` is called, then `data_received` with what has arrived behind the
    request, if anything. Nothing is called where the client has left meanwhile.

    Raises:
        CancelledError: always; it ends aiohttp's task for the request without another answer.
    """
    transport = request.transport
    if transport is None:
        raise asyncio.CancelledError
    was = request.protocol
    tail = was._message_tail
    transport.write(response)
    transport.set_protocol(protocol)
    # aiohttp lets go of its task, its parser and its entry in the server's connections; without a
    # transport it cannot close the socket on the way.
    was.transport = None
    was.connection_lost(None)
    protocol.connection_made(transport)
    transport.resume_reading()  # aiohttp pauses where much has arrived behind the request
    if tail:
        protocol.data_received(tail)
    raise asyncio.CancelledError
