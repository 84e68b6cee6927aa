"""The protocols of client connections: flow control, and the messages of a WebSocket."""

import asyncio
import logging
from collections.abc import Iterator
from typing import cast

from hub.access import Principal
from hub.delivery.client import Client, State, Transport
from hub.dispatcher import Dispatcher
from hub.errors import INTERNAL_ERROR
from hub.hub import Hub
from hub.protocol.websocket_frames import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    FrameReader,
    close_reply,
    pong_frame,
)

log = logging.getLogger(__name__)


class Link(asyncio.Protocol):
    """The asyncio protocol of any client. It passes every event of the connection to the hub."""

    __slots__ = ("_client", "_hub")

    _client: Client  # from connection_made on

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        # At (0, 0) pause_writing follows any write that the kernel does not take completely, and
        # resume_writing follows when the transport's buffer is empty.
        transport.set_write_buffer_limits(high=0, low=0)
        self._client = self._join(transport)

    def _join(self, transport: Transport) -> Client:
        """Return a new client for the connection."""
        raise NotImplementedError

    def eof_received(self) -> bool:
        # A client that closed only its sending side may still read its queued frames.
        self._hub.closed(self._client, b"")
        return True  # the hub closes the transport

    def pause_writing(self) -> None:
        self._client.pause_writing()

    def resume_writing(self) -> None:
        self._client.resume_writing()
        self._hub.recovery.resume(self._client)
        if self._client.state is not State.CONGESTED:
            self._hub.pacing.drained(self._client)

    def connection_lost(self, exc: Exception | None) -> None:
        self._hub.leave(self._client)


class Connection(Link):
    """The protocol of a WebSocket connection: it parses frames and handles them in slices.

    A slice is the number of frames handled in one turn of the event loop. While more frames have
    arrived than were handled, reading is paused. A client whose commands await the broker is held:
    its next slice follows when it is released.
    """

    __slots__ = ("_address", "_dispatcher", "_name", "_principal", "_queued", "_reader")

    def __init__(
        self,
        hub: Hub,
        dispatcher: Dispatcher,
        reader: FrameReader,
        name: str,
        principal: Principal,
        address: str,
    ) -> None:
        """`name` is the `client_id` of the connection, or empty; `address` is the client's."""
        super().__init__(hub)
        self._dispatcher = dispatcher
        self._reader = reader
        self._name = name
        self._principal = principal
        self._address = address
        self._queued = False  # whether slices are queued in the hub's turns

    def _join(self, transport: Transport) -> Client:
        return self._hub.join(
            transport, self._name, principal=self._principal, address=self._address
        )

    def data_received(self, data: bytes) -> None:
        client, reader = self._client, self._reader
        self._handle(reader.feed(data))
        if reader.more and client.commands.unread is None:
            client.commands.unread = self._read_on
            client.transport.pause_reading()
            if not client.commands.held:
                self._read_on()

    def _read_on(self) -> None:
        if not self._queued:
            self._queued = True
            self._hub.turns.queue(self._slices())

    def _slices(self) -> Iterator[None]:
        client, reader = self._client, self._reader
        while not client.commands.held and client.state is not State.GONE:
            self._handle(reader.read_on())
            if not reader.more:
                client.commands.unread = None
                if not client.commands.held:
                    client.transport.resume_reading()
                break
            yield
        self._queued = False

    def _handle(self, messages: list[tuple[int, bytearray]]) -> None:
        client, reader = self._client, self._reader
        liveness = client.liveness
        liveness.unfinished = reader.unfinished
        try:
            for opcode, payload in messages:
                liveness.heard = True
                if opcode == CLOSE:
                    self._hub.closed(client, close_reply(payload))
                    return
                if not client.open:  # the server has sent a Close: ignore all but the answer
                    continue
                if opcode == TEXT:
                    self._dispatcher.handle(client, payload)
                elif opcode == PING:
                    self._hub.fanout.send(client, pong_frame(payload))
                elif opcode == BINARY:
                    self._dispatcher.handle_binary(client)
            if reader.broken is not None and client.open:
                self._hub.fail(client, reader.broken)
        except Exception:  # a fault of the server: log it, and close this connection only
            log.exception("Closing a connection because of a fault in the server")
            if client.open:
                self._hub.fail(client, INTERNAL_ERROR)
