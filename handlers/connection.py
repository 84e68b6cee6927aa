"""One connection that is ours: flow control to its client, and of a WebSocket bytes to messages."""

import asyncio
import logging
from typing import cast

from hub.client import Client, Transport
from hub.commands import Commands
from hub.errors import INTERNAL_ERROR
from hub.frames import BINARY, CLOSE, PING, TEXT, FrameReader, close_reply, pong_frame
from hub.hub import Hub

log = logging.getLogger(__name__)


class Link(asyncio.Protocol):
    """What the event loop calls for any client: every decision is left to the hub."""

    __slots__ = ("_client", "_hub")

    _client: Client  # from connection_made on

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        # At (0, 0) the transport says at once when the kernel does not take all, and when it has.
        transport.set_write_buffer_limits(high=0, low=0)
        self._client = self._join(transport)

    def _join(self, transport: Transport) -> Client:
        """Take the connection in."""
        raise NotImplementedError

    def eof_received(self) -> bool:
        # A client that only shut its sending side may still read what is queued for it.
        self._hub.closed(self._client, b"")
        return True  # the hub closes the transport

    def pause_writing(self) -> None:
        self._client.pause_writing()

    def resume_writing(self) -> None:
        self._client.resume_writing()
        self._hub.recovery.resume(self._client)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hub.leave(self._client)


class Connection(Link):
    """A WebSocket's: it takes frames apart."""

    __slots__ = ("_commands", "_name", "_reader")

    def __init__(self, hub: Hub, commands: Commands, reader: FrameReader, name: str) -> None:
        """`name` is the client id given for the connection, or empty."""
        super().__init__(hub)
        self._commands = commands
        self._reader = reader
        self._name = name

    def _join(self, transport: Transport) -> Client:
        return self._hub.join(transport, self._name)

    def data_received(self, data: bytes) -> None:
        try:
            self._receive(data)
        except Exception:  # the loop's edge: a fault of ours costs this connection, and is told
            log.exception("Closing a connection because of a fault in the server")
            if self._client.open:
                self._hub.fail(self._client, INTERNAL_ERROR)

    def _receive(self, data: bytes) -> None:
        client = self._client
        for opcode, payload in self._reader.feed(data):
            client.heard = True
            if opcode == CLOSE:
                self._hub.closed(client, close_reply(payload))
                return
            if not client.open:  # only the answer to our Close is of interest now
                continue
            if opcode == TEXT:
                self._commands.handle(client, payload)
            elif opcode == PING:
                self._hub.fanout.send(client, pong_frame(payload))
            elif opcode == BINARY:
                self._commands.handle_binary(client)
        if self._reader.broken is not None and client.open:
            self._hub.fail(client, self._reader.broken)
